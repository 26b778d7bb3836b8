"""What is done again and again, and how does it stop? Rounds on the event loop; each waits for its last one to end.

The only importer of apscheduler. It cancels what runs when it is shut down and reports that as an error with a
traceback: here a round that is cancelled by a stop has simply ended, and `stop` returns when all have.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

log = structlog.get_logger()
CLOCK_EVERY_S = 1.0
STEP_S = 1.0
"""A smaller step of the clock makes a round no later than this."""


class Rounds:
    """Add what is to be done, then `start`. `failed`: told the name of a round that broke off; the next one comes."""

    def __init__(self, failed: Callable[[str], None] = lambda _: None) -> None:
        self._failed = failed
        self._scheduler = AsyncIOScheduler(
            job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None}
        )
        self._running: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self._clock: asyncio.Task[None] | None = None

    def add(self, work: Callable[..., Awaitable[Any]], seconds: float, args: Sequence[Any] = ()) -> None:
        """Do it every so many seconds, never twice at once."""
        round_ = functools.partial(self._round, work)
        name = getattr(work, "__qualname__", repr(work))
        self._scheduler.add_job(round_, "interval", list(args), seconds=seconds, id=name, name=name)

    def start(self) -> None:
        """The first round of each comes after its interval."""
        self._scheduler.start()
        self._clock = asyncio.create_task(self._mind_the_clock(), name="clock")

    async def stop(self) -> None:
        """No further round; those that run are cancelled and waited for. Idempotent."""
        self._stopping = True
        if self._clock is not None:
            self._clock.cancel()
        if self._scheduler.running:
            self._scheduler.pause()
            await asyncio.sleep(0)  # a round that was begun a moment ago enters `_round`, which knows why it is ended
            self._scheduler.shutdown(wait=False)
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _mind_the_clock(self) -> None:
        """The library goes by the clock on the wall: set back by an hour, it would begin no round for an hour."""
        ahead = time.time() - time.monotonic()
        while True:
            await asyncio.sleep(CLOCK_EVERY_S)
            before, ahead = ahead, time.time() - time.monotonic()
            if ahead < before - STEP_S:
                log.warning("clock.set_back", seconds=round(before - ahead))
                for job in self._scheduler.get_jobs():
                    job.modify(next_run_time=datetime.now(self._scheduler.timezone))

    async def _round(self, work: Callable[..., Awaitable[Any]], *args: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            await work(*args)
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        except Exception:  # whatever it was: it must not end the rounds to come, nor go unseen
            name = getattr(work, "__name__", repr(work))
            log.exception("round.failed", round=name)
            self._failed(name)
        finally:
            self._running.discard(task)
