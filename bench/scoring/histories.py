"""What does `responder backtest` say of recorded histories? In a real Prometheus, laid beside the truth."""

from __future__ import annotations

import contextlib
import gzip
import json
import pathlib
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil
from typer.testing import CliRunner

from bench.scoring.cases import Case, from_folder, is_right
from responder.__main__ import app
from responder.model import Content
from tests.live.harness import find

BEFORE_S, AFTER_S = 15.0, 120.0
"""An incident belongs to a fault when it opens from shortly before its onset to a while after its end: it stays in the
longest window of a rule for two minutes."""


@dataclass
class Told:
    """All histories together."""

    cases: list[Case] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    """Part -> how many faults there were."""
    found: dict[str, int] = field(default_factory=dict)
    false: dict[str, list[str]] = field(default_factory=dict)
    """Part -> incidents that nothing caused."""
    days: dict[str, float] = field(default_factory=dict)
    """Part -> days of servers watched, without the faults themselves."""
    missed: list[str] = field(default_factory=list)
    moments: list[tuple[str, frozenset[str], pathlib.Path, float]] = field(default_factory=list)
    """(name, truth, history file, moment): what peers are asked about, too."""


@contextlib.contextmanager
def prometheus(text: bytes, folder: pathlib.Path) -> Iterator[str]:
    """A Prometheus that holds this OpenMetrics text; its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "all.om").write_bytes(text)
    made = [
        find.binary("promtool"),
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        str(folder / "all.om"),
        str(folder / "db"),
    ]
    subprocess.run(made, check=True, capture_output=True, timeout=600)
    (folder / "all.om").unlink()
    with serving(folder) as (url, _):
        yield url


@contextlib.contextmanager
def serving(folder: pathlib.Path) -> Iterator[tuple[str, psutil.Process]]:
    """A Prometheus on the blocks in FOLDER/db: its URL and its process."""
    (folder / "empty.yml").write_text("global: {}\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = [find.binary("prometheus"), f"--storage.tsdb.path={folder / 'db'}", f"--config.file={folder / 'empty.yml'}",
             "--storage.tsdb.retention.time=100y", f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    with (folder / "log").open("w") as log, subprocess.Popen(serve, stdout=log, stderr=log) as child:
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}", psutil.Process(child.pid)
        finally:
            child.terminate()


def about_of(history: pathlib.Path) -> dict[str, Any]:
    """The truth beside a history: FILE.json, or its entry in the folder's truth.json. Empty when nobody wrote one."""
    own = history.with_name(history.name.replace(".om.gz", ".json"))
    if own.exists():
        return json.loads(own.read_text())
    shared = history.with_name("truth.json")
    return json.loads(shared.read_text()).get(history.name, {}) if shared.exists() else {}


def add(told: Told, history: pathlib.Path, content: Content, scratch: pathlib.Path) -> dict[str, Any]:
    """Backtest one history target by target, each in its own time; the last head of the output."""
    about = about_of(history)
    head: dict[str, Any] = {}
    with prometheus(gzip.decompress(history.read_bytes()), scratch / history.name) as url:
        for name, truth in about["targets"].items():
            folders = scratch / "folders" / re.sub(r"\W", "_", name)
            done = CliRunner().invoke(
                app,
                ["backtest", "--prometheus", url, *_whom(name, truth, scratch), "--from", str(truth["from"] - 5),
                 "--to", str(truth["to"] + 60), "--format", "json", "--folders", str(folders)],
            )  # fmt: skip
            if done.exit_code != 0:
                raise RuntimeError(f"backtest of {name}: {done.output[-500:]} {done.exception!r}")
            head = json.loads(done.stdout)
            judge_told(
                told, name, {"part": about.get("part", "tune"), **truth}, head["reports"], folders, content, history
            )
    return head


def _whom(name: str, truth: Mapping[str, Any], scratch: pathlib.Path) -> list[str]:
    """The target, with what its owner expects of it where the truth says so."""
    if "expect" not in truth:
        return ["--target", name]
    config = scratch / "expected.yaml"
    config.write_text(json.dumps({"targets": [{"url": f"http://{name}", "expect": truth["expect"]}]}))
    return ["--config", str(config)]


def judge_told(
    told: Told, name: str, truth: Mapping[str, Any], reports: list[dict[str, Any]], folders: pathlib.Path,
    content: Content, history: pathlib.Path,
) -> None:  # fmt: skip
    """Lay what was said beside the truth of one server."""
    part, faults = truth["part"], truth["incidents"]
    busy = sum(fault["ended_at"] - fault["onset_at"] for fault in faults)
    told.days[part] = told.days.get(part, 0.0) + max(0.0, truth["to"] - truth["from"] - busy) / 86400.0
    told.faults[part] = told.faults.get(part, 0) + len(faults)
    open_at = {r["incident"]["id"]: _unix(r["incident"]["opened_at"]) for r in reports}
    used: set[str] = set()
    for fault in faults:
        fits = [i for i, at in open_at.items() if fault["onset_at"] - BEFORE_S <= at <= fault["ended_at"] + AFTER_S]
        # With a note, `causes` are look-alikes that metrics do not tell apart: only the true one counts as right.
        named = [fault["cause"]] if "note" in fault else fault.get("causes") or [fault["cause"]]
        causes = frozenset(named) - {"unknown"}
        told.moments.append((name, causes, history, min((open_at[i] for i in fits), default=fault["ended_at"])))
        if not fits:
            told.missed.append(name)
            continue
        used |= set(fits)
        told.found[part] = told.found.get(part, 0) + 1
        first = min(fits, key=lambda i: open_at[i])
        told.cases.append(
            from_folder(
                folders / "incidents" / first, content, {**fault, "causes": named, "part": part, "scenario": name}
            )
        )
    alerts = {r["incident"]["id"]: ",".join(s["alert"] for s in r["symptoms"]) for r in reports}
    told.false.setdefault(part, []).extend(f"{name} {i} [{alerts[i]}]" for i in open_at if i not in used)


def _unix(text: str) -> float:
    from responder.backtest.times import moment

    return moment(text, 0.0)


def right_first(case: Case) -> bool:
    """Whether the first cause is one of those at work."""
    return is_right(case.report.verdict.hypotheses[0].cause, case.causes)
