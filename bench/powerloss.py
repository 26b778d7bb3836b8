"""What is left after a power cut? A run is recorded write by write; disks of its moments keep only what was synced.

    python -m bench.powerloss --alerts 40 --cuts 300

strace records what a real life (bench/kill_driver.py) and its client ask of the file system, in order. Then the disk is
rebuilt as a power cut at a random moment may leave it: of each file what was synced, of each folder the names it had
when it was synced; half of the cuts keep some of the unsynced writes and names as well, in any combination. On each
disk the database must be whole, every alert acknowledged by then must be known, and every message that waits must have
its report. 1 when anything is missing. Needs strace.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bench.kills import Lane

CALLS = "openat,write,pwrite64,fsync,fdatasync,ftruncate,rename,mkdir,unlink"
LINE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (\d+)(?:<.*>)?$")
UNFINISHED = re.compile(r"^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (\d+)(?:<.*>)?$")
ACKS = "acknowledged"


# ------------------------------------------------------------------------------------------------------ the recording


async def victim(folder: Path, alerts: int) -> None:
    """A life and its client: alerts begin and end; each acknowledgement is a line of a file, written when it comes."""
    lane = Lane(1, folder)
    acks = os.open(folder / ACKS, os.O_WRONLY | os.O_CREAT, 0o600)
    async with aiohttp.ClientSession() as lane.http:
        pid = await lane.open()
        lane.began = {}
        for number in range(alerts):
            await lane._post(number % 25, "firing")
            os.write(acks, f"t{number % 25} firing\n".encode())
            if number >= 5:
                await lane._post((number - 5) % 25, "resolved")
                os.write(acks, f"t{(number - 5) % 25} resolved\n".encode())
        await lane._settle(min(alerts, 25))
        await lane.shut(pid)
    os.close(acks)


def record(folder: Path, alerts: int) -> Path:
    """Run the victim under strace; the file with what it asked."""
    trace = folder.with_suffix(".strace")
    argv = ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", str(1 << 24), "-e", f"trace={CALLS}",
            "-o", str(trace), sys.executable, "-m", "bench.powerloss", "--victim", str(folder), "--alerts",
            str(alerts)]  # fmt: skip
    subprocess.run(argv, check=True, timeout=500)
    return trace


def events(trace: Path, folder: Path) -> list[tuple[str, str, Any]]:
    """(call, path, argument) of what succeeded below the folder, in the order it ended."""
    begun: dict[str, str] = {}
    found = []
    for line in trace.read_text().splitlines():
        if halt := UNFINISHED.match(line):
            begun[halt[1]] = halt[3]
            continue
        if again := RESUMED.match(line):
            call, args = again[2], begun.pop(again[1], "") + again[3]
        elif whole := LINE.match(line):
            call, args = whole[2], whole[3]
        else:
            continue
        event = _event(call, args)
        if event and event[1].startswith(str(folder)):
            found.append(event)
    return found


def _event(call: str, args: str) -> tuple[str, str, Any] | None:
    paths = [_bytes(hexed).decode(errors="replace") for hexed in re.findall(r"[<\"]((?:\\x[0-9a-f]{2})*)[>\"]", args)]
    if call == "openat":
        path = os.path.join(paths[0], paths[1]) if args.startswith("AT_FDCWD") else paths[-1]
        return ("open", path, "trunc" if "O_TRUNC" in args else "") if "O_CREAT" in args else None
    if call in ("write", "pwrite64"):
        data = _bytes(args[args.index('"') + 1 : args.rindex('"')])
        return "write", paths[0], (int(args.rpartition(", ")[2]) if call == "pwrite64" else None, data)
    if call in ("fsync", "fdatasync"):
        return "sync", paths[0], None
    if call == "ftruncate":
        return "cut", paths[0], int(args.rpartition(", ")[2])
    return (call, paths[0], paths[1]) if call == "rename" else (call, paths[0], None)


def _bytes(hexed: str) -> bytes:
    return bytes.fromhex(hexed.replace("\\x", ""))


# ------------------------------------------------------------------------------------------------------------ the disk


@dataclass
class File:
    """What it holds, what of that is on the platter, and what has been asked since."""

    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    since: list[tuple[int, bytes | None]] = field(default_factory=list)

    def do(self, at: int, data: bytes | None) -> None:
        """Write at an offset; None: cut there."""
        _apply(self.data, at, data)
        self.since.append((at, data))

    def sync(self) -> None:
        """All of it is on the platter."""
        self.synced, self.since = bytes(self.data), []

    def left(self, dice: random.Random | None) -> bytes:
        """After the cut: what was synced; with dice some of the rest as well."""
        left = bytearray(self.synced)
        for at, data in self.since:
            if dice is not None and dice.random() < 0.5:
                _apply(left, at, data)
        return bytes(left)


def _apply(content: bytearray, at: int, data: bytes | None) -> None:
    if len(content) < at:
        content.extend(bytes(at - len(content)))
    if data is None:
        del content[at:]
    else:
        content[at : at + len(data)] = data


class Disk:
    """A folder tree as the recorded calls make it."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.names: dict[str, File | None] = {self.root: None}
        """None: a folder."""
        self.kept: dict[str, dict[str, File | None]] = {self.root: {}}
        """Folder -> its names when it was last synced."""

    def play(self, call: str, path: str, argument: Any) -> None:
        """One call."""
        file = self.names.get(path)
        if call == "open":
            if path not in self.names:
                self.names[path] = File()
            elif argument == "trunc" and file:
                file.do(0, None)
        elif call == "mkdir":
            self.names[path] = None
        elif call == "rename":
            self.names[argument] = self.names.pop(path, File())
        elif call == "unlink":
            self.names.pop(path, None)
        elif call == "sync" and path in self.names and file is None:
            self.kept[path] = self._in(path)
        elif file is not None:
            if call == "sync":
                file.sync()
            elif call == "cut":
                file.do(argument, None)
            elif call == "write":
                at, data = argument
                file.do(len(file.data) if at is None else at, data)

    def _in(self, folder: str) -> dict[str, File | None]:
        return {path: what for path, what in self.names.items() if os.path.dirname(path) == folder}

    def build(self, to: Path, dice: random.Random | None) -> None:
        """What a cut now leaves."""
        self._build(self.root, to, dice)

    def _build(self, folder: str, to: Path, dice: random.Random | None) -> None:
        to.mkdir(parents=True, exist_ok=True)
        names = self.kept.get(folder, {})
        if dice is not None and dice.random() < 0.5:
            names = self._in(folder)
        for path, what in names.items():
            if what is None:
                self._build(path, to / os.path.basename(path), dice)
            else:
                (to / os.path.basename(path)).write_bytes(what.left(dice))


# ---------------------------------------------------------------------------------------------------------- what holds


def missing(data: Path, acked: list[tuple[str, str]], counts: Counter[str]) -> list[str]:
    """What is not there that must be: in words."""
    if not acked:
        return []
    if not (data / "responder.db").exists():
        return ["no database"]
    db = sqlite3.connect(data / "responder.db")
    try:
        if db.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
            return ["the database is damaged"]
        known = {row[0]: row[1] for row in db.execute("SELECT target, state FROM incidents ORDER BY opened_at")}
        waiting = " ".join(row[0] for row in db.execute("SELECT body FROM intake"))
        told = json.loads(next(iter(db.execute("SELECT body FROM timers WHERE key='told'")), ("{}",))[0])
        sent = db.execute("SELECT incident, json_extract(body, '$.revision') FROM deliveries").fetchall()
    except sqlite3.DatabaseError as error:
        return [f"the database cannot be read: {error}"]
    finally:
        db.close()
    heard = {s["target"] for s in (*told.get("symptoms", ()), *told.get("passing", ()))}
    over = {item["key"][1] for item in told.get("over", ())}
    lost = []
    for target, status in acked:
        there = target in over or f'"{target}"' in waiting
        if not there and not (status == "firing" and (target in known or target in heard)):
            lost.append(f"{target} {status}")
    counts["reports that had to be there"] += len(sent)
    for incident, revision in sent:
        for name in ("report.json", "report.md", "summary.txt"):
            path = data / "incidents" / incident / "revisions" / str(revision) / name
            if not path.is_file() or not path.read_bytes():
                lost.append(f"{incident}: {name} of revision {revision}")
    return lost


def cut_often(alerts: int, cuts: int, seed: int) -> tuple[Counter[str], list[str]]:
    """So many cuts of one recorded run: figures, and what was missing."""
    dice, counts, wrong = random.Random(seed), Counter[str](), list[str]()  # noqa: S311
    with tempfile.TemporaryDirectory(prefix="responder-power-") as scratch:
        folder = Path(scratch).resolve() / "run"
        folder.mkdir()
        calls = events(record(folder, alerts), folder)
        (data,) = {path.split("/lane")[0] + "/lane" + path.split("/lane")[1].split("/")[0]
                   for _, path, _ in calls if "/lane" in path}  # fmt: skip
        counts["calls"], counts["syncs"] = len(calls), sum(call == "sync" for call, _, _ in calls)
        first = next(n for n, (_, path, _) in enumerate(calls) if path.endswith(ACKS))
        moments = Counter(dice.randrange(first, len(calls)) for _ in range(cuts))
        disk, acked = Disk(Path(data)), list[tuple[str, str]]()
        for number, (call, path, argument) in enumerate(calls):
            if path.endswith(ACKS) and call == "write":
                name, status = argument[1].decode().split()
                acked.append((name, status))
            elif path.startswith(data):
                disk.play(call, path, argument)
            for _ in range(moments[number]):
                torn = counts["cuts"] % 2 == 1
                left = Path(scratch) / "left"
                disk.build(left, dice if torn else None)
                lost = missing(left, acked, counts)
                wrong += [f"cut at call {number} ({'some' if torn else 'nothing'} unsynced kept): {w}" for w in lost]
                shutil.rmtree(left)
                counts["cuts"] += 1
                counts["cuts with something missing"] += bool(lost)
        counts["alerts acknowledged"] = len(acked)
    return counts, wrong


def main() -> int:
    """Record, cut, print."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--alerts", type=int, default=25)
    flags.add_argument("--cuts", type=int, default=300)
    flags.add_argument("--seed", type=int, default=1)
    flags.add_argument("--victim", type=Path, help=argparse.SUPPRESS)
    options = flags.parse_args()
    if options.victim:
        asyncio.run(victim(options.victim, options.alerts))
        return 0
    if shutil.which("strace") is None:
        print("needs strace: apt-get install strace")
        return 2
    began = time.monotonic()
    counts, wrong = cut_often(options.alerts, options.cuts, options.seed)
    for name, value in counts.items():
        print(f"{name:32} {value}")
    print(f"in {time.monotonic() - began:.0f} s, load average {os.getloadavg()[0]:.1f}")
    print("\n".join(wrong[:20]))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
