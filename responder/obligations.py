"""What do we still owe which server, and is it being settled? The end of everything we begin is written down first.

Order of things: the row is committed, the file is synced, the guard (`guard.py`) runs - only then may a step begin what
must be ended. At start-up every open obligation is settled before anything else is done. At most one stop is in flight
per target, also between daemon and guard: a lock beside the file says who is at it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

import aiohttp
import structlog

from responder.ask import get
from responder.capture.step import DutyRefused
from responder.folder import write_atomic
from responder.killpoint import reach
from responder.model import Obligation, Target

log = structlog.get_logger()
STOP_TIMEOUT_S = 1800.0
"""vLLM answers a stop when the trace is written: minutes have been seen. Asking twice instead is what crashes it."""
REFUSED_FOR_S = 60.0
OTHERS_GRACE_S = 15.0
"""How long after it is due another host's guard is left to end what it watches over."""
TRY_EVERY_S = 1.0
AGAIN_S = 5.0
"""When we could not write down what we are about to do."""
DONE_KEPT = 1000
"""Settled ones that are remembered, so that a second settling finds them."""
START_TIME = re.compile(rb"^process_start_time_seconds ([0-9.e+]+)", re.MULTILINE)
GUARD = Path(__file__).with_name("guard.py")
GUARD_START_S = 10.0
_NONE = aiohttp.ClientTimeout(total=None)


class Shelf(Protocol):
    """Where obligations are committed (`store.Store`)."""

    async def save_obligation(self, item: Obligation) -> None:
        """On disk when it returns."""

    async def obligations(self, *, only_open: bool = True) -> list[Obligation]:
        """Oldest first."""


class Obligations:
    """Everything owed. `keys()` gives target -> API key; `count` is told how many are open."""

    def __init__(
        self, shelf: Shelf, http: aiohttp.ClientSession, folder: Path, clock: Callable[[], float] = time.time, *,
        keys: Callable[[], Mapping[str, str]] = dict, count: Callable[[float], None] = lambda _: None, place: str = "",
    ) -> None:  # fmt: skip
        self.shelf, self.http, self.folder, self.clock = shelf, http, folder, clock
        self.keys, self.count, self.place = keys, count, place
        self.open: dict[str, Obligation] = {}
        self.done: dict[str, Obligation] = {}
        """Settled in this life."""
        self._tasks: dict[str, asyncio.Task[Obligation]] = {}
        self._lines: dict[str, int] = {}
        """Our end of each guard's line; the kernel cuts it when we die."""

    async def restore(self) -> None:
        """First of all at a start: begin to settle what an earlier life of ours left open."""
        self.folder.mkdir(parents=True, exist_ok=True)  # killed after the row and before the file, there may be none
        for item in await self.shelf.obligations():
            if item.place not in ("", self.place):
                continue  # its guard is on another host; `take_over` if that does not do its duty
            self.open[item.id] = item
            log.warning("obligation.found_open", id=item.id, target=item.target, step=item.step)
            self.settle(item.id)
        self.count(len(self.open))
        if self._tasks:  # let the stops leave before we do anything else; their answers may take minutes
            await asyncio.wait(self._tasks.values(), timeout=TRY_EVERY_S)

    async def take_over(self, targets: Collection[str]) -> None:
        """Servers that are ours from now on: what others have begun there and their guards do not end, we end."""
        for item in await self.shelf.obligations():
            if item.target in targets and item.id not in self.open and item.id not in self._tasks:
                self._tasks[item.id] = asyncio.create_task(self._overdue(item), name=f"overdue {item.id}")

    async def _overdue(self, item: Obligation) -> Obligation:
        await asyncio.sleep(max(0.0, item.due_at + OTHERS_GRACE_S - self.clock()))
        still = {one.id: one for one in await self.shelf.obligations()}
        if item.id not in still:
            self._tasks.pop(item.id, None)
            return item
        log.warning("obligation.overdue", id=item.id, target=item.target, step=item.step, place=item.place)
        self.open[item.id] = still[item.id]
        return await self._settle(item.id)

    async def owe(self, target: Target, step: str, *, incident: str, within_s: float, repeat_safe: bool) -> Obligation:
        """Write down that we owe `target` an end within so many seconds. DutyRefused when it is owed one already."""
        born = await self._born(target.url, target.name)
        if any(item.target == target.name for item in self.open.values()):
            raise DutyRefused("the end of an earlier profile of this server is still outstanding")
        if self.place and any(i.target == target.name for i in await self.shelf.obligations()):
            raise DutyRefused("the end of an earlier profile of this server is still outstanding elsewhere")
        now = self.clock()
        item = Obligation(
            id=f"{int(now)}-{uuid.uuid4().hex[:8]}", target=target.name, url=target.url, step=step, incident=incident,
            opened_at=now, due_at=now + within_s, born_at=born, repeat_safe=repeat_safe, place=self.place,
        )  # fmt: skip
        self.open[item.id] = item
        try:
            reach("obligation.before")
            await self.shelf.save_obligation(item)
            reach("obligation.written")
            await asyncio.to_thread(write_atomic, self._path(item.id), item.model_dump_json().encode())
            await self._post_guard(item)
        except BaseException:
            await asyncio.shield(self._close(item, "nothing was begun: the obligation could not be put in force"))
            raise
        self.count(len(self.open))
        log.info("obligation.open", id=item.id, target=item.target, step=step)
        return item

    async def void(self, obligation: str, why: str) -> None:
        """Nothing was begun after all."""
        await self._close(self.open[obligation], why)

    def settle(self, obligation: str) -> asyncio.Task[Obligation]:
        """End what was begun, in a task of its own: whoever asked may go away meanwhile. Asking again joins it."""
        if obligation not in self._tasks:
            self._tasks[obligation] = asyncio.create_task(self._settle(obligation), name=f"settle {obligation}")
        return self._tasks[obligation]

    def words(self, target: str) -> tuple[str, ...]:
        """What is owed to this server, for reports."""
        return tuple(
            f"the end of {item.step}, begun {self.clock() - item.opened_at:.0f} s ago, is still outstanding"
            + ("; the stop was sent and has not been answered" if item.stop_sent_at else "")
            for item in self.open.values() if item.target == target
        )  # fmt: skip

    async def stop(self, patience_s: float = 3.0) -> None:
        """Give stops in flight a moment. What stays open is the guards' and the next start's."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=patience_s)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for line in self._lines.values():
            os.close(line)
        self._lines.clear()

    # ------------------------------------------------------------------------------------------------ settling

    async def _settle(self, obligation: str) -> Obligation:
        try:
            while True:
                try:
                    return await self._until_settled(obligation)
                except KeyError:  # nothing of this name is owed
                    raise
                except Exception as error:  # a full disk, a database that is away: what is owed stays owed
                    log.error("obligation.unsettled", id=obligation, reason=f"{type(error).__name__}: {error}"[:200])
                await asyncio.sleep(AGAIN_S)
        finally:
            self._tasks.pop(obligation, None)

    async def _until_settled(self, obligation: str) -> Obligation:
        if obligation in self.done:
            return self.done[obligation]
        lock = os.open(self._path(obligation).with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            while True:
                told = await asyncio.to_thread(_settled_by_guard, self._path(obligation))
                if told is not None:
                    return await self._close(self.open[obligation], told.note, told)
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                await asyncio.sleep(TRY_EVERY_S / 4)  # the guard is at it
            return await self._stop(self.open[obligation])
        finally:
            os.close(lock)

    async def _stop(self, item: Obligation) -> Obligation:
        born = await self._born(item.url, item.target) if item.born_at is not None else None
        if born is not None and item.born_at is not None and abs(born - item.born_at) > 2.0:
            return await self._close(item, "the server had been restarted: nothing was left to stop")
        if item.stop_sent_at is not None and not item.repeat_safe:
            return await self._close(
                item, "the stop was sent and its answer lost; not sent twice: vLLM before 0.32 crashes on that"
            )
        item = await self._change(item, stop_sent_at=self.clock())
        refused_since = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    async with self.http.post(
                        f"{item.url}/stop_profile", headers=self._headers(item.target), timeout=_NONE,
                        allow_redirects=False,
                    ) as answer:  # fmt: skip
                        await answer.read()
                return await self._close(item, f"stopped: HTTP {answer.status}")
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                why = f"{type(error).__name__}: {error}"[:200]
                refused = isinstance(error, aiohttp.ClientConnectorError)
                if time.monotonic() - refused_since > REFUSED_FOR_S or not (refused or item.repeat_safe):
                    return await self._close(item, f"no answer to the stop, the server is most likely gone ({why})")
            await asyncio.sleep(TRY_EVERY_S)

    async def _born(self, url: str, target: str) -> float | None:
        answer = await get(self.http, f"{url}/metrics", timeout=2.0, max_bytes=8 << 20, headers=self._headers(target))
        found = START_TIME.search(answer.body)
        return float(found[1]) if found else None

    def _headers(self, target: str) -> dict[str, str]:
        key = self.keys().get(target)
        return {"Authorization": f"Bearer {key}"} if key else {}

    # --------------------------------------------------------------------------------------- row, file, guard

    async def _change(self, item: Obligation, **update: object) -> Obligation:
        """The guard must know what we did, and so must our next life: file first, both before we do it."""
        item = item.model_copy(update=update)
        await asyncio.to_thread(write_atomic, self._path(item.id), item.model_dump_json().encode())
        await self.shelf.save_obligation(item)
        self.open[item.id] = item
        return item

    async def _close(self, item: Obligation, note: str, told: Obligation | None = None) -> Obligation:
        item = told or item.model_copy(
            update={"state": "settled", "settled_at": self.clock(), "by": "daemon", "note": note}
        )
        await self.shelf.save_obligation(item)
        reach("obligation.settled")
        self.open.pop(item.id, None)
        self.done[item.id] = item
        for old in list(self.done)[:-DONE_KEPT]:
            del self.done[old]
        for suffix in (".json", ".settled", ".lock"):
            self._path(item.id).with_suffix(suffix).unlink(missing_ok=True)
        line = self._lines.pop(item.id, None)
        if line is not None:
            os.close(line)
        self.count(len(self.open))
        log.info("obligation.settled", id=item.id, target=item.target, by=item.by, note=item.note)
        return item

    def _path(self, obligation: str) -> Path:
        return self.folder / f"{obligation}.json"

    async def _post_guard(self, item: Obligation) -> None:
        """Start the guard and see that it has detached: from then on this profile ends, whatever becomes of us."""
        theirs, ours = os.pipe()
        try:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(GUARD), str(self._path(item.id).resolve()),
                stdin=theirs, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}, start_new_session=True,
            )  # fmt: skip
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._lines[item.id] = ours
        os.write(ours, json.dumps({"key": self.keys().get(item.target)}).encode() + b"\n")
        async with asyncio.timeout(GUARD_START_S):
            code = await child.wait()
        if code != 0:
            raise DutyRefused(f"the guard did not start (exit {code})")


def _settled_by_guard(path: Path) -> Obligation | None:
    try:
        return Obligation.model_validate_json(path.with_suffix(".settled").read_bytes())
    except (OSError, ValueError):
        return None
