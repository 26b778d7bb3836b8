"""What was the truth of a recorded incident, what was said, and what would be said with less?"""

from __future__ import annotations

import json
import pathlib
import random
import re
import urllib.parse
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from responder.backtest.look import FROM_HISTORY
from responder.capture import STEPS
from responder.collect import read_facts
from responder.diagnose import diagnose
from responder.folder import IncidentFolder
from responder.model import Content, Evidence, Fact, Hypothesis, Incident, Report, Verdict
from responder.replay import replay, stored_evidence
from responder.report import to_json

_DATED = re.compile(rb"(?:INFO|WARNING|ERROR) (\d\d-\d\d \d\d:\d\d:\d\d) \[")
Change = Callable[[str, Mapping[str, bytes]], Mapping[str, bytes]]
"""Evidence id and its raw files -> other raw files."""


@dataclass(frozen=True)
class Case:
    """One incident with known truth. causes: all of them that were at work; empty: no cause of the playbooks."""

    name: str
    part: str
    causes: frozenset[str]
    classes: frozenset[str]
    folder: pathlib.Path
    report: Report
    began: float | None = None
    """When the fault began, by whoever made it."""
    metrics_only: bool = False
    pair: bool = False
    """Two faults at once, `causes`."""


def from_folder(path: pathlib.Path, content: Content, truth: Mapping[str, Any] | None = None) -> Case:
    """A recorded folder with its truth.json (or `truth`), replayed with today's content."""
    told = truth or json.loads((path / "truth.json").read_text())
    causes = frozenset(told.get("causes") or [told["cause"]]) - {"unknown", None}
    return Case(
        name=str(told.get("scenario", path.name)), part=told.get("part", "tune"), causes=causes,
        classes=frozenset(told.get("classes") or [told["class"]]), folder=path,
        report=replay(path, STEPS, content), began=told.get("onset_at"), pair=bool(told.get("pair")),
    )  # fmt: skip


def weighed(case: Case) -> tuple[Evidence, ...]:
    """The evidence the verdict rests on."""
    kept = set(json.loads((case.folder / "manifest.json").read_text())["weighed"])
    return tuple(item for item in case.report.evidence if item.id in kept)


def again(
    case: Case, content: Content, evidence: Sequence[Evidence], incident: Incident | None = None
) -> tuple[Hypothesis, ...]:
    """Ranked hypotheses with this evidence instead."""
    return judged_again(case, content, evidence, incident).hypotheses


def judged_again(
    case: Case, content: Content, evidence: Sequence[Evidence], incident: Incident | None = None
) -> Verdict:
    """The whole verdict with this evidence instead."""
    told = incident or case.report.incident
    return diagnose(told, content.playbooks, content.causes, evidence, case.report.plan)


def before_captures(case: Case) -> list[Evidence]:
    """What Prometheus alone could have told."""
    return [item for item in weighed(case) if item.step in FROM_HISTORY]


def without(content: Content, causes: Collection[str]) -> Content:
    """Playbooks that have never heard of these causes, nor of refinements of them."""
    gone = {c.id for c in content.causes if c.id in causes or c.id.partition("/")[0] in causes}
    books = tuple(
        b.model_copy(update={"causes": tuple(c for c in b.causes if c not in gone)}) for b in content.playbooks
    )
    return content.model_copy(
        update={"causes": tuple(c for c in content.causes if c.id not in gone), "playbooks": books}
    )


def is_right(said: str, causes: frozenset[str]) -> bool:
    """One of the causes at work, or a refinement of it; `unknown` where no cause of the playbooks was."""
    if not causes:
        return said == "unknown"
    return said in causes or said.partition("/")[0] in causes


def both_named(case: Case) -> bool:
    """Of two faults at once, both are named, as two."""
    together = case.report.verdict.together
    return all(any(is_right(said, frozenset({cause})) for said in together) for cause in case.causes)


def second_named(case: Case) -> bool:
    """Two causes are named as two."""
    return len(case.report.verdict.together) > 1


def grounded(case: Case) -> bool:
    """Every value the leading cause cites is read again, equal, from raw bytes that are as the manifest says."""
    import hashlib

    folder = IncidentFolder(case.folder)
    manifest = {entry["evidence"]["id"]: entry for entry in folder.read_json("manifest.json")["evidence"]}
    again_facts: dict[str, list[Fact]] = {}
    for item, _ in stored_evidence(folder, STEPS):
        files = folder.read_raw(item.id)
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        if item.files and any(digests.get(n) != d for n, d in manifest[item.id]["sha256"].items()):
            return False
        for fact in item.facts:
            again_facts.setdefault(fact.name, []).append(fact)
    cited = [fact for finding in case.report.verdict.hypotheses[0].supports for fact in finding.facts]
    return bool(cited) and all(any(f.value == fact.value for f in again_facts.get(fact.name, ())) for fact in cited)


def same_bytes(case: Case, content: Content) -> bool:
    """Replayed twice, byte for byte."""
    return to_json(replay(case.folder, STEPS, content)) == to_json(replay(case.folder, STEPS, content))


# ------------------------------------------------------------------------------------------------------ worse data


def reread(case: Case, change: Change, steps: Collection[str] = frozenset(STEPS)) -> list[Evidence]:
    """The case's evidence with its raw files, those of these steps, changed before they are read."""
    folder = IncidentFolder(case.folder)
    manifest = folder.read_json("manifest.json")
    from responder.capture.step import Brief

    entries = {entry["evidence"]["id"]: entry for entry in manifest["evidence"]}
    out = []
    for item in weighed(case):
        brief = entries[item.id]["brief"]
        if item.step in STEPS and item.step in steps and brief and item.files:
            told = Brief(
                target=case.report.incident.target, now=brief["now"], onset_at=brief["onset_at"],
                opened_at=brief["opened_at"], symptoms=case.report.incident.symptoms,
                signals=tuple(manifest["signals"]), scrape_interval_s=manifest["scrape_interval_s"],
            )  # fmt: skip
            facts, _ = read_facts(STEPS[item.step], dict(change(item.id, folder.read_raw(item.id))), told)
            item = item.model_copy(update={"facts": facts})
        out.append(item)
    return out


def half_the_samples(seed: int) -> Change:
    """Every second point of every metrics window is lost, at random."""

    def change(evidence: str, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        if "series.json" not in files or not evidence.startswith("metrics_window"):
            return files
        window = json.loads(files["series.json"])
        dice = random.Random(f"{seed}{evidence}")
        gone = [dice.random() < 0.5 for _ in range(window["length"])]
        for rows in (window["signals"], *window["engines"].values()):
            for name, values in rows.items():
                rows[name] = [None if lost else value for value, lost in zip(values, gone, strict=True)]
        return {**files, "series.json": json.dumps(window).encode()}

    return change


def clock_off(seconds: float) -> Change:
    """Our clock and Prometheus's differ: the onset lies elsewhere in the window."""

    def change(evidence: str, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        if "series.json" not in files or not evidence.startswith("metrics_window"):
            return files
        window = json.loads(files["series.json"])
        window["onset_at"] += seconds
        return {**files, "series.json": json.dumps(window).encode()}

    return change


def hostile_log(texts: Sequence[str]) -> Change:
    """What strangers send stands in the server's log, as vLLM logs prompts and its HTTP server paths."""

    def change(evidence: str, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        dated = _DATED.findall(files.get("log.txt", b""))
        if not dated:
            return files
        when = dated[-1].decode()
        lines = [
            f"INFO {when} [logger.py:40] Received request cmpl-1: prompt: {text!r}, params: None" for text in texts
        ]
        lines += [f'INFO:     10.0.0.1:40000 - "GET /{urllib.parse.quote(text)} HTTP/1.1" 404' for text in texts]
        return {**files, "log.txt": files["log.txt"] + "\n".join([*lines, ""]).encode(errors="replace")}

    return change


def hostile_labels(incident: Incident, text: str) -> Incident:
    """The same incident with a label somebody else chose."""
    symptoms = tuple(s.model_copy(update={"labels": {**s.labels, "model_name": text}}) for s in incident.symptoms)
    return incident.model_copy(update={"symptoms": symptoms})


def fewer_facts(evidence: Sequence[Evidence], share: float, seed: int) -> list[Evidence]:
    """Facts lost at random."""
    dice = random.Random(seed)
    return [
        item.model_copy(update={"facts": tuple(f for f in item.facts if dice.random() >= share)}) for item in evidence
    ]


def only_metrics(case: Case, content: Content) -> Case:
    """The case as it would have been with Prometheus alone."""
    verdict = judged_again(case, content, before_captures(case))
    return replace(case, report=case.report.model_copy(update={"verdict": verdict}), metrics_only=True)
