"""Rounds: again and again, never twice at once, and a stop in the middle of one is no error."""

from __future__ import annotations

import asyncio
import logging

import pytest

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


async def test_a_round_that_fails_is_told_and_the_next_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    """A bug in one round must not end all rounds."""
    tries, again = [], asyncio.Event()

    async def fails() -> None:
        tries.append(1)
        if len(tries) > 1:
            again.set()
        raise RuntimeError("a bug")

    rounds = Rounds()
    rounds.add(fails, SOON_S)
    rounds.start()
    async with asyncio.timeout(20):
        await again.wait()
    await rounds.stop()
    assert any("raised an exception" in record.getMessage() for record in caplog.records)


class _Other:
    """The same work under another name."""

    def __init__(self, work: Work) -> None:
        self.work = work

    async def round(self) -> None:
        await self.work.round()
