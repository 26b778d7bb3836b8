"""A clock that was set deletes nothing: uptime says how much time can have passed."""

from __future__ import annotations

from pathlib import Path

from responder.outage import BELIEVED_AFTER_S, Patience, Uptime, lasted, uptime

WALL, HOUR, YEAR = 1.8e9, 3600.0, 365 * 86_400.0


def asked(path: Path, wall: float, seconds: float, boot: str = "b") -> bool:
    """By a new life of the daemon each time."""
    return Patience(path / "clock.json", lambda: Uptime(boot, seconds)).believes(wall)


def test_time_that_uptime_explains_is_believed(tmp_path: Path) -> None:
    """Also an outage of ours, and a boot after a short while."""
    assert asked(tmp_path, WALL, 1000)
    assert asked(tmp_path, WALL + 600, 1600)
    assert asked(tmp_path, WALL + YEAR, 1600 + YEAR)
    assert asked(tmp_path, WALL + YEAR + 300, 100, boot="c")


def test_a_clock_set_forward_is_believed_after_a_day_of_it(tmp_path: Path) -> None:
    """Whether it was set while we ran or at a boot; it is forgotten once it is put right."""
    assert asked(tmp_path, WALL, 1000)
    assert not asked(tmp_path, WALL + YEAR, 1600)
    assert not asked(tmp_path, WALL + YEAR + HOUR, 1600 + HOUR)
    assert asked(tmp_path, WALL + 2 * HOUR, 1600 + 2 * HOUR)
    assert not asked(tmp_path, WALL + YEAR, 60, boot="c")
    assert not asked(tmp_path, WALL + YEAR + HOUR, 60 + HOUR, boot="c")
    assert asked(tmp_path, WALL + YEAR + BELIEVED_AFTER_S, 60 + BELIEVED_AFTER_S, boot="c")


def test_a_torn_or_missing_note_is_none(tmp_path: Path) -> None:
    """The first start of all has nothing to compare with."""
    (tmp_path / "clock.json").write_text('{"wall": 1')
    assert asked(tmp_path, WALL, 1000)
    assert lasted("", uptime()) is None
    assert lasted("nonsense", uptime()) is None


def test_this_machine_tells_its_uptime() -> None:
    """It moves on, within one boot."""
    before = uptime()
    passed = lasted(before.text(), uptime())
    assert passed is not None
    assert 0 <= passed + 0.001 < 60
