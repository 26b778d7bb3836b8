"""What is begun on a server is ended: by us, by our next life, or by the guard - once, and only if it is ours."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from responder import guard
from responder.capture.step import DutyRefused
from responder.model import Obligation, Target
from responder.obligations import Obligations
from responder.store_db import StoreFull
from responder.store_sqlite import SqliteStore
from tests.profiled import Fake, fake_vllm, life, until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    with fake_vllm(tmp_path / "server") as server:
        yield server


@pytest.fixture
async def duties(tmp_path: Path) -> AsyncIterator[Obligations]:
    store = SqliteStore(tmp_path / "data")
    store.open()
    async with aiohttp.ClientSession() as http:
        made = Obligations(store, http, tmp_path / "data" / "obligations", keys=lambda: {"t": "sesame"})
        yield made
        for item in list(made.open.values()):
            await made.void(item.id, "the test is over")
        await made.stop()
    store.close()


def files(duties: Obligations) -> list[str]:
    return sorted(path.name for path in duties.folder.glob("*.json"))


async def owe(duties: Obligations, fake: Fake, *, safe: bool = True) -> Obligation:
    target = Target(name="t", url=fake.url)
    return await duties.owe(target, "torch_profiler", incident="i", within_s=60, repeat_safe=safe)


async def test_what_is_owed_is_on_disk_before_it_is_begun_and_gone_when_settled(
    duties: Obligations, fake: Fake
) -> None:
    """Row and file stand before `owe` returns; the stop carries the server's key; nothing is left behind."""
    item = await owe(duties, fake)
    assert [o.id for o in await duties.shelf.obligations()] == [item.id]
    assert files(duties) == [f"{item.id}.json"]
    assert "still outstanding" in duties.words("t")[0]
    settled = await duties.settle(item.id)
    assert (settled.state, settled.by, settled.note) == ("settled", "daemon", "stopped: HTTP 200")
    assert "stop Bearer sesame" in (fake.folder / "asked.txt").read_text()
    assert await duties.shelf.obligations() == []
    assert list(duties.folder.iterdir()) == []
    assert duties.words("t") == ()


async def test_a_server_owes_one_end_at_a_time(duties: Obligations, fake: Fake) -> None:
    """A second profile while the first one's end is outstanding is refused in words."""
    await owe(duties, fake)
    with pytest.raises(DutyRefused, match="outstanding"):
        await owe(duties, fake)


async def test_at_most_one_stop_is_in_flight(duties: Obligations, fake: Fake) -> None:
    """However many ask for it."""
    fake.order(stop_s=0.5)
    item = await owe(duties, fake)
    await asyncio.gather(*(duties.settle(item.id) for _ in range(5)))
    assert len(fake.asked("stop")) == 1


async def test_whoever_asked_for_the_end_may_go_away(duties: Obligations, fake: Fake) -> None:
    """A cancelled step leaves the stop running."""
    fake.order(stop_s=0.3)
    item = await owe(duties, fake)

    async def step() -> None:
        await asyncio.shield(duties.settle(item.id))

    task = asyncio.create_task(step())
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await duties.settle(item.id)).note == "stopped: HTTP 200"


async def test_a_restarted_server_owes_us_nothing(duties: Obligations, fake: Fake) -> None:
    """Its session went with it; what runs there now may be somebody else's."""
    item = await owe(duties, fake)
    duties.open[item.id] = item.model_copy(update={"born_at": 12345.0})
    settled = await duties.settle(item.id)
    assert "restarted" in settled.note
    assert fake.asked("stop") == []


async def test_a_second_stop_is_never_sent_to_a_version_that_crashes_on_it(duties: Obligations, fake: Fake) -> None:
    """vLLM before 0.32 dies of it: an unanswered first stop has to do."""
    item = await owe(duties, fake, safe=False)
    duties.open[item.id] = item.model_copy(update={"stop_sent_at": 1.0})
    settled = await duties.settle(item.id)
    assert "not sent twice" in settled.note
    assert fake.asked("stop") == []


def test_the_next_life_stops_it_first_of_all(tmp_path: Path, fake: Fake) -> None:
    """kill -9 in the middle of a profile; the stop is the first thing the next start does."""
    data = tmp_path / "data"
    first = life(data, fake, "begin")
    assert first.stdout is not None
    assert first.stdout.readline() == "begun 200\n"
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    for pid in guards(data):
        os.kill(pid, signal.SIGKILL)  # a container that is restarted takes the guard along
    again = life(data, fake, "settle")
    out, err = again.communicate(timeout=60)
    assert out == "settled\n", err
    assert len(fake.asked("stop")) == 1
    assert list((data / "obligations").iterdir()) == []


async def test_a_row_without_its_file_is_settled_too(duties: Obligations, fake: Fake) -> None:
    """Killed between the two, in the very first capture there was."""
    row = Obligation(id="1-a", target="t", url=fake.url, step="torch_profiler", opened_at=1.0, due_at=61.0,
                     repeat_safe=True)  # fmt: skip
    await duties.shelf.save_obligation(row)
    await duties.restore()
    settled = await duties.settle("1-a")
    assert settled.state == "settled"
    assert len(fake.asked("stop")) == 1


def test_the_guard_ends_it_when_the_daemon_never_comes_back(tmp_path: Path, fake: Fake) -> None:
    """The line is dead, and nobody there: one stop, a note for the next life, and the guard is gone."""
    data = tmp_path / "data"
    first = life(data, fake, "begin")
    assert first.stdout is not None
    assert first.stdout.readline() == "begun 200\n"
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    until(lambda: list((data / "obligations").glob("*.settled")), 40)
    assert len(fake.asked("stop")) == 1
    until(lambda: not guards(data), 10)
    again = life(data, fake, "settle")
    again.communicate(timeout=60)
    assert len(fake.asked("stop")) == 1, "what the guard has done is not done again"
    store = SqliteStore(data)
    store.open()
    told = asyncio.run(store.obligations(only_open=False))
    store.close()
    assert [(item.state, item.by) for item in told] == [("settled", "guard")]


def test_the_guard_ends_what_a_frozen_daemon_has_forgotten(tmp_path: Path, fake: Fake) -> None:
    """The daemon lives and does nothing: when it is due, it is ended all the same."""
    data = tmp_path / "data"
    first = life(data, fake, "begin", within_s=1.0)
    assert first.stdout is not None
    assert first.stdout.readline() == "begun 200\n"
    os.kill(first.pid, signal.SIGSTOP)
    until(lambda: list((data / "obligations").glob("*.settled")), 40)
    assert len(fake.asked("stop")) == 1
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()


def test_the_guard_goes_when_nothing_is_owed_any_more(tmp_path: Path, fake: Fake) -> None:
    """A settled obligation takes its guard along."""
    data = tmp_path / "data"
    first = life(data, fake, "begin")
    assert first.stdout is not None
    first.stdout.readline()
    assert len(guards(data)) == 1
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    life(data, fake, "settle").communicate(timeout=60)
    until(lambda: not guards(data), 10)
    assert len(fake.asked("stop")) == 1, "whoever came first: one stop"


def test_the_guard_stops_nothing_that_is_not_ours(tmp_path: Path, fake: Fake) -> None:
    """Another server under the same address, an unanswered stop that must not be repeated, a file that is gone."""
    item = Obligation(id="o", target="t", url=fake.url, step="s", opened_at=1.0, due_at=2.0, born_at=12345.0)
    path = tmp_path / "o.json"
    path.write_text(item.model_dump_json())
    assert guard.settle(str(path), None) == 0
    assert json.loads((tmp_path / "o.settled").read_text())["note"].startswith("the server had been restarted")
    path.write_text(item.model_copy(update={"born_at": None, "stop_sent_at": 1.5}).model_dump_json())
    assert guard.settle(str(path), None) == 3
    path.write_text(item.model_copy(update={"state": "settled"}).model_dump_json())
    assert guard.settle(str(path), None) == 0
    assert fake.asked("stop") == []


def guards(data: Path) -> list[int]:
    """Living guards of obligations in this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"guard.py" in line and str(data).encode() in line:
                found.append(int(entry.name))
    return found


async def test_what_could_not_be_written_down_is_owed_all_the_same(
    duties: Obligations, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the end is due: it is tried again, and sent when there is room."""
    monkeypatch.setattr("responder.obligations.AGAIN_S", 0.01, raising=False)
    item = await owe(duties, fake)
    whole, full = duties.shelf.save_obligation, iter((True,))

    async def save(changed: Obligation) -> None:
        if next(full, False):
            raise StoreFull("no room")
        await whole(changed)

    monkeypatch.setattr(duties.shelf, "save_obligation", save)
    assert (await duties.settle(item.id)).note == "stopped: HTTP 200"
    assert len(fake.asked("stop")) == 1


def test_the_guard_outlives_a_full_disk(tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes down that it stops before it does; where there is no room for that, it waits for some."""
    item = Obligation(id="o", target="t", url=fake.url, step="s", opened_at=1.0, due_at=2.0, repeat_safe=True)
    path = tmp_path / "o.json"
    path.write_text(item.model_dump_json())
    whole, full = guard.write, iter((True,))

    def write(*what: Any) -> None:
        if next(full, False):
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(*what)

    monkeypatch.setattr(guard, "write", write)
    monkeypatch.setattr(guard, "detach", lambda: None)
    monkeypatch.setattr(guard, "AGAIN_S", 0.01, raising=False)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"{}\n")))
    assert guard.main(str(path)) == 0
    assert len(fake.asked("stop")) == 1
