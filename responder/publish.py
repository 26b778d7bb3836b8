"""How does a revision of a report reach the folder and the queue? Everything a replay needs is written beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import structlog

from responder import __version__, charts
from responder.buttons import Buttons
from responder.capture.metrics_window import series_of
from responder.capture.step_recorder import charts as steps_of
from responder.case import Case, Kit, show_others
from responder.diagnose import diagnose
from responder.killpoint import reach
from responder.model import Button, Experience, Plan, Report, Series, TimelineEntry
from responder.offers import offers
from responder.replay import TRANSLATIONS, stored_traces
from responder.report import summary_text, to_html, to_json, to_markdown
from responder.requests.stepchart import draw as draw_steps
from responder.routes import receivers_for
from responder.surplus import take_out, throw_away
from responder.turned import entries, named, why

log = structlog.get_logger()
Stage = Literal["first", "update", "final", "resolved"]
CHART_TIMEOUT_S = 20.0
STEPS_BEFORE_S = 60.0
BARE = (
    "this is the alert alone: looking for its cause failed inside the responder ({error}, see its log) and is tried "
    "again; if no other report follows, nobody has looked"
)


def weigh(kit: Kit, case: Case) -> None:
    """Diagnose with what is there; a new leading cause, or another certainty, is an entry of the timeline, with why."""
    before = case.verdict
    case.verdict = diagnose(case.incident, kit.content.playbooks, kit.content.causes, case.weighed, case.plan)
    top = case.verdict.hypotheses[0]
    if notes := entries(before, case.verdict, kit.clock()):
        case.incident = case.incident.model_copy(update={"timeline": (*case.incident.timeline, *notes)})
    if top.cause != "unknown" and case.timings.first_cause_s is None:
        since = round(kit.clock() - case.incident.opened_at, 3)
        case.timings = case.timings.model_copy(update={"first_cause_s": since})


async def publish(kit: Kit, case: Case, stage: Stage, *, quick: bool = False) -> None:
    """Write a revision into the folder, then queue it for every receiver; `quick` is without charts."""
    series = await asyncio.to_thread(_series, case)
    traces = await asyncio.to_thread(stored_traces, case.folder, tuple(case.evidence))
    series = charts.with_limits(series, case.incident.symptoms, kit.content.rules)
    experience = await _experience(kit, case) if kit.experience and not quick else Experience()
    # No await from here to the report: what is said and what was weighed must be of one moment.
    out = take_out(kit, case)
    weigh(kit, case)
    if stage == "resolved" and case.incident.state == "open":
        stage = "update"  # it came back while this was prepared
    case.revision += 1
    case.told_class = case.incident.incident_class
    if case.timings.detected_s is None:
        since = round(case.incident.opened_at - case.incident.onset_at, 3)
        case.timings = case.timings.model_copy(update={"detected_s": since})
    assert case.verdict is not None
    before = (*case.said[:3], why(case.said_verdict, case.verdict) if case.said_verdict else "") if case.said else None
    case.said, case.said_verdict = named(case.verdict), case.verdict
    report = Report(
        revision=case.revision,
        stage=stage,
        incident=case.incident,
        verdict=case.verdict,
        evidence=tuple(case.evidence),
        plan=case.plan,
        timings=case.timings,
        series=series,
        traces=traces,
        target_url=case.target.url,
        owed=kit.duties.words(case.target.name) if kit.duties else (),
        experience=experience,
        generated_at=kit.clock(),
        before=before,
    )
    weighed = [item.id for item in case.weighed]
    drawn = {} if quick else await _draw(kit, report, case)
    now = kit.clock()
    if stage == "final" and case.timings.report_s is None:
        case.timings = case.timings.model_copy(update={"report_s": round(now - case.incident.opened_at, 3)})
    report = report.model_copy(update={"generated_at": now, "timings": case.timings})
    # Whoever was told of it once hears how it goes on, whatever the hour.
    case.told |= set(receivers_for(report.incident, case.target, kit.routes, tuple(kit.outbox.notifiers), now))
    buttons = await asyncio.to_thread(Buttons(kit.data_dir / "buttons").offer, case.incident.id,
                                      offers(kit, case, report))  # fmt: skip
    async with kit.pen:
        await asyncio.to_thread(_write, kit, case, report, drawn, weighed, buttons)
    reach("publish.written")
    await show_others(kit, case)
    case.final_told = case.final_told or stage == "final"
    # What is final stays final through later updates: a restart must not make it anew.
    kept = "final" if stage == "update" and case.final_told else stage
    await kit.store.publish(
        case.incident, stage=kept, revision=report.revision,
        deliveries=kit.outbox.deliveries(case.incident.id, report.revision, stage, case.told),
    )  # fmt: skip
    reach("publish.committed")
    kit.outbox.wake()
    await throw_away(kit, case, out)
    top = report.verdict.hypotheses[0]
    log.info("report.published", stage=stage, revision=report.revision, cause=top.cause, status=top.status.value)


async def publish_bare(kit: Kit, case: Case, error: Exception) -> None:
    """The alert alone, where nobody has been told of it and the flow fails: without what may have made it fail.

    The store knows whether a revision was ever queued; what lies in the folder may never have left.
    """
    try:
        known = await kit.store.incident(case.incident.id)
    except Exception:  # nobody knows then whether they were told
        log.exception("incident.untold", incident=case.incident.id)
        return
    if known and known[2]:
        return
    note = TimelineEntry(at=kit.clock(), kind="note", says=BARE.format(error=type(error).__name__))
    case.incident = case.incident.model_copy(update={"timeline": (*case.incident.timeline, note)})
    plain = kit.content.model_copy(update={"playbooks": (), "causes": ()})
    evidence, plan, case.evidence, case.plan = case.evidence, case.plan, [], Plan()
    try:
        await publish(replace(kit, content=plain, experience=None), case, "first", quick=True)
    except Exception:  # then there is nothing left to tell it with but the log
        log.exception("incident.untold", incident=case.incident.id)
    finally:
        case.evidence, case.plan, case.content_written = evidence, plan, None


async def _experience(kit: Kit, case: Case) -> Experience:
    """What earlier incidents say. A fault in it, or in what they left, costs these lines and not the report."""
    assert kit.experience is not None
    try:
        return await kit.experience(case)
    except Exception:  # whatever it is: somebody waits for the rest
        log.exception("experience.failed", incident=case.incident.id)
        return Experience()


async def _draw(kit: Kit, report: Report, case: Case) -> dict[str, str]:
    """Chart name -> SVG text; a report without pictures is still a report, so none is no failure."""
    cache = kit.data_dir / "cache" / "matplotlib"
    drawn = await charts.draw(report, case.folder.path / "charts", CHART_TIMEOUT_S, cache,
                               kit.languages[0])  # fmt: skip
    steps = await asyncio.to_thread(_steps, case, kit.clock())
    return drawn | {"steps": steps} if steps else drawn


def _steps(case: Case, now: float) -> str:
    """Single engine steps around the onset as SVG, when the recorder inside vLLM brought some."""
    for item in reversed(case.evidence):
        if item.step == "step_recorder" and item.files:
            try:
                lines = steps_of(case.folder.read_raw(item.id), case.incident.onset_at - STEPS_BEFORE_S, now)
            except OSError:
                return ""
            svg = draw_steps(lines) if lines else ""
            if svg:
                case.folder.write("charts/steps.svg", svg.encode())
            return svg
    return ""


def _write(
    kit: Kit, case: Case, report: Report, drawn: Mapping[str, str], weighed: list[str], buttons: tuple[Button, ...]
) -> None:
    if case.content_written is not kit.content:
        case.folder.write_json("content.json", kit.content.model_dump(mode="json"))
        case.content_written = kit.content
    if own := {spoken.code: dict(spoken.own) for spoken in kit.languages if spoken.own}:
        case.folder.write_json(TRANSLATIONS, own)
    rows = [button.model_dump(mode="json") for button in buttons]
    case.folder.write_json(f"revisions/{report.revision}/buttons.json", rows)
    for number, language in enumerate(kit.languages):
        body, markdown = to_json(report, language), to_markdown(report, language).encode()
        end = f".{language.code}" if number else ""
        base = f"revisions/{report.revision}"
        case.folder.write(f"{base}/report{end}.json", body)
        case.folder.write(f"{base}/report{end}.md", markdown)
        case.folder.write(f"{base}/summary{end}.txt", summary_text(report, language).encode())
        case.folder.write(f"report{end}.json", body)
        case.folder.write(f"report{end}.md", markdown)
        page = to_html(report, drawn, language, charts.in_english(case.folder.path / "charts"))
        case.folder.write(f"report{end}.html", page.encode())
    case.folder.write_json(
        "manifest.json",
        {
            "apiVersion": "responder/v1",
            "kind": "Manifest",
            "responder": __version__,
            "language": kit.languages[0].code,
            "report": report.model_dump(mode="json", exclude={"evidence", "verdict", "series", "traces"}),
            "signals": sorted(kit.signals),
            "scrape_interval_s": kit.scrape_interval_s,
            "weighed": weighed,
            "told": sorted(case.told),
            "said": case.said,
            "evidence": [case.manifest[e.id] for e in report.evidence],
        },
    )


def _series(case: Case) -> tuple[Series, ...]:
    for item in reversed(case.evidence):
        if item.step == "metrics_window":
            raw = case.folder.read_raw(item.id).get("series.json")
            if raw:
                return series_of(raw)
    return ()
