"""How does `responder test` run? Every case of every file, all failures shown, exit 2 when one is wrong."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from responder.authoring import given
from responder.authoring.judge import Came, failures, of_report
from responder.authoring.testfile import CasePart, is_test, tests_of
from responder.authoring.testnames import metrics_of, wrong_names
from responder.capture import STEPS
from responder.content import ContentRefused, load, shipped
from responder.crosscheck import Names, declared_facts, declared_numbers
from responder.load import read_yaml
from responder.located import Source
from responder.model import Content, Problem
from responder.problems import render
from responder.prometheus_child import PrometheusMissing
from responder.replay import NotAnIncident, replay

OK, RUNTIME, CONTENT = 0, 1, 2


@dataclass
class Tried:
    """One case with what became of it."""

    source: Source
    number: int
    case: CasePart
    failures: list[str] = field(default_factory=list)

    @property
    def line(self) -> int:
        """Where the case stands in its file."""
        return self.source.locate(("cases", self.number))[0]


def playbook_tests(files: Sequence[Path], config: Any, format: str) -> int:
    """`responder test`: files, or folders of them; the shipped tests when none is given."""
    try:
        content = load(config, STEPS)
    except ContentRefused as error:
        typer.echo(str(error), err=True)
        return CONTENT
    places = list(files) or [shipped("playbooks"), *config.playbooks]
    tried, problems = collect(places, content)
    if problems:
        typer.echo(render(problems), err=True)
        return CONTENT
    if not tried:
        typer.echo(f"no file of kind PlaybookTest in {', '.join(str(p) for p in places)}", err=True)
        return CONTENT
    try:
        asyncio.run(run(tried, content))
    except PrometheusMissing as error:  # the others have been judged all the same
        for one in tried:
            one.failures = [f"not run: {error}"] if one.case.series else one.failures
        _print(tried, format)
        return CONTENT if any(one.failures for one in tried if not one.case.series) else RUNTIME
    _print(tried, format)
    return CONTENT if any(one.failures for one in tried) else OK


def collect(places: Sequence[Path], content: Content) -> tuple[list[Tried], list[Problem]]:
    """All cases of all test files, and everything wrong with them."""
    tried: list[Tried] = []
    problems: list[Problem] = []
    names, metrics = _names(content), metrics_of(content.signals, content.rules)
    for file in (file for place in places for file in _files(place)):
        source, wrong = read_yaml(file)
        if source is None or not is_test(source):
            named = file in places
            problems += wrong if source is None else []
            problems += [source.problem((), "is no playbook test: `kind: PlaybookTest`")] if source and named else []
            continue
        parsed, more = tests_of(source)
        problems += [*wrong, *more]
        for number, case in enumerate(parsed.cases if parsed else ()):
            tried.append(Tried(source, number, case))
        problems += wrong_names(source, parsed, names, metrics) if parsed else []
    return tried, problems


async def run(tried: Sequence[Tried], content: Content) -> None:
    """Judge each; cases with series share one private Prometheus."""
    timed = [one for one in tried if one.case.series]
    for one in tried:
        if one not in timed:
            came = _given(one, content) if one.case.alerts else _stored(one, content)
            one.failures = failures(one.case.expect, came) if isinstance(came, Came) else [came]
    if timed:
        from responder.authoring import history  # brings the whole chain, which cases without series do not need

        with tempfile.TemporaryDirectory() as scratch:
            came_all = await history.came_of([one.case for one in timed], content, Path(scratch))
        for one, came in zip(timed, came_all, strict=True):
            one.failures = failures(one.case.expect, came)


def _given(one: Tried, content: Content) -> Came | str:
    try:
        return given.came_of(one.case, content, STEPS)
    except ValueError as error:
        return str(error)


def _stored(one: Tried, content: Content) -> Came | str:
    path = Path(one.source.file).parent / (one.case.incident or "")
    try:
        return of_report(replay(path, STEPS, content))
    except NotAnIncident as error:
        return str(error)


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    return sorted(file for end in ("yaml", "yml") for file in place.glob(f"**/*.{end}"))


def _names(content: Content) -> Names:
    """What a case may name."""
    facts = [spec.name for step in STEPS.values() for spec in step.facts]
    return Names(
        {signal.name: signal for signal in content.signals},
        [rule.alert for rule in content.rules],
        [cause.id for cause in content.causes],
        {name: step.params for name, step in STEPS.items()},
        {*facts, *declared_facts(content.playbooks)},
        books=[book.id for book in content.playbooks],
        evidence=[weight.id for cause in content.causes for weight in cause.evidence],
        numbers=declared_numbers(content.playbooks),
    )


def _print(tried: Sequence[Tried], format: str) -> None:
    bad = [one for one in tried if one.failures]
    if format == "json":
        rows = [{"file": t.source.file, "line": t.line, "case": t.case.name, "failures": t.failures} for t in tried]
        typer.echo(json.dumps({"passed": len(tried) - len(bad), "failed": len(bad), "cases": rows}, indent=1))
        return
    for one in bad:
        typer.echo(f"{one.source.file}:{one.line}: {one.case.name}")
        for says in one.failures:
            typer.echo(f"    {says}")
    typer.echo(f"{len(tried) - len(bad)} passed, {len(bad)} failed")
