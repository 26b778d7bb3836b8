"""Does a playbook test name what there is? Alerts, facts, causes, steps, series; else it can never be right."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator

from responder.authoring import series
from responder.authoring.testfile import CasePart, TestFile
from responder.classes import PRECEDENCE, UNKNOWN
from responder.crosscheck import COMMAND, Names
from responder.located import Path, Source, did_you_mean
from responder.model import Problem, Rule, Signal

WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
ALWAYS = ("up", "vllm:num_requests_running")
"""What finding the servers of a history reads beside the rules."""
OUTPUTS_AT = "a step, or a fact that a `command` step declares"


def metrics_of(signals: Iterable[Signal], rules: Iterable[Rule]) -> set[str]:
    """Every metric name the rules read (and every other word of their PromQL, which does no harm)."""
    texts = [*(signal.expr for signal in signals), *(rule.expr for rule in rules)]
    return {word for text in texts for word in WORD.findall(text)} | set(ALWAYS)


def wrong_names(source: Source, tests: TestFile, names: Names, metrics: Collection[str]) -> list[Problem]:
    """Everything the cases of a file name and nobody defines. `metrics` as of `metrics_of`."""
    found: list[Problem] = []
    for number, case in enumerate(tests.cases):
        at: Path = ("cases", number)
        found += _of_expect(source, at, case, names)
        found += _of_facts(source, at, case, names)
        found += _of_series(source, at, case, metrics)
    return found


def _of_expect(source: Source, at: Path, case: CasePart, names: Names) -> Iterator[Problem]:
    causes = {*names.causes, UNKNOWN}
    expect = case.expect
    known: tuple[tuple[Path, list[str], Collection[str], str], ...] = (
        (("alerts",), case.alerts, names.alerts, "no rule defines the alert"),
        (("expect", "alerts"), expect.alerts, names.alerts, "no rule defines the alert"),
        (("expect", "first"), expect.first, causes, "no playbook knows the cause"),
        (("expect", "not_confirmed"), expect.not_confirmed, causes, "no playbook knows the cause"),
        (("expect", "runs"), expect.runs, names.steps, "there is no step"),
        (("expect", "refuses"), expect.refuses, names.steps, "there is no step"),
        (
            ("expect", "class"),
            [expect.incident_class] if expect.incident_class else [],
            PRECEDENCE,
            "there is no class",
        ),
        (("expect", "playbooks"), expect.playbooks, names.books, "there is no playbook"),
        (("expect", "against"), expect.against, names.evidence, "no cause has evidence with the id"),
    )
    for path, given, there, what in known:
        for index, name in enumerate(given):
            if name not in there and name not in names.broken:
                near = did_you_mean(name, there) or (AGAINST if path[-1] == "against" else "")
                yield source.problem((*at, *path, index), f"{what} `{name}`", near)


AGAINST = "`against:` takes ids of evidence of the first cause, as a playbook gives them under `evidence:`"


def _of_facts(source: Source, at: Path, case: CasePart, names: Names) -> Iterator[Problem]:
    places: tuple[tuple[Path, Iterable[str]], ...] = (
        (("facts",), case.facts),
        (("expect", "facts"), case.expect.facts),
    )
    for path, facts in places:
        for name in facts:
            if (wrong := names.wrong_fact(name)) is not None:
                yield source.problem((*at, *path, name), *wrong, key=True)
    for name, value in case.facts.items():
        if isinstance(value, str) and name in names.numbers:
            what = f"`{name}` is a number, and this is text, so that no clause could ever hold"
            instead = "write the number alone"
            instead += f", or what the command prints: `outputs: {{command: {value!r}}}`" if _own(name) else ""
            yield source.problem((*at, "facts", name), what, instead)
    for name in case.outputs:
        fact = _own(name) and names.wrong_fact(name) is None
        if name not in names.steps and not fact:
            near = did_you_mean(name, [*names.steps, *(fact for fact in names.facts if _own(fact))])
            yield source.problem((*at, "outputs", name), f"there is no step `{name}`", near or OUTPUTS_AT, key=True)


def _own(fact: str) -> bool:
    return fact.startswith(f"{COMMAND}.")


def _of_series(source: Source, at: Path, case: CasePart, metrics: Collection[str]) -> Iterator[Problem]:
    readers: tuple[tuple[str, Callable[[str], object]], ...] = (("series", series.name_of), ("values", series.values))
    for index, part in enumerate(case.series):
        for name, read in readers:
            try:
                read(getattr(part, name))
            except ValueError as error:
                yield source.problem((*at, "series", index, name), str(error))
                break
        else:
            metric = series.name_of(part.series)[0]
            if metric not in metrics:
                what = f"no rule reads a metric `{metric}`, so it makes nothing happen"
                near = did_you_mean(metric, [one for one in metrics if ":" in one or one in ALWAYS])
                yield source.problem((*at, "series", index, "series"), what, near)
