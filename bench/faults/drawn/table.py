"""How good are the verdicts on drawn servers? One table per part, with Wilson intervals, and every miss by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bench.scoring import figures
from bench.scoring.cases import Case, again, before_captures, both_named, is_right, second_named, without
from bench.scoring.histories import Told
from responder.model import Content


@dataclass(frozen=True)
class Said:
    """One verdict beside its truth."""

    part: str
    name: str
    causes: frozenset[str]
    right_class: bool
    first: str
    status: str
    probability: float
    ranked: tuple[str, ...]
    late_s: float
    left_out: str
    """Status of the first cause when playbooks have never heard of the true one."""
    words: str
    pair: bool
    """Two faults at once, `causes`."""
    both: bool
    """Both of them were named, as two."""
    second: bool
    """Two were named."""

    @property
    def right(self) -> bool:
        """The first cause is right."""
        return is_right(self.first, self.causes)


@dataclass
class Sheet:
    """Everything said so far; `told` has what was not found and what was said of nothing."""

    told: Told = field(default_factory=Told)
    said: list[Said] = field(default_factory=list)

    def note(self, content: Content) -> None:
        """Take in the cases of `told`: their folders may go afterwards."""
        self.said += [_said(case, content) for case in self.told.cases]
        self.told.cases.clear()

    def join(self, other: Sheet) -> None:
        """Add what was said of another seed."""
        self.said += other.said
        mine, theirs = self.told, other.told
        mine.missed += theirs.missed
        for part, days in theirs.days.items():
            mine.days[part] = mine.days.get(part, 0.0) + days
            mine.faults[part] = mine.faults.get(part, 0) + theirs.faults.get(part, 0)
            mine.found[part] = mine.found.get(part, 0) + theirs.found.get(part, 0)
            mine.false[part] = [*mine.false.get(part, ()), *theirs.false.get(part, ())]

    def misses(self) -> list[str]:
        """One line each."""
        wrong = [one for one in self.said if not one.right]
        lines = [f"WRONG {one.name}: {', '.join(sorted(one.causes)) or 'unknown'}; said {one.words}" for one in wrong]
        lines += [f"ONE OF TWO {one.name}: said {one.words}" for one in self.said if one.pair and not one.both]
        lines += [f"SECOND {one.name}: said {one.words}" for one in self.said if one.second and not one.pair]
        lines += [f"NOT FOUND {name}" for name in self.told.missed]
        return lines + [f"FALSE {name}" for names in self.told.false.values() for name in names]


def _said(case: Case, content: Content) -> Said:
    ranked = case.report.verdict.hypotheses
    unseen = again(case, without(content, case.causes), before_captures(case))[0] if case.causes else ranked[0]
    began = case.report.incident.opened_at if case.began is None else case.began
    symptoms = ",".join(symptom.alert for symptom in case.report.incident.symptoms)
    return Said(
        case.part, case.name, case.causes, case.report.incident.incident_class in case.classes, ranked[0].cause,
        ranked[0].status.value, ranked[0].probability, tuple(h.cause for h in ranked[:3]),
        case.report.incident.opened_at - began, unseen.status.value,
        ", ".join(f"{h.cause} {h.status.value} {h.probability:.2f}" for h in ranked[:3]) + f" [{symptoms}]",
        case.pair, both_named(case), second_named(case),
    )  # fmt: skip


def rows(sheet: Sheet, part: str) -> list[tuple[str, str]]:
    """(what, share with its interval) of one part."""
    mine = [one for one in sheet.said if one.part == part]
    known, unknown = [one for one in mine if one.causes], [one for one in mine if not one.causes]
    sure = [one for one in mine if one.status == "confirmed"]
    told = sheet.told
    faults, found = told.faults.get(part, 0), told.found.get(part, 0)
    false, days = len(told.false.get(part, ())), told.days.get(part, 0.0)
    late = sorted(one.late_s for one in mine)
    bound = f", at most {figures.poisson_upper(false) / days:.1f} per day" if days else ""
    return [
        ("found", figures.share(found, faults)),
        ("first cause right, of those found", _share(mine, lambda one: one.right)),
        ("… of known causes", _share(known, lambda one: one.right)),
        ("in the first three", _share(mine, lambda one: any(is_right(cause, one.causes) for cause in one.ranked))),
        ("both named, of two faults at once", _share([one for one in mine if one.pair], lambda one: one.both)),
        ("a second one named, of single faults", _share([o for o in mine if not o.pair], lambda o: o.second)),
        ("class right", _share(mine, lambda one: one.right_class)),
        ("confirmed: precision", _share(sure, lambda one: one.right)),
        ("confirmed: coverage", figures.share(len(sure), len(mine))),
        ("… of known causes", _share(known, lambda one: one.status == "confirmed")),
        ("unknown cause: not confirmed", _share(unknown, lambda one: one.status != "confirmed")),
        ("own cause left out: not confirmed", _share(known, lambda one: one.left_out != "confirmed")),
        ("ECE, 10 bins of equal mass", figures.calibration([(one.probability, one.right) for one in mine])),
        ("false incidents", f"{false} in {days:.2f} replica-days{bound}"),
        ("onset to opening, p50 / p95", f"{late[len(late) // 2]:.0f} / {late[int(0.95 * (len(late) - 1))]:.0f} s"
         if late else "–"),
    ]  # fmt: skip


def _share(of: Sequence[Said], holds: Callable[[Said], bool]) -> str:
    return figures.share(sum(map(holds, of)), len(of))


def text(sheet: Sheet) -> str:
    """Both parts side by side, what was drawn and missed per kind, and all misses."""
    parts = [part for part in ("tune", "score") if part in sheet.told.days]
    columns = [rows(sheet, part) for part in parts]
    lines = [f"| | {' | '.join(f'part {part}' for part in parts)} |", f"|---|{'---|' * len(parts)}"]
    for number, (name, _) in enumerate(columns[0] if columns else ()):
        lines.append(f"| {name} | {' | '.join(column[number][1] for column in columns)} |")
    lines += ["", "not found, by kind: " + (_counted(_kind(name) for name in sheet.told.missed) or "none")]
    lines.append("wrong, by kind: " + (_counted(_kind(one.name) for one in sheet.said if not one.right) or "none"))
    return "\n".join([*lines, *sheet.misses()])


def _kind(name: str) -> str:
    return name.partition(":")[0].partition("_")[2]


def _counted(names: Iterable[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(names).most_common())
