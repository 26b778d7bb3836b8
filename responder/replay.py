"""Does a stored incident still give the same verdict? The folder's bytes are read again; nothing else is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from responder.capture.metrics_window import series_of
from responder.capture.step import Step
from responder.collect import read_facts
from responder.diagnose import diagnose
from responder.folder import IncidentFolder
from responder.manifest import brief_again
from responder.model import Content, Evidence, Experience, Incident, Plan, Report, Series, Timings, TraceView
from responder.traces.shown import ANALYSIS, views

TRANSLATIONS = "translations.json"
"""Beside the report: language -> sentence -> the operator's own translation."""


class NotAnIncident(Exception):
    """The folder is no incident folder, or a file of it is broken; the message names the file."""


def replay(path: Path, steps: Mapping[str, Step], content: Content | None = None) -> Report:
    """The report of a folder, from its raw bytes; with other `content`, what today's playbooks would say.

    NotAnIncident when the folder cannot be read.
    """
    folder = IncidentFolder(path)
    if not (path / "manifest.json").exists():
        raise NotAnIncident(f"{path}: {_instead(path)}")
    try:
        manifest = folder.read_json("manifest.json")
        if content is None and not (path / "content.json").exists():
            raise NotAnIncident(
                f"{path} holds no content.json: the playbooks in force then were not kept. Add --today to have the "
                "stored bytes judged by today's"
            )
        in_force = content or Content.model_validate(folder.read_json("content.json"))
        told = manifest["report"]
        incident = Incident.model_validate(told["incident"])
        plan = Plan.model_validate(told["plan"])
        evidence = tuple(item for item, _ in stored_evidence(folder, steps))
        weighed = set(manifest["weighed"])
        timings = Timings.model_validate(told["timings"])
        verdict = diagnose(
            incident, in_force.playbooks, in_force.causes, tuple(e for e in evidence if e.id in weighed), plan
        )
        return Report(
            revision=told["revision"],
            stage=told["stage"],
            incident=incident,
            verdict=verdict,
            evidence=evidence,
            plan=plan,
            timings=timings,
            series=stored_series(folder, evidence),
            traces=stored_traces(folder, evidence),
            target_url=told["target_url"],
            owed=tuple(told.get("owed", ())),
            experience=Experience.model_validate(told.get("experience", {})),
            generated_at=told["generated_at"],
            before=told.get("before"),
            judged_anew=content is not None,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotAnIncident(f"{path}: {type(error).__name__}: {error}") from None


def _instead(path: Path) -> str:
    """What to give in place of a path that is no incident's folder."""
    if not path.exists():
        return "no such folder; an incident's is DATA_DIR/incidents/ID, and `responder incidents list` shows the ids"
    inside = sorted({*path.glob("*/manifest.json"), *path.glob("incidents/*/manifest.json")}) if path.is_dir() else []
    if inside:
        return f"this folder holds {len(inside)} incidents; give one of them, for example {inside[0].parent}"
    return "no incident's folder, for it holds no manifest.json; give DATA_DIR/incidents/ID"


def told_in(path: Path) -> str:
    """The language a stored incident was told in."""
    try:
        return str(IncidentFolder(path).read_json("manifest.json").get("language", "en"))
    except (OSError, ValueError, AttributeError):
        return "en"


def own_words(path: Path, code: str) -> dict[str, str]:
    """The operator's translations a stored incident was told with."""
    try:
        return {str(k): str(v) for k, v in IncidentFolder(path).read_json(TRANSLATIONS).get(code, {}).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def stored_evidence(folder: IncidentFolder, steps: Mapping[str, Step]) -> list[tuple[Evidence, dict[str, Any]]]:
    """Every step's evidence with its facts read again from the raw bytes, and its manifest entry."""
    manifest = folder.read_json("manifest.json")
    told = {
        "target": manifest["report"]["incident"]["target"],
        "signals": manifest["signals"],
        "scrape_s": manifest["scrape_interval_s"],
    }
    return list(zip(evidence_again(folder, steps, manifest["evidence"], told), manifest["evidence"], strict=True))


def evidence_again(
    folder: IncidentFolder, steps: Mapping[str, Step], entries: Iterable[Mapping[str, Any]], told: Mapping[str, Any]
) -> tuple[Evidence, ...]:
    """Evidence of manifest entries, with facts read again; `told`: target, signals, scrape_s for the briefs."""
    out = []
    for entry in entries:
        item = Evidence.model_validate(entry["evidence"])
        step, brief = steps.get(item.step), entry["brief"]
        if step is not None and brief and item.files:
            facts, _ = read_facts(step, folder.read_raw(item.id), brief_again(told, brief))
            item = item.model_copy(update={"facts": facts})
        out.append(item)
    return tuple(out)


def stored_series(folder: IncidentFolder, evidence: tuple[Evidence, ...]) -> tuple[Series, ...]:
    """The series of the last metrics window, for charts."""
    for item in reversed(evidence):
        if item.step == "metrics_window":
            raw = folder.read_raw(item.id).get("series.json")
            if raw:
                return series_of(raw)
    return ()


def stored_traces(folder: IncidentFolder, evidence: Iterable[Evidence]) -> tuple[TraceView, ...]:
    """What the last profile showed."""
    for item in reversed(tuple(evidence)):
        if item.step == "torch_profiler" and item.files:
            return views(folder.read_file(item.id, ANALYSIS), item.id)
    return ()
