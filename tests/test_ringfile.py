"""Is a ring file read rightly, whole, wrapped, torn or damaged?"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from responder.recorder import layout
from responder.recorder.steps import Steps
from responder.recorder.writer import RingWriter
from responder.redact import scrub
from responder.ringfile import NotARing, dump, parse, restore
from tests.recorder.fakes import iteration, scheduler


def ring(folder: Path, steps: int, capacity: int = 8) -> bytearray:
    """The bytes of a ring after so many steps; step n has n running requests."""
    writer = RingWriter(str(folder), 0, capacity=capacity)
    recorder = Steps(writer)
    for n in range(steps):
        recorder.record(scheduler(num_running_reqs=n), iteration(iteration_timestamp=1000.0 + n))
    data = bytearray(Path(writer.path).read_bytes())
    writer.close()
    Path(writer.path).unlink()
    return data


@pytest.mark.parametrize(("steps", "first"), [(0, 0), (1, 0), (7, 0), (8, 0), (9, 1), (100, 92)])
def test_the_newest_records_in_order(tmp_path: Path, steps: int, first: int) -> None:
    """Empty, half full, full, wrapped."""
    got = parse(bytes(ring(tmp_path, steps)))
    assert [r.seq for r in got.records] == list(range(first, steps))
    assert [r.running for r in got.records] == list(range(first, steps))
    assert (got.torn_last, got.damaged, got.lost) == (False, 0, 0)


@pytest.mark.parametrize("written", range(1, layout.RECORD_BYTES))
def test_a_record_cut_anywhere_is_told_as_torn(tmp_path: Path, written: int) -> None:
    """The writer died after so many bytes of the next record, over the oldest one."""
    data, after = ring(tmp_path, 12), ring(tmp_path, 13)
    at = layout.HEADER_BYTES + (12 % 8) * layout.RECORD_BYTES
    old, new = bytes(data[at : at + layout.RECORD_BYTES]), bytes(after[at : at + layout.RECORD_BYTES])
    mixed = new[:written] + old[written:]
    data[at : at + layout.RECORD_BYTES] = mixed
    got = parse(bytes(data))
    # The first bytes (kind, flags) are those of the record before: until one differs nothing has been written.
    expected = range(4, 12) if mixed == old else range(5, 13) if mixed == new else range(5, 12)
    assert [r.seq for r in got.records] == list(expected)
    assert got.torn_last == (mixed not in (old, new))
    assert got.damaged == 0


def test_damage_elsewhere_is_told_apart(tmp_path: Path) -> None:
    """A flipped bit in an old record."""
    data = ring(tmp_path, 12)
    data[layout.HEADER_BYTES + 6 * layout.RECORD_BYTES + 40] ^= 1
    got = parse(bytes(data))
    assert (got.torn_last, got.damaged, got.lost) == (False, 1, 1)
    assert len(got.records) == 7


def test_a_file_cut_short_tells_what_it_has(tmp_path: Path) -> None:
    """Copied while it was full, or from a full disk."""
    data = ring(tmp_path, 6)
    got = parse(bytes(data[: layout.HEADER_BYTES + 3 * layout.RECORD_BYTES + 5]))
    assert [r.seq for r in got.records] == [0, 1, 2]


@pytest.mark.parametrize("data", [b"", b"x" * 100, bytes(9999), b"RSPSTEPS" + bytes(9999)])
def test_other_files_are_refused(data: bytes) -> None:
    """With the reason."""
    with pytest.raises(NotARing):
        parse(data)


def test_a_newer_format_is_refused_with_its_number(tmp_path: Path) -> None:
    """Not guessed at."""
    from zlib import crc32

    data = ring(tmp_path, 1)
    data[8] = 9
    size = layout.HEADER.size
    data[size : size + 4] = layout.CRC.pack(crc32(bytes(data[:size])))
    with pytest.raises(NotARing, match="format 9"):
        parse(bytes(data))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_damage_is_survived(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Random bytes over a random place: sound records only, each with its own numbers."""
    raw = ring(tmp_path_factory.mktemp("ring"), 20)
    at = data.draw(st.integers(0, len(raw) - 1))
    junk = data.draw(st.binary(min_size=1, max_size=400))
    raw[at : at + len(junk)] = junk
    try:
        got = parse(bytes(raw))
    except NotARing:
        return
    assert all(r.running == r.seq for r in got.records)


def test_stored_steps_come_back_and_redaction_leaves_them(tmp_path: Path) -> None:
    """JSON lines; what happened before the window is left out."""
    got = parse(bytes(ring(tmp_path, 8)))
    raw = dump(got, since=1003.0)
    assert scrub(raw, ()) == (raw, {})
    back = restore(raw)
    assert [r.seq for r in back.records] == [3, 4, 5, 6, 7]
    assert back.records[0].running == got.records[3].running
    assert back.head == got.head
    assert len(restore(raw[: len(raw) - 30]).records) == 4
    with pytest.raises(NotARing):
        restore(b"{}")
