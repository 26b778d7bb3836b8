"""Which rank was the first to leave the others in a collective? torch's flight recorder, where it has written dumps.

Dumps are pickles in a folder that others may write to, so they are never unpickled by us: `plainpickle` reads plain
values and refuses the rest. torch's own `torchfrtrace` does unpickle; it only gets copies of files that passed.

What it does not see: vLLM's own all-reduces (PyNccl, custom, symmetric memory) go past torch's process groups. An empty
or old dump proves nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from responder.aside import aside
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Inventory, Outcome, Scalar
from responder.plainpickle import NotPlain, read_plain

META, ANALYSIS = "flight_recorder.json", "torchfrtrace.txt"
STEMS = ("TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE")
MAX_RANKS, MAX_BYTES = 64, 32 << 20
COMMAND_S, ANALYSIS_S = 5.0, 25.0
HOW_TO = (
    "torch's flight recorder is not set up to write dumps: start vLLM with TORCH_FR_DUMP_TEMP_FILE=/folder/fr_ and "
    "TORCH_NCCL_DUMP_ON_TIMEOUT=1 (it sees torch's process groups, not vLLM's own all-reduces)"
)


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """The dumps of all ranks as they lie there; torch's analysis of those that are plain."""
    inventory = scene.inventory
    if inventory is None or not inventory.reachable:
        return skipped("the server runs on another host: run a responder there, or say `where:` for this target")
    stem = next((inventory.environment[name] for name in STEMS if inventory.environment.get(name)), None)
    if stem is None:
        return skipped(HOW_TO)
    found = await _dumps(scene, stem)
    if not found:
        return skipped(f"no flight-recorder dump at {stem}*: torch writes them when a collective times out")
    files: dict[str, bytes] = {}
    refused: dict[str, str] = {}
    room = MAX_BYTES
    for rank, path in sorted(found.items())[:MAX_RANKS]:
        try:
            raw = await scene.runner.read(path, max_bytes=room)
            await aside(lambda raw=raw: read_plain(raw), timeout=COMMAND_S)  # type: ignore[misc]
        except (OSError, NotPlain, TimeoutError) as error:
            refused[path] = str(error)
            continue
        room -= len(raw)
        files[f"rank{rank}.dump"] = raw
    analysis = await _analyse(scene, inventory, files) if files else "no dump could be read"
    meta = {"stem": stem, "ranks": sorted(found), "refused": refused, "analysis": analysis}
    files[META] = json.dumps(meta, indent=1, sort_keys=True).encode()
    reason = "; ".join(f"{path}: {why}" for path, why in refused.items())[:400]
    return Fetched(files, Outcome.PARTIAL if refused else Outcome.OK, reason)


async def _dumps(scene: Scene, stem: str) -> dict[int, str]:
    """Rank -> path: the files named after the stem and a number."""
    folder, _, prefix = stem.rpartition("/")
    try:
        said = await scene.runner.run(["ls", "-1", folder or "."], timeout=COMMAND_S, max_bytes=1 << 18)
    except OSError:
        return {}
    names = said.stdout.decode("utf-8", "replace").splitlines() if said.code == 0 else []
    ranks = ((name, re.fullmatch(re.escape(prefix) + r"(\d{1,5})", name)) for name in names)
    return {int(rank[1]): f"{folder}/{name}" for name, rank in ranks if rank}


async def _analyse(scene: Scene, inventory: Inventory, files: dict[str, bytes]) -> str:
    """torch's own analysis beside our reading; '' or why there is none."""
    beside = [str(Path(inventory.command[0]).parent / "torchfrtrace")] if inventory.command else []
    tool = next((found for name in ("torchfrtrace", *beside) if (found := shutil.which(name))), None)
    if tool is None or not inventory.local:
        return "torchfrtrace (comes with torch) is not here"
    with tempfile.TemporaryDirectory(prefix="responder-fr-") as folder:
        copies = {re.sub(r"^rank(\d+)\.dump$", r"fr_\1", name): raw for name, raw in files.items()}
        await asyncio.to_thread(lambda: [Path(folder, name).write_bytes(raw) for name, raw in copies.items()])
        argv = [tool, folder, "-p", "fr_", "--allow-incomplete-ranks"]
        said = await scene.runner.run(argv, timeout=ANALYSIS_S, max_bytes=1 << 20)
    if said.stdout:
        files[ANALYSIS] = said.stdout
    if said.code == 0:
        return ""
    last = said.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    return f"torchfrtrace ended with {said.code}: {''.join(last)}"[:300]


# ------------------------------------------------------------------------------------------------------ reading


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Which rank is behind in which group, and whether ranks disagree about what they are doing."""
    if META not in files:
        return

    def fact(name: str, value: Scalar, unit: str = "", says: str = "") -> Fact:
        name = f"flight_recorder.{name}"
        return Fact(name=name, value=value, unit=unit, step="flight_recorder", file=META, at=brief.now, says=says)

    meta = json.loads(files[META])
    dumps = dict(_plain(files))
    yield fact("ranks", len(dumps), "ranks", f"of {len(meta['ranks'])} dumps" if meta["ranks"] else "")
    if len(dumps) < 2:
        return
    behind = _behind(dumps)
    words = "; ".join(f"rank {rank}: {group} {last} of {most}" for rank, group, last, most in behind)
    yield fact("behind_ranks", len({rank for rank, *_ in behind}), "ranks", words or "all ranks are equally far")
    yield fact("first_diverging_rank", f"rank {behind[0][0]}" if behind else "", says=words)
    yield from _mismatch(fact, dumps)


def _plain(files: Mapping[str, bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    for name, raw in files.items():
        if rank := re.fullmatch(r"rank(\d+)\.dump", name):
            try:
                told = read_plain(raw)
            except NotPlain:
                continue
            if isinstance(told, dict) and isinstance(told.get("entries"), list):
                yield int(rank[1]), told


def _behind(dumps: Mapping[int, dict[str, Any]]) -> list[tuple[int, str, int, int]]:
    """(rank, group, its last enqueued collective, the furthest of all), the one furthest behind first."""
    last: dict[str, dict[int, int]] = {}
    for rank, dump in dumps.items():
        for group, status in (dump.get("pg_status") or {}).items():
            if isinstance(status, dict) and str(status.get("last_enqueued_collective", "")).lstrip("-").isdigit():
                last.setdefault(str(group), {})[rank] = int(status["last_enqueued_collective"])
    found = []
    for group, ranks in last.items():
        most = max(ranks.values())
        found += [(most - at, rank, f"group {group}, collective", at, most) for rank, at in ranks.items() if at < most]
    return [row[1:] for row in sorted(found, key=lambda row: (-row[0], row[1]))]


def _mismatch(fact: Callable[..., Fact], dumps: Mapping[int, dict[str, Any]]) -> Iterator[Fact]:
    """At the first collective that ranks describe differently: who says something else than most."""
    seen: dict[tuple[str, int], dict[int, str]] = {}
    for rank, dump in dumps.items():
        for entry in dump["entries"]:
            if isinstance(entry, dict) and not entry.get("is_p2p") and isinstance(entry.get("collective_seq_id"), int):
                what = f"{entry.get('profiling_name')} {entry.get('input_sizes')} {entry.get('input_dtypes')}"
                seen.setdefault((str(entry.get("process_group")), entry["collective_seq_id"]), {})[rank] = what
    for (group, number), ranks in sorted(seen.items(), key=lambda item: (item[0][1], item[0][0])):
        told = Counter(ranks.values())
        if len(told) > 1:
            usual = min(told.most_common(), key=lambda item: (-item[1], item[0]))[0]
            odd = "; ".join(f"rank {rank}: {what}" for rank, what in sorted(ranks.items()) if what != usual)
            yield fact("mismatch", True, says=f"collective {number} of {group}: {odd}; others: {usual}"[:500])
            return
    yield fact("mismatch", False)


STEP = Step(
    name="flight_recorder",
    rung=0,
    says="reads torch's flight-recorder dumps where the server writes them, without unpickling; nothing is triggered",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("flight_recorder.ranks", "ranks", "ranks whose dump could be read"),
        FactSpec("flight_recorder.behind_ranks", "ranks", "ranks that have enqueued fewer collectives than others"),
        FactSpec("flight_recorder.first_diverging_rank", "", "the rank furthest behind; empty: none"),
        FactSpec("flight_recorder.mismatch", "", "ranks describe the same collective differently"),
    ),
    timeout_s=ANALYSIS_S + 4 * COMMAND_S,
    max_bytes=MAX_BYTES + (2 << 20),
    needs=("same host", "TORCH_FR_DUMP_TEMP_FILE set for the server"),
)
