"""What did Prometheus see of the experiments? One OpenMetrics file with its truth, for `responder backtest`.

    python -m bench.faults.history OUT --to FILE.om.gz [--step 2]

Every experiment becomes a target of its own, `<scenario>:8000` (a second replica `<scenario>:8001`); only metrics that
the shipped rules use are kept. The truth goes beside it: FILE.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import pathlib
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from tests.live.harness import find

LINE = re.compile(r'^\{(.*?)(?:, )?__name__="([^"]+)"(?:, )?(.*)\} (\S+) (\d+)$')
HOST = re.compile(r'Hostname="[^"]*"')
INSTANCE = re.compile(r'instance="([^"]+)"')
DUMPED_WITHIN_S = 120.0
EXPORTER_PORT = 9400


def used() -> set[str]:
    """Every word of the shipped signals and rules; metric names are among them."""
    return {
        word
        for path in (find.ROOT / "rules").glob("*.yaml")
        for word in re.findall(r"[a-zA-Z_][\w:]*", path.read_text())
    }


def parsed(line: str) -> tuple[str, str, str, float] | None:
    """(metric, labels, value, unix seconds) of a line of the dump. Labels with a capital come before the name."""
    got = LINE.match(line)
    if got is None:
        return None
    return got[2], ", ".join(part for part in (got[1], got[3]) if part), got[4], int(got[5]) / 1000


def rows(scenario: str, tsdb: pathlib.Path, step_s: float, names: set[str]) -> Iterator[tuple[str, str, float, str]]:
    """(metric, labels, unix seconds, value) of one experiment, one scrape per `step_s`."""
    dumped = subprocess.run(
        [find.binary("promtool"), "tsdb", "dump", str(tsdb)], capture_output=True, text=True, timeout=DUMPED_WITHIN_S
    )
    taken: dict[tuple[str, str], float] = {}
    instances: list[str] = []
    for line in dumped.stdout.splitlines():
        found = parsed(line)
        if found is None or found[0] not in names:
            continue
        name, labels, value, at = found
        if value == "NaN":
            continue  # a staleness marker: written out as a number it would look like a change
        # One scrape has one time, so that all its series are kept or left out together.
        if at - taken.get((name, labels), 0.0) < step_s - 0.3:
            continue
        taken[name, labels] = at
        instance = INSTANCE.search(labels)
        if 'job="dcgm"' in labels:
            port, labels = EXPORTER_PORT, HOST.sub(f'Hostname="{scenario}"', labels)
        else:
            if instance and instance[1] not in instances:
                instances.append(instance[1])
            port = 8000 + (instances.index(instance[1]) if instance else 0)
        yield name, INSTANCE.sub(f'instance="{scenario}:{port}"', labels).replace('", ', '",'), at, value


def truth_of(result: dict[str, Any], start: float, end: float) -> dict[str, Any]:
    """What a backtest of this target should find."""
    incidents = []
    if result["truth"] is not None:
        incidents = [{
            "cause": result["truth"], "class": result["truth_class"],
            **({"causes": result["truth_causes"]} if result["truth_causes"] else {}),
            **({"pair": True} if result.get("truth_pair") else {}),
            "classes": [result["truth_class"], *result["also_class"]],
            "onset_at": result["onset_at"], "ended_at": result["ended_at"],
        }]  # fmt: skip
    return {
        "from": round(start), "to": round(end), "part": result["part"], "author": result["author"],
        "family": result["family"], "incidents": incidents,
    }  # fmt: skip


def write(out: pathlib.Path, to: pathlib.Path, step_s: float, machine: str) -> int:
    """Write the file of every experiment that counts; the number of them."""
    results = {(r := json.loads(text))["scenario"]: r for text in (out / "results.jsonl").read_text().splitlines()}
    names, series, targets = used(), defaultdict(list), {}
    for scenario, result in sorted(results.items()):
        tsdb = out / "runs" / scenario / "prometheus" / "tsdb"
        if not result["counts"] or "onset_at" not in result or not tsdb.is_dir():
            continue
        found = list(rows(scenario, tsdb, step_s, names))
        for name, labels, at, value in found:
            series[name].append(f"{name}{{{labels}}} {value} {at:.3f}")
        times = [at for _, _, at, _ in found]
        targets[f"{scenario}:8000"] = truth_of(result, min(times), max(times))
    text = [line for name in sorted(series) for line in (f"# TYPE {name} unknown", *series[name])]
    with gzip.GzipFile(to, "wb", compresslevel=9, mtime=0) as file:
        file.write("\n".join([*text, "# EOF"]).encode() + b"\n")
    about = {"from": machine, "scrape_interval_s": step_s, "targets": targets}
    to.with_name(to.name.replace(".om.gz", ".json")).write_text(json.dumps(about, indent=1) + "\n")
    return len(targets)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.faults.history", description=__doc__)
    parser.add_argument("out", type=pathlib.Path, help="the --out of bench.faults")
    parser.add_argument("--to", type=pathlib.Path, required=True)
    parser.add_argument("--step", type=float, default=2.0, help="seconds between kept scrapes")
    parser.add_argument(
        "--machine", default="vLLM 0.32 on CPU, experiments of bench.faults", help="what it was recorded on"
    )
    given = parser.parse_args()
    print(f"{write(given.out, given.to, given.step, given.machine)} experiments in {given.to}")
