"""NCCL's RAS: the recorded answer, silence of one rank and of all, and what the text says of missing ranks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from responder.capture import nccl_ras
from responder.capture.step import Fetched, NoParams
from responder.model import Inventory, Outcome, Scalar
from tests.doubles import BRIEF, scene

DATA = Path(__file__).parents[1] / "data" / "ras"
IDLE = (DATA / "idle.txt").read_bytes()
STOPPED = (DATA / "rank1_stopped.txt").read_bytes()
"""NCCL 2.28 on two H200s while rank 1 was stopped, as the other rank told it."""
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

MISMATCH = IDLE.replace(b"RUNNING      OK", b"RUNNING  MISMATCH").replace(
    b"Warnings\n========\n",
    b"Warnings\n========\n\n#0-0 (27a0) MISMATCH\n  Communicator ranks have different AllReduce operation counts\n"
    b"  1 rank has launched up to operation 64\n  Rank 1 has launched up to operation 60 -- GPU 1 managed by 993\n",
)


@asynccontextmanager
async def ras(*talks: Talk) -> AsyncIterator[str]:
    """A RAS service whose n-th connection is served by the n-th talk (the last one serves the rest)."""
    served = iter(range(10**6))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talks[min(next(served), len(talks) - 1)](reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"localhost:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


def says(text: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"timeout 2\n"
        assert await reader.readline() == b"verbose status\n"
        writer.write(text)
        await writer.drain()

    return talk


async def stopped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts and never answers, until the other side hangs up."""
    await reader.read()


async def ask(*talks: Talk) -> tuple[Fetched, dict[str, Scalar]]:
    async with ras(*talks) as where_ras:
        known = Inventory(at=0, local=True, environment={"NCCL_RAS_ADDR": where_ras})
        async with scene(inventory=known) as where:
            fetched = await nccl_ras.fetch(where, NoParams())
    return fetched, values(fetched)


def values(fetched: Fetched) -> dict[str, Scalar]:
    found = list(nccl_ras.read(fetched.files, BRIEF))
    assert {fact.name for fact in found} <= {spec.name for spec in nccl_ras.STEP.facts}
    return {fact.name.removeprefix("ras."): fact.value for fact in found}


async def test_healthy() -> None:
    """The recorded answer of a healthy server on two GPUs."""
    fetched, found = await ask(says(IDLE))
    assert fetched.outcome is Outcome.OK
    assert found.pop("seconds") is not None
    assert found == {
        "listening": True, "answered": True, "communicators": 1, "missing_ranks": 0, "mismatch": False,
        "first_diverging_rank": "", "summary": "RUNNING OK",
    }  # fmt: skip


async def test_one_stopped_rank_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """All ranks listen on one port; connections that reach the stopped one hang, another brings the answer."""
    monkeypatch.setattr(nccl_ras, "OTHERS_S", 0.05)
    fetched, found = await ask(stopped, stopped, says(STOPPED), stopped)
    assert fetched.outcome is Outcome.OK
    assert (found["answered"], found["missing_ranks"], found["mismatch"]) == (True, 1, False)
    assert found["first_diverging_rank"] == "Rank 1 -- GPU 1 managed by process 585 on node 192.0.2.2"
    assert found["summary"] == (
        "RUNNING INCOMPLETE; missing: Process 585 on node 192.0.2.2 managing GPU 1; "
        "Rank 1 -- GPU 1 managed by process 585 on node 192.0.2.2"
    )
    assert json.loads(fetched.files[nccl_ras.META])["answered"] == 1


async def test_all_answers_are_counted() -> None:
    """A healthy server answers every connection."""
    fetched, _ = await ask(says(IDLE))
    meta = json.loads(fetched.files[nccl_ras.META])
    assert meta["answered"] == meta["asked"] == nccl_ras.CONNECTIONS


async def test_silence_is_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connected and no answer: listening yes, answered no, as recorded with a stopped rank."""
    monkeypatch.setattr(nccl_ras, "DEADLINE_S", 0.1)
    fetched, found = await ask(stopped)
    assert fetched.outcome is Outcome.PARTIAL
    assert (found["listening"], found["answered"]) == (True, False)
    assert "communicators" not in found


@pytest.mark.parametrize(
    ("again", "mismatch", "named"),
    [
        (MISMATCH, True, "Rank 1 -- GPU 1 managed by 993: 4 collectives behind the others"),
        (MISMATCH.replace(b"operation 64", b"operation 70"), True, "Rank 1 -- GPU 1 managed by 993: 10 collectives "
         "behind the others"),
        (MISMATCH.replace(b"operation 6", b"operation 16"), False, ""),
        (IDLE, False, ""),
    ],
)  # fmt: skip
async def test_ranks_out_of_step_are_looked_at_twice(
    monkeypatch: pytest.MonkeyPatch, again: bytes, mismatch: bool, named: str
) -> None:
    """A rank is named when its count stands still; a busy healthy server's ranks differ for moments and go on."""
    monkeypatch.setattr(nccl_ras, "LOOK_AGAIN_S", 0.01)
    fetched, found = await ask(*[says(MISMATCH)] * nccl_ras.CONNECTIONS, says(again))
    assert fetched.outcome is Outcome.OK
    assert found["mismatch"] is mismatch
    assert found["missing_ranks"] == 0
    assert found["first_diverging_rank"] == named


async def test_one_look_accuses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look was not answered: unknown, not yes."""
    monkeypatch.setattr(nccl_ras, "LOOK_AGAIN_S", 0.01)
    monkeypatch.setattr(nccl_ras, "DEADLINE_S", 0.3)
    fetched, found = await ask(*[says(MISMATCH)] * nccl_ras.CONNECTIONS, stopped)
    assert fetched.outcome is Outcome.PARTIAL
    assert found["mismatch"] is None
    assert found["first_diverging_rank"] is None


def test_ranks_listed_below_their_count() -> None:
    """The wording of larger jobs: how many ranks are where, and the names of the fewer ones."""
    text = (
        "#1-0 (27a079b828ff1a75) MISMATCH\n  Communicator ranks have different AllReduce operation counts\n"
        "  26 ranks have launched up to operation 6650\n  2 ranks have launched up to operation 6649\n"
        "  Rank 0 -- GPU 0 managed by process 7 on node n\n  Rank 2 -- GPU 2 managed by process 9 on node n\n"
    )
    (ranks,) = nccl_ras.counts(text).values()
    assert ranks == {
        "26 ranks": 6650, "Rank 0 -- GPU 0 managed by process 7 on node n": 6649,
        "Rank 2 -- GPU 2 managed by process 9 on node n": 6649,
    }  # fmt: skip


async def test_dead_process_without_a_row() -> None:
    """A process declared dead counts as a missing rank."""
    text = IDLE.replace(
        b"Errors\n======\n",
        b"Errors\n======\n\nDEAD\n  1 job process is considered dead (unreachable via the RAS network)\n",
    )
    _, found = await ask(says(text))
    assert found["missing_ranks"] == 1


async def test_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sits on that port cannot fill our memory."""
    monkeypatch.setattr(nccl_ras, "DEADLINE_S", 1.0)

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(bytes(1 << 16))
            await writer.drain()

    fetched, found = await ask(flood)
    assert len(fetched.files.get(nccl_ras.STATUS, b"")) < 2 * nccl_ras.MAX_BYTES
    assert "communicators" not in found


async def test_nobody_listens() -> None:
    """No GPU, one GPU or old NCCL: skipped with what is missing, and known not to listen."""
    known = Inventory(at=0, local=True, environment={"NCCL_RAS_ADDR": "127.0.0.1:1"})
    async with scene(inventory=known) as where:
        fetched = await nccl_ras.fetch(where, NoParams())
    assert fetched.outcome is Outcome.SKIPPED
    assert "127.0.0.1:1" in fetched.reason
    assert "more than one GPU" in fetched.reason
    assert values(fetched) == {"listening": False}


@pytest.mark.parametrize(
    "known", [None, Inventory(at=0, local=False), Inventory(at=0, local=True, environment={"NCCL_RAS_ENABLE": "0"})]
)
async def test_skipped(known: Inventory | None) -> None:
    """Another host, or switched off: not asked."""
    async with scene(inventory=known) as where:
        fetched = await nccl_ras.fetch(where, NoParams())
    assert fetched.outcome is Outcome.SKIPPED
    assert not fetched.files


def test_address() -> None:
    """The forms NCCL_RAS_ADDR may have."""
    assert nccl_ras.address("localhost:28028") == ("localhost", 28028)
    assert nccl_ras.address("[::1]:5") == ("::1", 5)
    assert nccl_ras.address(":7") == ("localhost", 7)


def test_unknown_text_gives_no_made_up_facts() -> None:
    """A future wording: answered, and the rest unknown."""
    meta = json.dumps({"listening": True, "answered": 1, "asked": 4, "seconds": 0.1, "address": "", "error": ""})
    found = values(Fetched({nccl_ras.META: meta.encode(), nccl_ras.STATUS: b"All is well. Warnings: none"}))
    assert found == {"listening": True, "answered": True, "seconds": 0.1}
