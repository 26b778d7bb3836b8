"""What can a person press in a report of this moment?"""

from __future__ import annotations

from responder.case import Case, Kit
from responder.model import Button, Cause, Report
from responder.report_words import authored
from responder.words import speaking

SILENCES_S = (3600.0, 4 * 3600.0, 24 * 3600.0)
MOST_TRUTHS = 25
"""Causes that a message offers instead of a wrong one: their names take room from what it says."""


def offers(kit: Kit, case: Case, report: Report) -> list[Button]:
    """Acknowledge and silence while it is open, a pair for every capture that waits, right or wrong for a cause."""
    incident = report.incident
    about = {"incident": incident.id, "target": incident.target}
    out: list[Button] = []
    if incident.state == "open":
        if incident.acknowledged is None:
            out.append(Button(action="acknowledge", **about))
        out += [Button(action="silence", seconds=seconds, **about) for seconds in SILENCES_S]
        out += _questions(kit, case, about)
    lead = report.verdict.hypotheses[0] if report.verdict.hypotheses else None
    if lead and report.stage in ("final", "resolved"):
        out.append(Button(action="right", cause=lead.cause, **about))
        with speaking(kit.languages[0]):
            for cause in instead(kit, report.incident.incident_class, [h.cause for h in report.verdict.hypotheses]):
                out.append(Button(action="wrong", cause=lead.cause, truth=cause.id, what=authored(cause.title, 60),
                                  **about))  # fmt: skip
        out.append(Button(action="wrong", cause=lead.cause, **about))
    return out


def instead(kit: Kit, incident_class: str, named: list[str], most: int = MOST_TRUTHS) -> list[Cause]:
    """What it may have been instead of the first of `named`: its rivals, then what the class's playbooks tell apart,
    then every other cause."""
    known = {cause.id: cause for cause in kit.content.causes}
    books = [c for book in kit.content.playbooks if book.incident_class == incident_class for c in book.causes]
    order = dict.fromkeys([*named, *books, *known])
    return [known[name] for name in order if name in known and name not in named[:1]][:most]


def _questions(kit: Kit, case: Case, about: dict[str, str]) -> list[Button]:
    out: list[Button] = []
    for name, call in case.asked.items():
        item = kit.approvals.of(case.incident.id, name) if kit.approvals else None
        if item is None or item.decision != "pending":
            continue
        step = kit.steps[name]
        what = f"{name}: {step.worst_pause_s:g} s, {step.max_bytes >> 20} MiB; {call.why}"[:280]
        more = {"step": name, "rung": call.rung, "until": item.expires_at, "what": what}
        out += [Button(action="approve", **about, **more), Button(action="deny", **about, **more)]
    return out
