"""Incident folders: names are data, writes are whole, and an open incident is never deleted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.folder import SAFE, IncidentFolder, expire, folder_of, safe_name, write_atomic


@given(st.text(max_size=300))
def test_any_text_becomes_one_harmless_path_component(text: str) -> None:
    """No separator, no leading dot, no empty name, bounded length; doing it twice changes nothing."""
    name = safe_name(text)
    assert SAFE.match(name)
    assert safe_name(name) == name


def test_raw_files_come_back_with_their_hashes(tmp_path: Path) -> None:
    """Hostile names stay inside the folder; bytes are unchanged."""
    folder = folder_of(tmp_path, "i")
    hashes = folder.write_raw("../../up", {"../x": b"1", "y.txt": b"2"})
    assert sorted(hashes) == ["_x", "y.txt"]
    assert folder.read_raw("../../up") == {"_x": b"1", "y.txt": b"2"}
    assert all(p.is_relative_to(folder.path) for p in tmp_path.rglob("*.txt"))


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails before the rename, the reader still sees the whole old file."""
    path = tmp_path / "a"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_the_oldest_go_first_and_open_ones_never(tmp_path: Path) -> None:
    """Age and total size are enforced on closed incidents only."""
    for index, name in enumerate(["old-open", "old", "mid", "new"]):
        path = folder_of(tmp_path, name).write("report.md", b"x" * 1000)
        os.utime(path, (1000 + index, 1000 + index))
    assert expire(tmp_path, open_ids=["old-open"], now=1010, max_age_s=1e9, max_bytes=2500) == ["old", "mid"]
    assert expire(tmp_path, open_ids=["old-open"], now=9e9, max_age_s=10, max_bytes=10**9) == ["new"]
    assert [p.name for p in (tmp_path / "incidents").iterdir()] == ["old-open"]


def test_json_is_written_a_part_a_line_with_sorted_keys(tmp_path: Path) -> None:
    """Quickly for the machine, and a person who looks or compares finds each part on its line."""
    folder = IncidentFolder(tmp_path)
    value = {"b": [{"z": 1, "a": "ü"}, 2], "a": {"y": [], "x": None}, "c": [], "d": {}}
    folder.write_json("one.json", value)
    assert folder.read_json("one.json") == value
    assert (tmp_path / "one.json").read_text() == (
        '{\n"a": {"x": null, "y": []},\n"b": [\n{"a": "ü", "z": 1},\n2\n],\n"c": [],\n"d": {}\n}\n'
    )
    for plain in ([], [1, [2]], {}, "text", None):
        folder.write_json("one.json", plain)
        assert folder.read_json("one.json") == plain


def test_the_names_of_new_folders_are_synced_before_anything_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is synced in a folder whose name is not is gone after a power cut (`bench.powerloss` found it)."""
    synced: list[Path] = []
    monkeypatch.setattr("responder.folder._sync_folder", synced.append)
    write_atomic(tmp_path / "incidents" / "i1" / "raw" / "a.txt", b"x")
    assert synced == [tmp_path, tmp_path / "incidents", tmp_path / "incidents" / "i1", tmp_path / "incidents/i1/raw"]
    synced.clear()
    write_atomic(tmp_path / "incidents" / "i1" / "raw" / "b.txt", b"x")
    assert synced == [tmp_path / "incidents" / "i1" / "raw"]
