"""The model of a disk whose power is cut: what was synced is there, under names that were synced."""

from __future__ import annotations

import random
from pathlib import Path

from bench.powerloss import Disk, events


def played(root: Path, *calls: tuple[str, str, object]) -> Disk:
    disk = Disk(root)
    for call, name, argument in calls:
        disk.play(call, str(root / name) if name else str(root), argument)
    return disk


def left(disk: Disk, to: Path, dice: random.Random | None = None) -> dict[str, bytes]:
    disk.build(to, dice)
    return {path.relative_to(to).as_posix(): path.read_bytes() for path in to.rglob("*") if path.is_file()}


def test_only_what_was_synced_is_left(tmp_path: Path) -> None:
    """Data by the sync of the file, its name by that of the folder; a rename by that of the folder, too."""
    root = tmp_path / "r"
    begun = [("open", "a", ""), ("write", "a", (0, b"one")), ("sync", "a", None)]
    assert left(played(root, *begun), tmp_path / "1") == {}
    named = [*begun, ("sync", "", None), ("write", "a", (3, b"two"))]
    assert left(played(root, *named), tmp_path / "2") == {"a": b"one"}
    moved = [*named, ("sync", "a", None), ("rename", "a", str(root / "b"))]
    assert left(played(root, *moved), tmp_path / "3") == {"a": b"onetwo"}
    assert left(played(root, *moved, ("sync", "", None)), tmp_path / "4") == {"b": b"onetwo"}


def test_a_file_in_a_folder_whose_name_was_not_synced_is_gone(tmp_path: Path) -> None:
    """However well it was synced itself."""
    root = tmp_path / "r"
    deep = [("mkdir", "d", None), ("open", "d/a", ""), ("write", "d/a", (None, b"x")), ("sync", "d/a", None),
            ("sync", "d", None)]  # fmt: skip
    assert left(played(root, *deep), tmp_path / "1") == {}
    assert left(played(root, *deep, ("sync", "", None)), tmp_path / "2") == {"d/a": b"x"}


def test_some_of_what_was_not_synced_may_be_left(tmp_path: Path) -> None:
    """In any combination: that is what a disk's cache does."""
    root = tmp_path / "r"
    disk = played(root, ("open", "a", ""), ("sync", "", None), ("sync", "a", None),
                  ("write", "a", (0, b"1")), ("write", "a", (1, b"2")))  # fmt: skip
    seen = {left(disk, tmp_path / str(n), random.Random(n))["a"] for n in range(40)}
    assert seen == {b"", b"1", b"\0002", b"12"}


def test_a_recording_is_read_in_the_order_things_ended(tmp_path: Path) -> None:
    """What another thread interrupts counts when it is over; what failed does not count."""

    def hexed(text: str) -> str:
        return "".join(f"\\x{byte:02x}" for byte in text.encode())

    a, b = hexed("/run/a"), hexed("/run/b")
    trace = tmp_path / "trace"
    trace.write_text(
        f'7 openat(AT_FDCWD<{hexed("/")}>, "{a}", O_RDWR|O_CREAT, 0640) = 3<{a}>\n'
        f"7 fsync(3<{a}> <unfinished ...>\n"
        f'8 pwrite64(4<{b}>, "{hexed("hi")}", 2, 10) = 2\n'
        "7 <... fsync resumed>) = 0\n"
        f'8 unlink("{a}") = -1 ENOENT (No such file or directory)\n'
    )
    assert events(trace, Path("/run")) == [
        ("open", "/run/a", ""), ("write", "/run/b", (10, b"hi")), ("sync", "/run/a", None),
    ]  # fmt: skip
