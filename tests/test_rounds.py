"""Rounds: again and again, never twice at once, and a stop in the middle of one is no error."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime, timedelta, tzinfo

import apscheduler.schedulers.base as schedulers
import apscheduler.triggers.interval as intervals
import pytest
import structlog

from responder import rounds as module
from responder.rounds import Rounds

SOON_S = 0.01


class Work:
    """A round that lasts until it is let go; says what became of it."""

    def __init__(self) -> None:
        self.begun = 0
        self.at_once = 0
        self.most = 0
        self.ended: list[str] = []
        self.entered = asyncio.Event()
        self.go = asyncio.Event()

    async def round(self) -> None:
        self.begun += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.entered.set()
        try:
            await self.go.wait()
            self.ended.append("done")
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # cleaning up takes a turn of the loop
            self.ended.append("cancelled")
            raise
        finally:
            self.at_once -= 1


async def test_a_stop_in_the_middle_of_a_round_is_quiet_and_waits_for_it(caplog: pytest.LogCaptureFixture) -> None:
    """As on SIGTERM: the store is closed next, so nothing may run any more; and nobody is shown a traceback."""
    caplog.set_level(logging.WARNING)
    work, rounds = Work(), Rounds()
    rounds.add(work.round, SOON_S)
    rounds.start()
    async with asyncio.timeout(20):
        await work.entered.wait()
    await rounds.stop()
    assert work.ended == ["cancelled"]
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []
    await rounds.stop()
    assert work.begun == 1


async def test_a_round_that_lasts_is_not_begun_a_second_time() -> None:
    """It is skipped instead, however many intervals pass."""
    work, rounds, beside = Work(), Rounds(), Work()
    rounds.add(work.round, SOON_S)
    beside.go.set()
    rounds.add(_Other(beside).round, SOON_S)
    rounds.start()
    async with asyncio.timeout(20):
        while beside.begun < 5:
            beside.entered.clear()
            await beside.entered.wait()
    assert (work.begun, work.most) == (1, 1)
    await rounds.stop()


async def test_a_round_that_fails_is_told_and_the_next_one_comes() -> None:
    """A bug in one round must not end all rounds; it is in the log, and counted by its name."""
    tries, failed, again = [], list[str](), asyncio.Event()

    async def fails() -> None:
        tries.append(1)
        if len(tries) > 1:
            again.set()
        raise RuntimeError("a bug")

    rounds = Rounds(failed.append)
    rounds.add(fails, SOON_S)
    with structlog.testing.capture_logs() as logs:
        rounds.start()
        async with asyncio.timeout(20):
            await again.wait()
        await rounds.stop()
    assert failed[0] == "fails"
    assert [entry["round"] for entry in logs if entry["event"] == "round.failed"] == failed


async def test_a_clock_set_back_stops_no_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an hour: the next round comes now, not in an hour."""
    behind = 0.0

    class Wall(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) - timedelta(seconds=behind)

    for part in (schedulers, intervals, module):
        monkeypatch.setattr(part, "datetime", Wall, raising=False)
    real = time.time
    monkeypatch.setattr(module, "CLOCK_EVERY_S", 0.01, raising=False)
    monkeypatch.setattr(time, "time", lambda: real() - behind)
    work, rounds = Work(), Rounds()
    work.go.set()
    rounds.add(work.round, SOON_S)
    rounds.start()
    async with asyncio.timeout(20):
        await work.entered.wait()
        behind = 3600.0
        for _ in range(3):
            await asyncio.sleep(0)
            work.entered.clear()
            await work.entered.wait()
    await rounds.stop()


class _Other:
    """The same work under another name."""

    def __init__(self, work: Work) -> None:
        self.work = work

    async def round(self) -> None:
        await self.work.round()
