"""How right are the verdicts, and do they know when they are not? Recorded incidents and histories, with rivals beside.

python -m bench.diagnosis [--markdown] [--no-peers] [--plot FILE.svg] [--incidents DIR ...] [--histories FILE.om.gz ...]

Scenarios of the part `tune` were there when weights were set; the score is on `score`. Metrics only: what Prometheus
alone told, as in `responder backtest`. All intervals are 95 % (Wilson; Poisson for false incidents).
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import tempfile
import time
from collections.abc import Callable, Sequence

from bench.scoring import figures, missing, peers, rivals
from bench.scoring.cases import (
    Case,
    again,
    before_captures,
    both_named,
    clock_off,
    fewer_facts,
    from_folder,
    grounded,
    half_the_samples,
    hostile_labels,
    hostile_log,
    is_right,
    only_metrics,
    reread,
    same_bytes,
    second_named,
    weighed,
    without,
)
from bench.scoring.histories import Told, about_of, add
from responder import __version__
from responder.capture import STEPS
from responder.config import Config
from responder.content import load
from responder.model import Content, Hypothesis
from tests.hostile import HOSTILE
from tests.live.harness import find

INCIDENTS = find.ROOT / "tests" / "incidents"
HISTORIES = find.ROOT / "tests" / "data"
PLANTED = (
    "VLLM::Worker_TP0 is stopped", "Profiler started", "CUDA out of memory", "EngineDeadError",
    "root cause: capacity_exceeded, confirmed",
)  # fmt: skip
"""Hostile texts of our own field: they claim a cause."""
Row = tuple[str, list[str]]


def main() -> None:
    """Everything, printed part by part."""
    given = arguments()
    content = load(Config(), STEPS)
    began = time.time()
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = pathlib.Path(scratch_name)
        folders = sorted(p.parent for d in given.incidents for p in d.glob("*/truth.json"))
        recorded = [from_folder(path, content) for path in folders]
        told = Told()
        for history in given.histories:
            print(f"backtest of {history.name}", flush=True)
            add(told, history, content, scratch)
        asked: peers.Answers = {}
        versions = {name: "" for name in peers.PACKAGES}
        if not given.no_peers:
            environment = given.peers.resolve()
            versions = peers.install(environment)
            asked = peers.ask(told.moments, environment, scratch, versions)
        others_ran = ", ".join(f"{name} {version or '(not run)'}" for name, version in versions.items())
        print(f"\n{time.strftime('%Y-%m-%d')} · responder {__version__} · Python {platform.python_version()} · "
              f"{platform.machine()}, {platform.system()} · peers: {others_ran}")  # fmt: skip
        print(f"{len(recorded)} recorded incidents, {sum(told.faults.values())} faults in {len(given.histories)} "
              f"histories; {time.time() - began:.0f} s so far\n")  # fmt: skip
        for part in ("tune", "score"):
            show(part, recorded, told, asked, content, given)
        misses("after captures", recorded)
        misses("metrics only", [only_metrics(case, content) for case in recorded] + told.cases)
        unfound(told)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.diagnosis", description=__doc__)
    parser.add_argument("--incidents", type=pathlib.Path, nargs="*", default=[INCIDENTS], help="folders of folders")
    histories = sorted(path for path in HISTORIES.rglob("*.om.gz") if about_of(path))
    parser.add_argument("--histories", type=pathlib.Path, nargs="*", default=histories, help="OpenMetrics with truth")
    parser.add_argument("--markdown", action="store_true", help="tables for the README")
    parser.add_argument("--no-peers", action="store_true", help="do not install and ask vllm-doctor, inference-doctor")
    parser.add_argument("--peers", type=pathlib.Path, default=find.ROOT / ".cache" / "peers", help="their environment")
    parser.add_argument("--plot", type=pathlib.Path, help="reliability plot, .svg or .png; the part goes into the name")
    return parser.parse_args()


def show(
    part: str, recorded: Sequence[Case], told: Told, asked: peers.Answers,
    content: Content, given: argparse.Namespace,
) -> None:  # fmt: skip
    """The tables of one part."""
    full = [case for case in recorded if case.part == part]
    past = [case for case in told.cases if case.part == part]
    metrics = [only_metrics(case, content) for case in full] + past
    if not metrics and not told.days.get(part):
        print(f"part {part}: no scenario yet\n")
        return
    rows = [both(name, how, metrics, full) for name, how in VERDICTS] + left_out(metrics, full, content)
    table(f"part {part}: verdicts", ("metrics only", "after captures"), rows, given.markdown)
    table(f"part {part}: detection, from histories", ("",), detection(part, told, full), given.markdown)
    table(f"part {part}: worse data, same verdict", ("after captures or, from histories, metrics only",),
          robustness([*full, *past], content), given.markdown)  # fmt: skip
    table(f"part {part}: less data, after captures", ("",), left_without(full, content), given.markdown)
    table(f"part {part}: others, metrics only", ("top-1",), others(part, metrics, told, asked), given.markdown)
    sure = [(case.report.verdict.hypotheses[0].probability, first_right(case)) for case in [*full, *past]]
    if given.plot and sure:
        path = given.plot.with_stem(f"{given.plot.stem}-{part}")
        figures.draw(sure, str(path))
        print(f"reliability plot: {path}\n")


# ------------------------------------------------------------------------------------------------------- verdicts


def first_right(case: Case) -> bool:
    """The first cause is right."""
    return is_right(case.report.verdict.hypotheses[0].cause, case.causes)


def top(cases: Sequence[Case], places: int) -> str:
    """Right within the first places."""
    hits = sum(any(is_right(h.cause, c.causes) for h in c.report.verdict.hypotheses[:places]) for c in cases)
    return figures.share(hits, len(cases))


def counted(cases: Sequence[Case], holds: Callable[[Case], bool]) -> str:
    """Of how many it holds."""
    return figures.share(sum(map(holds, cases)), len(cases))


def f1(cases: Sequence[Case]) -> str:
    """Over causes."""
    value = figures.macro_f1([(sorted(c.causes)[0] if c.causes else "unknown", said(c)) for c in cases])
    return "–" if value is None else f"{value:.2f} of {len(cases)}"


def said(case: Case) -> str:
    """The first cause, as the truth calls it where it is right."""
    cause = case.report.verdict.hypotheses[0].cause
    return sorted(case.causes)[0] if case.causes and is_right(cause, case.causes) else cause


def confirmed(cases: Sequence[Case]) -> list[Case]:
    """Those whose first cause is said to be confirmed."""
    return [c for c in cases if c.report.verdict.hypotheses[0].status.value == "confirmed"]


def sureness(cases: Sequence[Case]) -> list[tuple[float, bool]]:
    """Probability of the first cause, and whether it is right."""
    return [(c.report.verdict.hypotheses[0].probability, first_right(c)) for c in cases]


def _plain(value: float | None, of: int) -> str:
    return "–" if value is None else f"{value:.3f} of {of}"


VERDICTS: tuple[tuple[str, Callable[[Sequence[Case]], str]], ...] = (
    ("top-1", lambda cases: top(cases, 1)),
    ("top-3", lambda cases: top(cases, 3)),
    ("macro-F1", f1),
    ("class", lambda cases: counted(cases, lambda c: c.report.incident.incident_class in c.classes)),
    ("grounded top-1", lambda cases: counted(cases, lambda c: first_right(c) and grounded(c))),
    ("confirmed: precision", lambda cases: counted(confirmed(cases), first_right)),
    ("confirmed: coverage", lambda cases: figures.share(len(confirmed(cases)), len(cases))),
    ("both named, of two faults at once", lambda cases: counted([c for c in cases if c.pair], both_named)),
    ("a second one named, of single faults", lambda cases: counted([c for c in cases if not c.pair], second_named)),
    ("Brier", lambda cases: _plain(figures.brier(sureness(cases)), len(cases))),
    ("ECE, 10 bins of equal mass", lambda cases: figures.calibration(sureness(cases))),
)


def both(name: str, how: Callable[[Sequence[Case]], str], metrics: Sequence[Case], full: Sequence[Case]) -> Row:
    """One row, before and after captures."""
    return name, [how(metrics), how(full)]


def left_out(metrics: Sequence[Case], full: Sequence[Case], content: Content) -> list[Row]:
    """The true cause is taken out of the playbooks: nothing else may be confirmed."""

    def abstained(cases: Sequence[Case]) -> str:
        known = [case for case in cases if case.causes]
        kept = sum(not _confirmed(again(c, without(content, c.causes), _evidence(c))) for c in known)
        return figures.share(kept, len(known))

    return [("unseen cause (its own left out): not confirmed", [abstained(metrics), abstained(full)])]


def _evidence(case: Case) -> list:  # type: ignore[type-arg]
    return before_captures(case) if case.metrics_only else list(weighed(case))


def _confirmed(ranked: Sequence[Hypothesis]) -> bool:
    return ranked[0].status.value == "confirmed"


# ------------------------------------------------------------------------------------- detection, worse data, others


def detection(part: str, told: Told, full: Sequence[Case]) -> list[Row]:
    """From histories; times to cause and report from the recorded incidents, which had captures."""
    faults, found, false = told.faults.get(part, 0), told.found.get(part, 0), len(told.false.get(part, []))
    days = told.days.get(part, 0.0)
    late = [c.report.incident.opened_at - c.began for c in told.cases if c.part == part and c.began is not None]
    hangs = [c.report.incident.opened_at - c.began for c in told.cases
             if c.part == part and c.began is not None and "hang_or_crash" in c.classes]  # fmt: skip
    causes = [t for c in full if (t := c.report.timings.first_cause_s) is not None]
    reports = [t for c in full if (t := c.report.timings.report_s) is not None]
    most = figures.poisson_upper(false) / days if days else 0.0
    rate = f"{false} in {days:.3f} replica-days: at most {most:.1f} per day" if days else "–"
    return [
        ("recall", [figures.share(found, faults)]),
        ("precision", [figures.share(found, found + false)]),
        ("false incidents", [rate]),
        ("onset to opening, p50 / p95", [_times(late)]),
        ("… of hangs and crashes", [_times(hangs)]),
        ("opening to first cause, p50 / p95", [_times(causes)]),
        ("opening to report, p50 / p95", [_times(reports)]),
    ]


def _times(values: Sequence[float]) -> str:
    middle, late = figures.quantile(values, 0.5), figures.quantile(values, 0.95)
    return "–" if middle is None or late is None else f"{middle:.1f} / {late:.1f} s of {len(values)}"


def robustness(cases: Sequence[Case], content: Content) -> list[Row]:
    """How often the first cause, or its being right, survives."""
    rows = []
    for name, change in (
        ("half of the samples lost: top-1", half_the_samples(7)),
        ("clock 5 s ahead: top-1", clock_off(5.0)),
        ("clock 5 s behind: top-1", clock_off(-5.0)),
    ):
        right = sum(is_right(again(c, content, reread(c, change))[0].cause, c.causes) for c in cases)
        rows.append((name, [figures.share(right, len(cases))]))
    right = sum(is_right(again(c, content, fewer_facts(weighed(c), 0.3, 7))[0].cause, c.causes) for c in cases)
    rows.append(("30 % of the facts lost: top-1", [figures.share(right, len(cases))]))
    changed = tries = 0
    for case in cases:
        before = _words(again(case, content, weighed(case)))
        log = reread(case, hostile_log([*HOSTILE, *PLANTED]))
        changed += _words(again(case, content, log)) != before
        labels = [hostile_labels(case.report.incident, text) for text in (*HOSTILE, *PLANTED)]
        changed += sum(_words(again(case, content, weighed(case), incident)) != before for incident in labels)
        tries += 1 + len(labels)
    rows.append(("hostile texts in logs and labels: verdicts changed", [f"{changed} of {tries}"]))
    same = sum(same_bytes(case, content) for case in cases)
    rows.append(("replayed twice, same bytes", [figures.share(same, len(cases))]))
    return rows


def left_without(cases: Sequence[Case], content: Content) -> list[Row]:
    """What is called confirmed when something was not there: it may be less, and must not be wrong."""
    return [
        ("each step left out", [missing.counted(list(missing.steps_left_out(cases, content)))]),
        (
            f"each metric family left out (every {missing.EVERY}th of each incident)",
            [missing.counted(list(missing.families_left_out(cases, content)))],
        ),
        ("no Prometheus", [missing.counted(list(missing.no_prometheus(cases, content)))]),
    ]


def _words(ranked: Sequence[Hypothesis]) -> str:
    return json.dumps([[h.cause, h.status.value, h.probability] for h in ranked])


def others(part: str, metrics: Sequence[Case], told: Told, asked: peers.Answers) -> list[Row]:
    """Simple ways on the same facts; peers on the moments of the histories."""
    vectors = [(case, rivals.facts_of(case)) for case in metrics]
    ways: list[tuple[str, Callable[[Case, rivals.Vector], str]]] = [
        ("most frequent cause (leave one out)", lambda case, _: rivals.most_frequent(case, metrics)),
        ("first rule that fits", lambda _, facts: rivals.first_rule(facts)),
        ("largest change", lambda _, facts: rivals.largest_change(facts)),
        ("nearest recording (leave one out)", lambda case, _: rivals.nearest(case, vectors)),
    ]
    rows: list[Row] = [("responder", [top(metrics, 1)])]
    for name, way in ways:
        rows.append((name, [figures.share(sum(is_right(way(c, f), c.causes) for c, f in vectors), len(vectors))]))
    parts = {case.name: case.part for case in told.cases}
    mine = [case for case in told.cases if case.part == part]
    rows.append(("responder, histories alone", [top(mine, 1)]))
    for peer in peers.PACKAGES:
        answers = [a for a in asked.get(peer, ()) if parts.get(a[0], part) == part]
        text = figures.share(sum(is_right(a[2], a[1]) for a in answers), len(answers)) if peer in asked else "not run"
        rows.append((f"{peer}, histories alone", [text]))
    return rows


def misses(when: str, cases: Sequence[Case]) -> None:
    """Every verdict that was wrong."""
    print(f"wrong first causes, {when}:")
    for case in cases:
        if not first_right(case):
            first = case.report.verdict.hypotheses[:3]
            ranked = ", ".join(f"{h.cause} {h.status.value} {h.probability:.2f}" for h in first)
            print(f"  {case.name} ({case.part}): {', '.join(sorted(case.causes)) or 'unknown'}; said {ranked}")


def unfound(told: Told) -> None:
    """Every fault that was not found, every incident that was none."""
    for name in told.missed:
        print(f"  {name}: not found")
    for name in (name for names in told.false.values() for name in names):
        print(f"  {name}: nothing was wrong")


def table(title: str, columns: Sequence[str], rows: Sequence[Row], markdown: bool) -> None:
    """Aligned text, or Markdown."""
    if markdown:
        print(f"**{title}**\n\n| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
        for name, cells in rows:
            print(f"| {name} | {' | '.join(cells)} |")
    else:
        width = max(len(name) for name, _ in rows)
        print(title)
        print(f"  {'':{width}}  {'  '.join(f'{c:28}' for c in columns)}".rstrip())
        for name, cells in rows:
            print(f"  {name:{width}}  {'  '.join(f'{c:28}' for c in cells)}".rstrip())
    print(flush=True)


if __name__ == "__main__":
    main()
