"""Does what SREs wrote fit together? Every name used must be one that somebody defines."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from responder.authored import CauseBody, PlaybookFile
from responder.classes import CAUSES, PRECEDENCE, UNKNOWN, canonical
from responder.located import Path, did_you_mean, nearest
from responder.model import Cause, Playbook, Problem, Rule, Signal, StepCall
from responder.validation import NAME_PATTERN, problems_of
from responder.written import Written

PROBE_SIGNAL = "responder_"
"""Terms of rules that start so name what the daemon itself exports, not a recording rule."""

COMMAND = "command"
"""The step whose facts playbooks declare."""

SIGNALS_AT = "`responder reference` lists the signals"
NUMERIC = frozenset(("baseline", "now", "max", "min", "last", "ratio", "change"))
"""What is worked out of every signal."""
T = TypeVar("T")


def merge(
    known: dict[str, T], new: Iterable[tuple[str, T]], what: str, at: Callable[[T], tuple[str, int]]
) -> list[Problem]:  # fmt: skip
    """Put `new` over `known` by name. Replacing what an earlier place gave is how a site tunes; a name twice in
    `new` itself is a mistake. `at` gives (file, line)."""
    problems = []
    here: dict[str, T] = {}
    for name, item in new:
        if name in here:
            file, line = at(item)
            first_file, first_line = at(here[name])
            said = f"{what} `{name}` is defined twice, first in {first_file}:{first_line}"
            problems.append(Problem(file=file, line=line, column=1, what=said))
        else:
            here[name] = item
    known.update(here)
    return problems


class Names:
    """Everything that may be referred to. `broken` are names whose definition failed to load: using them is no
    second mistake."""

    def __init__(
        self,
        signals: Mapping[str, Signal],
        alerts: Collection[str],
        causes: Collection[str],
        steps: Mapping[str, type[BaseModel]],
        facts: Collection[str],
        broken: Collection[str] = (),
        *,
        books: Collection[str] = (),
        evidence: Collection[str] = (),
        numbers: Collection[str] = (),
    ) -> None:
        self.signals = signals
        self.alerts = set(alerts)
        self.causes = set(causes)
        self.steps = steps
        self.facts = {fact for fact in facts if "{" not in fact}
        self.patterns = [
            re.compile(re.escape(fact).replace(r"\{signal\}", "(?P<signal>[a-z0-9_]+)"))
            for fact in sorted(facts)
            if "{signal}" in fact
        ]
        self.made = {
            fact.replace("{signal}", signal) for fact in facts if "{signal}" in fact for signal in signals
        }  # fmt: skip
        self.broken = set(broken)
        self.books = set(books)
        self.evidence = set(evidence)
        """Ids of the evidence of all causes."""
        self.numbers = set(numbers) | {fact for fact in self.made if fact.rpartition(".")[2] in NUMERIC}
        """Facts whose value is a number."""

    def wrong_fact(self, fact: str) -> tuple[str, str] | None:
        """(what is wrong, what instead) of a fact nobody delivers; None when somebody does."""
        if fact in self.facts or fact in self.made:
            return None
        if COMMAND in self.broken and fact.startswith(f"{COMMAND}."):
            return None
        for pattern in self.patterns:
            got = pattern.fullmatch(fact)
            if got and got["signal"] in self.broken:
                return None
            if got:
                near = nearest(got["signal"], self.signals)
                whole = f"{fact[: got.start('signal')]}{near}{fact[got.end('signal') :]}"
                return f"no signal is called `{got['signal']}`", f"did you mean `{whole}`?" if near else SIGNALS_AT
        return f"no step captures the fact `{fact}`", did_you_mean(fact, self.facts | self.made)


def declared_facts(books: Iterable[Playbook]) -> set[str]:
    """What `command` steps deliver is said in the playbook itself: each parser there names its fact."""
    names = {str(parser.get("fact")) for book in books for call in book.ladder for parser in _parsers(call)}
    return {f"{COMMAND}.{name}" for name in names if re.fullmatch(NAME_PATTERN, name)}


def declared_numbers(books: Iterable[Playbook]) -> set[str]:
    """Those of them whose value is a number, as it is when nothing else is said."""
    parsers = [parser for book in books for call in book.ladder for parser in _parsers(call)]
    return {f"{COMMAND}.{p.get('fact')}" for p in parsers if p.get("kind", "number") == "number"}


def declared_texts(books: Iterable[Playbook]) -> dict[str, str]:
    """Those of them whose value is no number -> what it is: `text` or `found`."""
    parsers = [parser for book in books for call in book.ladder for parser in _parsers(call)]
    return {f"{COMMAND}.{p.get('fact')}": str(p["kind"]) for p in parsers if p.get("kind") in ("text", "found")}


def doubtful_causes(causes: Iterable[Written[Cause]], texts: Mapping[str, str]) -> Iterator[Problem]:
    """Claims that say nothing: an order of texts is never known, and a finding that speaks for a cause either way is
    no finding. `texts` as of `declared_texts`."""
    for written in causes:
        body, base = written.body, written.path
        for index, part in enumerate(body.evidence):
            if part.yes > 0 and part.no >= part.yes or part.yes < 0 and part.no <= part.yes:
                what = (
                    f"evidence `{part.id}` weighs {part.no:+g} dB where it is not so, and {part.yes:+g} dB where it is"
                )
                instead = f"did you mean `no: {-part.no:+g} dB`?"
                yield _doubt(written.source.problem((*base, "evidence", index, "no"), what, instead))
        for path, test in body.tests():
            for inner, text in test.clauses():
                got = ORDER.match(text.strip())
                fact, op = got.groups() if got else ("", "")
                if fact in texts:
                    what = f"`{fact}` is declared as `kind: {texts[fact]}`: `{op}` of it is never known"
                    instead = "`==` or `!=`, or declare it as `kind: number`"
                    yield _doubt(written.source.problem((*base, *path, *inner), what, instead))


ORDER = re.compile(r"([a-z0-9_.]+)\s*(>=|<=|>|<)")


def _doubt(problem: Problem) -> Problem:
    return problem.model_copy(update={"doubt": True})


def _parsers(call: StepCall) -> Iterator[Mapping[str, object]]:
    given = call.params.get("facts") if call.step == COMMAND else None
    yield from (parser for parser in (given if isinstance(given, list | tuple) else ()) if isinstance(parser, Mapping))


def broken_command(books: Iterable[Playbook], steps: Mapping[str, type[BaseModel]]) -> bool:
    """Whether a `command` step is wrong or misspelt, so that nobody knows which facts it would have brought."""
    for call in (call for book in books for call in book.ladder):
        if call.step not in steps and nearest(call.step, steps) == COMMAND:
            return True
        if call.step == COMMAND and COMMAND in steps:
            try:
                steps[COMMAND].model_validate(call.params)
            except ValidationError:
                return True
    return False


def check_rules(rules: Iterable[Rule], signals: Mapping[str, Signal]) -> Iterator[Problem]:
    """Signals that rules compare and nobody records."""
    for rule in rules:
        for term in rule.terms:
            if term.signal not in signals and not term.signal.startswith(PROBE_SIGNAL):
                what = f"alert `{rule.alert}` compares `{term.signal}`, which no rule records"
                near = did_you_mean(term.signal, signals)
                yield Problem(file=rule.file, line=rule.line, column=1, what=what, instead=near)


def check_cause(written: Written[Cause], names: Names) -> Iterator[Problem]:
    """Everything a cause refers to."""
    cause, body, source, base = written.noun, written.body, written.source, written.path
    if canonical(cause.id) not in CAUSES:
        at: Path = base or ("id",)
        all_of_them = f"a cause of one's own is `<canonical cause>/<name>`; canonical are {', '.join(CAUSES)}"
        instead = did_you_mean(canonical(cause.id), CAUSES) or all_of_them
        what = f"`{canonical(cause.id)}` is no canonical cause"
        if canonical(cause.id) == UNKNOWN:
            what, instead = "`unknown` needs no file", "it always competes"
        yield source.problem(at, what, instead, key=bool(base))
    assert isinstance(body, CauseBody)
    for path, part in body.tests():
        for inner, text in part.clauses():
            fact = re.split(r"[\s<>=!]", text.strip(), maxsplit=1)[0]
            wrong = names.wrong_fact(fact)
            if wrong:
                yield source.problem((*base, *path, *inner), *wrong)
    for index, remedy in enumerate(body.remedies):
        for inner, fact in remedy.facts():
            wrong = names.wrong_fact(fact)
            if wrong:
                yield source.problem((*base, "remedies", index, *inner), *wrong)
    yield from _check_weights(written)
    yield from _check_beside(written, names)
    for index, alert in enumerate(body.explains):
        if alert != "*" and alert not in names.alerts | names.broken:
            near = did_you_mean(alert, names.alerts)
            yield source.problem((*base, "explains", index), f"no rule defines the alert `{alert}`", near)


def _check_weights(written: Written[Cause]) -> Iterator[Problem]:
    body, source, base = written.body, written.source, written.path
    seen: dict[str, float] = {}
    for index, part in enumerate(body.evidence):
        if part.id in seen:
            yield source.problem((*base, "evidence", index, "id"), f"evidence `{part.id}` is given twice")
        seen[part.id] = part.yes
    proofs = [(("confirm", i, way), name) for i, ways in enumerate(body.confirm) for way, name in enumerate(ways)]
    for place, name in proofs:
        if name not in seen:
            near = did_you_mean(name, seen)
            yield source.problem((*base, *place), f"no evidence of this cause has the id `{name}`", near)
        elif seen[name] <= 0:
            what = f"evidence `{name}` does not speak for the cause, so it cannot confirm it"
            yield source.problem((*base, *place), what)


def _check_beside(written: Written[Cause], names: Names) -> Iterator[Problem]:
    body, source, base = written.body, written.source, written.path
    own = {part.id for part in body.evidence}
    for index, part in enumerate(body.beside):
        at = (*base, "beside", index)
        if part.id in own:
            yield source.problem((*at, "id"), f"`{part.id}` is the id of evidence of this cause", "another id")
        for place, name in enumerate(part.causes):
            if name not in names.causes | names.broken:
                near = did_you_mean(name, names.causes)
                yield source.problem((*at, "causes", place), f"nobody defines the cause `{name}`", near)
        for place, name in enumerate(part.despite):
            if name not in own:
                near = did_you_mean(name, own)
                yield source.problem((*at, "despite", place), f"no evidence of this cause has the id `{name}`", near)


def check_playbook(written: Written[Playbook], names: Names) -> Iterator[Problem]:
    """Everything a playbook refers to."""
    body, source = written.body, written.source
    assert isinstance(body, PlaybookFile)
    if body.incident_class not in PRECEDENCE:
        near = did_you_mean(body.incident_class, PRECEDENCE) or f"one of {', '.join(PRECEDENCE)}"
        yield source.problem(("class",), f"`{body.incident_class}` is no class", near)
    for index, alert in enumerate(body.alerts):
        if alert not in names.alerts | names.broken:
            near = did_you_mean(alert, names.alerts)
            yield source.problem(("alerts", index), f"no rule defines the alert `{alert}`", near)
    for name in body.causes:
        if name not in names.causes | names.broken:
            near = did_you_mean(name, names.causes)
            yield source.problem(("causes", name), f"nobody defines the cause `{name}`", near, key=True)
    yield from _check_ladder(written, names)


def _check_ladder(written: Written[Playbook], names: Names) -> Iterator[Problem]:
    body, source = written.body, written.source
    for r, rung in enumerate(body.ladder):
        for s, part in enumerate(rung.steps):
            path: Path = ("ladder", r, "steps", s)
            if part.step not in names.steps:
                near = did_you_mean(part.step, names.steps)
                yield source.problem((*path, "step"), f"there is no step `{part.step}`", near)
                continue
            model = names.steps[part.step]
            try:
                model.model_validate(part.params)
            except ValidationError as error:
                yield from problems_of(error, model, source, (*path, "with"))


def check_listed(
    causes: Mapping[str, Written[Cause]],
    books: Mapping[str, Written[Playbook]],
    replaced: Mapping[str, Written[Playbook]] = MappingProxyType({}),
) -> Iterator[Problem]:
    """A cause that no playbook lists would never be considered. `replaced` are playbooks of earlier places by id: what
    only they listed is told where the playbook stands that took their place."""
    listed = {name for book in books.values() for name in book.noun.causes}
    told: set[str] = set()
    for name, before in replaced.items():
        lost = [cause for cause in before.noun.causes if cause in causes and cause not in listed]
        if lost:
            told.update(lost)
            shown = ", ".join(lost[:4]) + (f" and {len(lost) - 4} more" if len(lost) > 4 else "")
            what = f"this playbook replaces the one of the same id in {before.noun.file}; nobody would consider {shown}"
            instead = "give yours another `id`: both then work side by side; or list these causes, too"
            yield books[name].source.problem(("id",), what, instead)
    for name, written in causes.items():
        if name not in listed and name not in told:
            what = f"no playbook lists the cause `{name}`, so it would never be considered"
            yield written.source.problem(("id",), what, "add it to `causes` of a playbook")
