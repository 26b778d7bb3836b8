"""An incident that flaps for weeks stays as large as a day's: the first and the newest stay, the rest is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp

from responder.case import Case
from responder.correlate import Memory, Policy, correlate
from responder.folder import folder_of
from responder.kept import FIRST, FIRST_REVISIONS, NEWEST, NEWEST_REVISIONS, old_revisions, shortened
from responder.model import Delivery, Incident, Severity, Symptom, Target, TimelineEntry
from responder.publish import publish
from responder.replay import replay
from responder.report import to_json
from responder.respond import Responder
from responder.resume import recall
from tests.flow import Listener, brings, incident, kit, step

TARGET = Target(name="t", url="http://t")


def entries(first: int, last: int) -> tuple[TimelineEntry, ...]:
    return tuple(TimelineEntry(at=float(n), kind="note", says=f"entry {n}") for n in range(first, last))


def left_out(timeline: tuple[TimelineEntry, ...]) -> list[str]:
    return [entry.says for entry in timeline if "left out" in entry.says]


def test_weeks_of_flapping_leave_a_timeline_that_can_be_read() -> None:
    """Back every few minutes: one incident, its beginning and its latest turns, and how many there were between."""
    known: tuple[Incident, ...] = ()
    memory, policy = Memory(), Policy(hold_down_s=30, reopen_s=600)
    for n in range(1000):
        sick = Symptom(alert="A", incident_class="high_ttft", severity=Severity.WARNING, target="t",
                       since=n * 300.0, fired_at=n * 300.0)  # fmt: skip
        for at, symptoms in ((n * 300.0, [sick]), (n * 300.0 + 60, []), (n * 300.0 + 120, [])):
            decisions, memory = correlate(symptoms, known, memory, at, targets=[TARGET], policy=policy)
            known = tuple(d.incident for d in decisions) or known
    (one,) = known
    assert len(one.timeline) == FIRST + 1 + NEWEST
    assert [entry.kind for entry in one.timeline[:2]] == ["symptom", "opened"]
    assert one.timeline[-1].at == 999 * 300 + 120
    assert left_out(one.timeline) == [f"{2001 - FIRST - NEWEST} entries are left out here"]


def test_what_was_left_out_does_not_come_back_with_what_detection_still_knows() -> None:
    """Detection and the flow each keep a timeline; together it is counted once."""
    case = Case(incident(timeline=entries(0, 900)), folder_of(Path("/nowhere"), "i1"), TARGET)
    case.take(incident(timeline=entries(0, 901)))
    for _ in range(2):
        case.take(incident(timeline=shortened(entries(0, 901))))
        case.take(incident(timeline=entries(0, 901)))
    assert len(case.incident.timeline) == FIRST + 1 + NEWEST
    assert left_out(case.incident.timeline) == [f"{901 - FIRST - NEWEST} entries are left out here"]


async def test_of_each_step_the_first_and_the_newest_runs_are_kept(tmp_path: Path) -> None:
    """In memory, on disk and in the journal; numbers are not used again, and the report replays."""
    async with aiohttp.ClientSession() as http:
        parts = kit(tmp_path, http, Listener(), step("look", brings({"busy": True})))
        try:
            case, responder = Case(incident(), folder_of(tmp_path, "i1"), parts.targets["t"]), Responder(parts)
            for done in (15, 1):
                for _ in range(done):
                    await responder._climb(case)
                await publish(parts, case, "update", quick=True)
            names = ["look", "look-2", *(f"look-{n}" for n in range(7, 17))]
            assert [item.id for item in case.evidence] == names
            assert left_out(case.incident.timeline) == [
                "4 captures are left out: of each step the first 2 and the newest 10 are kept"
            ]
            assert sorted(path.name for path in (case.folder.path / "raw").iterdir()) == sorted(names)
            again = Case(incident(), case.folder, case.target)
            await recall(parts, again)
            assert {item.id for item in again.evidence} == set(names)
            assert to_json(replay(case.folder.path, parts.steps)) == (case.folder.path / "report.json").read_bytes()
        finally:
            parts.store.close()


async def test_old_revisions_go_but_for_those_somebody_has_still_to_be_sent(tmp_path: Path) -> None:
    """A receiver that is dead for a weekend gets its messages all the same."""
    async with aiohttp.ClientSession() as http:
        parts: Any = kit(tmp_path, http, Listener())
        try:
            case = Case(incident(), folder_of(tmp_path, "i1"), parts.targets["t"], revision=69)
            for number in range(1, 70):
                case.folder.write(f"revisions/{number}/summary.txt", b"x")
            waits = Delivery(id="d", incident="i1", revision=15, receiver="dead", stage="final")
            await parts.store.add_deliveries([waits])
            await publish(parts, case, "update", quick=True)
            there = sorted(int(path.name) for path in (case.folder.path / "revisions").iterdir())
            assert there == [*range(1, FIRST_REVISIONS + 1), 15, *range(71 - NEWEST_REVISIONS, 71)]
            assert old_revisions(range(1, 61), ()) == []
        finally:
            parts.store.close()
