"""Who still has to be told? A queue per receiver on disk: in order, retried, never waiting for another receiver."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import aiohttp
import structlog

from responder.folder import folder_of
from responder.killpoint import reach
from responder.model import Button, Delivery
from responder.notify.notifier import LONGEST_WAIT_S, Message, Notifier
from responder.shares import LeaseLost
from responder.store import Store

log = structlog.get_logger()
FIRST_RETRY_S = 2.0
MAX_RETRY_S = 900.0
GIVE_UP_S = 75 * 3600.0
"""A receiver that is dead over a long weekend still gets its messages."""
LEAST_ATTEMPTS = 10
"""Before anything is given up: after a long outage of ours, or a clock set forward, the first failure is no proof."""
IN_DOUBT = "ambiguous: the responder ended while it was sent"
SEND_TIMEOUT_S = 60.0


def backoff_s(attempts: int, jitter: float) -> float:
    """Seconds to wait after this many failed attempts; jitter 0..1 spreads receivers that fail together."""
    return float(min(FIRST_RETRY_S * 2 ** min(attempts - 1, 20), MAX_RETRY_S) * (0.75 + 0.5 * jitter))


class Outbox:
    """Delivers what `add` queued. `on_result(receiver, outcome, reason)` feeds our own metrics."""

    def __init__(
        self,
        store: Store,
        http: aiohttp.ClientSession,
        notifiers: Mapping[str, Notifier],
        data_dir: Any,
        clock: Callable[[], float],
        on_result: Callable[[str, str, str], None] = lambda *_: None,
        may_tell: Callable[[str], bool] = lambda _: True,
        fetch: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self.store = store
        self.http = http
        self.notifiers = dict(notifiers)
        self.data_dir = data_dir
        self.clock = clock
        self.on_result = on_result
        self.may_tell = may_tell
        """Whether an incident is still ours to tell of, when there are other replicas."""
        self.fetch = fetch
        """Brings an incident's folder here that another replica has written."""
        self._rests_until: dict[str, float] = {}
        """Receivers that have asked to be left alone, until when."""
        self._wake: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Start one task per receiver; call again after `notifiers` changed."""
        self.wake()
        for name in self.notifiers:
            if name not in self._tasks or self._tasks[name].done():
                self._wake.setdefault(name, asyncio.Event())
                self._tasks[name] = asyncio.create_task(self._serve(name), name=f"outbox {name}")

    async def stop(self) -> None:
        """Stop sending; what is not delivered stays queued."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    async def add(self, incident: str, revision: int, stage: Any, to: Collection[str] | None = None) -> None:
        """Queue this revision for these receivers (all, when left out). Its message lies in the incident folder."""
        await self.store.add_deliveries(self.deliveries(incident, revision, stage, to))
        self.wake()

    def deliveries(
        self, incident: str, revision: int, stage: Any, to: Collection[str] | None = None
    ) -> list[Delivery]:  # fmt: skip
        """This revision's message for these receivers (all, when left out), to be committed with what it tells."""
        return [
            Delivery(id=f"{incident}.{revision}.{name}", incident=incident, revision=revision, receiver=name,
                     stage=stage, queued_at=self.clock())
            for name in self.notifiers
            if to is None or name in to
        ]  # fmt: skip

    def wake(self) -> None:
        """Something new is queued, or the receivers are others."""
        for event in self._wake.values():
            event.set()

    async def bury(self) -> None:
        """End what waits for a receiver that has been taken out of the configuration, once nobody waits for it."""
        for item in await self.store.deliveries(state="pending"):
            if item.receiver not in self.notifiers and self.clock() - item.queued_at > GIVE_UP_S:
                await self._end(item, "dead", "its receiver is no longer configured")

    async def _serve(self, name: str) -> None:
        while name in self.notifiers:
            wait = 30.0
            self._wake[name].clear()  # before the round: what is queued during it must not be slept over
            try:
                wait = await self._round(name)
            except LeaseLost as lost:
                log.info("outbox.handed_over", receiver=name, reason=str(lost))
                wait = 1.0
            except Exception:  # a full disk or a bug in one notifier must not end this receiver's queue
                log.exception("outbox.failed", receiver=name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake[name].wait()

    async def _round(self, name: str) -> float:
        """Send what is due, in order per incident; returns seconds until something is due again."""
        rest = self._left(self._rests_until.get(name, 0.0))
        if rest > 0:
            return rest
        self._rests_until.pop(name, None)
        soonest = 30.0
        blocked: set[str] = set()
        pending = await self.store.deliveries(receiver=name, state="pending")
        newest = {d.incident: d.revision for d in pending}
        again_at = float("inf")
        for item in pending:
            if self.clock() >= again_at:
                break  # what failed in this round is due again: it must not wait for all the others
            if item.incident in blocked:
                continue
            if item.stage == "update" and newest[item.incident] > item.revision:
                # A newer revision says everything this one says: telling people twice late helps nobody.
                await self.store.save_delivery(item.model_copy(update={"state": "superseded"}))
                continue
            wait = self._left(item.next_at)
            if wait <= 0 and not self.may_tell(item.incident):
                wait = 1.0
            if wait <= 0:
                done = await self._send(self.notifiers[name], item)
                wait = 0.0 if done is None else done
                again_at = min(again_at, self.clock() + wait) if wait else again_at
            if wait > 0:
                blocked.add(item.incident)
                soonest = min(soonest, wait)
            if name in self._rests_until:
                return max(self._rests_until[name] - self.clock(), 0.05)
        return max(min(soonest, again_at - self.clock()), 0.05)

    def _left(self, until: float) -> float:
        """Seconds until then; none where it is further away than anything is ever put off: the clock was set back."""
        left = until - self.clock()
        return left if left <= LONGEST_WAIT_S else 0.0

    async def _send(self, notifier: Notifier, item: Delivery) -> float | None:
        """One attempt. None when this delivery has ended, else seconds until the next attempt."""
        try:
            message = await self._message(item)
        except OSError as error:  # no file left to open, a disk that fails: it may be there the next time
            doubt = "ambiguous: " if item.error.startswith("ambiguous") else ""
            return await self._later(notifier, item, f"{doubt}its report cannot be read: {error}", None, "")
        if message is None:
            await self._end(item, "dead", "its report is no longer there")
            return None
        # In doubt on disk before it leaves: if we end now, the next attempt looks whether this one has arrived.
        await self.store.save_delivery(item.model_copy(update={"error": IN_DOUBT}))
        reach("outbox.sending")
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                sent = await notifier.send(self.http, message)
        except TimeoutError:
            outcome, reason, after, receipt = "ambiguous", f"no answer in {SEND_TIMEOUT_S:.0f} s", None, ""
        except Exception as error:  # a notifier meets the outside; its failure is an attempt, not our end
            outcome, reason, after, receipt = "retry", f"{type(error).__name__}: {error}"[:300], None, ""
        else:
            outcome, reason, after, receipt = sent.outcome, sent.reason, sent.retry_after_s, sent.receipt
        reach("outbox.sent")
        self.on_result(item.receiver, outcome, reason)
        item = item.model_copy(update={"doubtful": item.doubtful or message.possible_duplicate})
        if outcome == "delivered":
            await self._end(item, "delivered", "", receipt)
            return None
        if outcome == "dead":
            await self._give_up(notifier, item, reason)
            return None
        return await self._later(notifier, item, f"{outcome}: {reason}", after, receipt)

    async def _give_up(self, notifier: Notifier, item: Delivery, reason: str) -> None:
        await self._end(item, "dead", reason)
        await self._fall_back(notifier, item, for_good=True)

    async def _later(
        self, notifier: Notifier, item: Delivery, reason: str, after: float | None, receipt: str
    ) -> float | None:
        """An attempt has failed: seconds until the next one; None when it is given up."""
        old = item.queued_at and self.clock() - item.queued_at > GIVE_UP_S
        if old and item.attempts + 1 >= LEAST_ATTEMPTS:
            await self._give_up(notifier, item, reason)
            return None
        wait = max(after or 0.0, backoff_s(item.attempts + 1, random.random()))  # noqa: S311
        log.warning("delivery.retry", delivery=item.id, reason=reason, wait_s=round(wait, 1))
        update = {"attempts": item.attempts + 1, "next_at": self.clock() + wait, "error": reason}
        await self.store.save_delivery(item.model_copy(update=update), receipt)
        await self._fall_back(notifier, item, for_good=False)
        if after is not None:  # it says itself when it wants to hear of us again: everything waits, in order
            self._rests_until[item.receiver] = self.clock() + wait
        return wait

    async def _fall_back(self, notifier: Notifier, item: Delivery, *, for_good: bool) -> None:
        """Tell another receiver what this one does not take; once, and not what it is told anyway."""
        settings = getattr(notifier, "settings", None)
        other, patience = getattr(settings, "fallback", ""), getattr(settings, "fallback_after", 0)
        if other not in self.notifiers or other == item.receiver:
            return
        if not for_good and item.attempts + 1 < patience:
            return
        instead = Delivery(id=f"{item.incident}.{item.revision}.{other}", incident=item.incident,
                           revision=item.revision, receiver=other, stage=item.stage,
                           queued_at=self.clock())  # fmt: skip
        await self.store.add_deliveries([instead])
        log.error("delivery.fallback", delivery=item.id, instead=other)
        if other in self._wake:
            self._wake[other].set()

    async def _end(self, item: Delivery, state: str, error: str, receipt: str = "") -> None:
        event = log.info if state == "delivered" else log.error
        event(f"delivery.{state}", delivery=item.id, incident=item.incident, reason=error)
        update = {"state": state, "attempts": item.attempts + 1, "error": error}
        await self.store.save_delivery(item.model_copy(update=update), receipt)
        reach("outbox.acked")

    async def _message(self, item: Delivery) -> Message | None:
        folder = folder_of(self.data_dir, item.incident)
        receipt = await self.store.receipt(item.incident, item.receiver)
        language = getattr(getattr(self.notifiers[item.receiver], "settings", None), "language", "")
        for last in (self.fetch is None, True):
            try:
                return await asyncio.to_thread(read_message, folder.path, item, receipt, language)
            except (FileNotFoundError, NotADirectoryError, ValueError, KeyError):
                if last:
                    return None
            if self.fetch is not None:
                await self.fetch(item.incident)
        return None


def read_message(folder: Any, item: Delivery, receipt: str, language: str = "") -> Message:
    """The message of a delivery from the incident folder, in this language if it was written in it.

    OSError when the folder has gone.
    """
    base = folder / "revisions" / str(item.revision)
    end = f".{language}" if language and (base / f"report.{language}.json").is_file() else ""
    charts = sorted(str(p) for p in (folder / "charts").glob("*.png")) if item.stage in ("final", "resolved") else []
    return Message(
        delivery_id=item.id,
        incident=item.incident,
        revision=item.revision,
        stage=item.stage,
        body=(base / f"report{end}.json").read_bytes(),
        text=(base / f"summary{end}.txt").read_text(),
        markdown=(base / f"report{end}.md").read_text(),
        charts=tuple(charts),
        receipt=receipt,
        possible_duplicate=item.error.startswith("ambiguous"),
        buttons=_buttons(base / "buttons.json"),
    )


def _buttons(path: Any) -> tuple[Button, ...]:
    """What can be pressed in the message; reports written before there were buttons have none."""
    if not path.is_file():
        return ()
    return tuple(Button.model_validate(row) for row in json.loads(path.read_bytes()))
