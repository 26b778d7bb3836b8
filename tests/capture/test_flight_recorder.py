"""Is the rank that left the others named from real dumps, and is a hostile dump never run?"""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from responder.capture import flight_recorder
from responder.capture.step import Fetched, NoParams
from responder.model import Inventory, Outcome
from responder.plainpickle import NotPlain, read_plain
from responder.runner import LocalRunner
from tests.doubles import BRIEF, scene

DATA = Path(__file__).parents[1] / "data" / "flight_recorder"
DUMPS = [(DATA / f"gloo_missing_rank{rank}.dump").read_bytes() for rank in (0, 1)]
"""torch 2.13, two gloo ranks: rank 1 never came to the third all-reduce."""


async def fetch(folder: Path | None) -> Fetched:
    environment = {"TORCH_FR_DUMP_TEMP_FILE": f"{folder}/fr_"} if folder else {}
    known = Inventory(at=0, local=True, environment=environment)
    async with scene(inventory=known, runner=LocalRunner()) as where:  # type: ignore[arg-type]
        return await flight_recorder.fetch(where, NoParams())


async def test_the_rank_behind_is_named(tmp_path: Path) -> None:
    """Rank 0 has enqueued three collectives, rank 1 two."""
    for rank, raw in enumerate(DUMPS):
        (tmp_path / f"fr_{rank}").write_bytes(raw)
    fetched = await fetch(tmp_path)
    assert fetched.outcome is Outcome.OK
    found = {fact.name.removeprefix("flight_recorder."): fact for fact in flight_recorder.read(fetched.files, BRIEF)}
    assert found["ranks"].value == 2
    assert found["first_diverging_rank"].value == "rank 1"
    assert found["first_diverging_rank"].says == "rank 1: group 0, collective 2 of 3"
    assert found["mismatch"].value is False


def test_ranks_that_disagree_about_a_collective() -> None:
    """The same number, another operation: the minority is named."""
    told = [read_plain(DUMPS[0]), read_plain(DUMPS[0]), read_plain(DUMPS[0])]
    told[2]["entries"][1]["profiling_name"] = "gloo:broadcast"
    files = {f"rank{rank}.dump": pickle.dumps(one, 2) for rank, one in enumerate(told)}
    files[flight_recorder.META] = b'{"ranks": [0, 1, 2]}'
    found = {fact.name: fact for fact in flight_recorder.read(files, BRIEF)}
    assert found["flight_recorder.mismatch"].value is True
    assert "rank 2: gloo:broadcast" in found["flight_recorder.mismatch"].says
    assert found["flight_recorder.first_diverging_rank"].value == ""


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


async def test_a_hostile_dump_is_refused_unread(tmp_path: Path) -> None:
    """Code in a pickle is neither run by us nor handed to torch's tool, which would run it."""
    (tmp_path / "fr_0").write_bytes(pickle.dumps({"entries": Bomb(tmp_path / "owned")}))
    (tmp_path / "fr_1").write_bytes(DUMPS[1])
    fetched = await fetch(tmp_path)
    assert fetched.outcome is Outcome.PARTIAL
    assert "makes objects: not read" in fetched.reason
    assert "rank0.dump" not in fetched.files
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True, ("x", "y", "z", 4)], "b": {"c": []}}, [], (1,), "text"])
@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_read_as_pickle_reads_them(value: object, protocol: int) -> None:
    """All protocols."""
    assert read_plain(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("raw", [b"", b"garbage", DUMPS[0][:200], b"\x80\x02}q\x00(", pickle.dumps(os.getcwd)])
def test_broken_or_foreign_bytes_are_not_plain(raw: bytes) -> None:
    """Whatever it is, the answer is the same exception."""
    with pytest.raises(NotPlain):
        read_plain(raw)


async def test_not_set_up_says_how(tmp_path: Path) -> None:
    """The exact variables to start the server with."""
    fetched = await fetch(None)
    assert fetched.outcome is Outcome.SKIPPED
    assert "TORCH_FR_DUMP_TEMP_FILE" in fetched.reason
    assert (await fetch(tmp_path)).outcome is Outcome.SKIPPED
