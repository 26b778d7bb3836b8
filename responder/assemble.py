"""What content do these files make together? Layers of files, later ones over earlier ones, checked as one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from pydantic import BaseModel

from responder.authoring.testfile import TestFile, tests_of
from responder.authoring.testnames import metrics_of, wrong_names
from responder.crosscheck import (
    COMMAND,
    Names,
    broken_command,
    check_cause,
    check_listed,
    check_playbook,
    check_rules,
    declared_facts,
    declared_numbers,
    declared_texts,
    doubtful_causes,
    merge,
)
from responder.located import Node, Source, did_you_mean
from responder.model import Cause, Content, Playbook, Problem, Rule, Signal
from responder.problems import in_order
from responder.rule_files import rules_of
from responder.rules import SIGNAL
from responder.written import Written, cause_of, playbook_of


class Found:
    """What one layer of files holds. `broken` are names in files that failed: using them is no second mistake."""

    def __init__(self) -> None:
        self.signals: list[Signal] = []
        self.rules: list[Rule] = []
        self.books: list[Written[Playbook]] = []
        self.causes: list[Written[Cause]] = []
        self.tests: list[tuple[Source, TestFile]] = []
        self.problems: list[Problem] = []
        self.broken: set[str] = set()
        self.files: set[str] = set()
        """Of playbooks, causes and their tests."""

    def read_rules(self, source: Source) -> None:
        """Add what a Prometheus rule file holds."""
        signals, rules, wrong = rules_of(source)
        self.signals += signals
        self.rules += rules
        self.problems += wrong
        if wrong:
            self.broken |= _names(source.root)

    def read_book(self, source: Source) -> None:
        """Add what a playbook or cause file holds. A playbook test beside them is no content, but must be right."""
        self.files.add(source.file)
        root = source.root.value
        kind = root["kind"].value if isinstance(root, dict) and "kind" in root else None
        wrong: list[Problem]
        if kind == "Playbook":
            book, inline, wrong = playbook_of(source)
            self.books += [book] if book else []
            self.causes += inline
        elif kind == "Cause":
            cause, wrong = cause_of(source)
            self.causes += [cause] if cause else []
        elif kind == "PlaybookTest":
            tests, wrong = tests_of(source)
            self.tests += [(source, tests)] if tests else []
        else:
            wrong = [source.problem(("kind",), "`kind` must be Playbook, Cause or PlaybookTest")]
        self.problems += of_test(wrong) if kind == "PlaybookTest" else wrong
        if wrong:
            self.broken |= _names(source.root)


def of_test(problems: Iterable[Problem]) -> list[Problem]:
    """Those of a playbook test: its author must know them, and no daemon must stand still for them."""
    return [problem.model_copy(update={"in_test": True}) for problem in problems]


def assemble(
    layers: Sequence[Found],
    known_steps: Mapping[str, type[BaseModel]],
    known_facts: Collection[str],
    disable_alerts: Collection[str] = (),
) -> tuple[Content, tuple[Problem, ...]]:
    """The content in force, and every problem of all layers in the order of files and lines."""
    signals: dict[str, Signal] = {}
    alerts: dict[str, Rule] = {}
    books: dict[str, Written[Playbook]] = {}
    causes: dict[str, Written[Cause]] = {}
    replaced: dict[str, Written[Playbook]] = {}
    problems: list[Problem] = []
    for layer in layers:
        problems += layer.problems
        replaced |= {b.noun.id: books[b.noun.id] for b in layer.books if b.noun.id in books}
        problems += merge(signals, ((s.name, s) for s in layer.signals), "signal", lambda s: (s.file, s.line))
        problems += merge(alerts, ((r.alert, r) for r in layer.rules), "alert", lambda r: (r.file, r.line))
        problems += merge(books, ((b.noun.id, b) for b in layer.books), "playbook", _place)
        problems += merge(causes, ((c.noun.id, c) for c in layer.causes), "cause", _place)
    broken = {name for layer in layers for name in layer.broken}
    nouns = [book.noun for book in books.values()]
    broken |= {COMMAND} if broken_command(nouns, known_steps) else set()
    names = Names(
        signals, alerts, causes, known_steps, {*known_facts, *declared_facts(nouns)}, broken, books=books,
        evidence={weight.id for cause in causes.values() for weight in cause.noun.evidence},
        numbers=declared_numbers(nouns),
    )  # fmt: skip
    problems += check_rules(alerts.values(), signals)
    problems += doubtful_causes(causes.values(), declared_texts(nouns))
    problems += [problem for cause in causes.values() for problem in check_cause(cause, names)]
    problems += [problem for book in books.values() for problem in check_playbook(book, names)]
    problems += check_listed(causes, books, replaced) if not broken else []
    metrics = metrics_of(signals.values(), alerts.values())
    wrong = {problem.file for problem in problems if not (problem.in_test or problem.doubt)}
    # Tests of the first layer are of what is shipped, and hold whatever a site has put over it.
    for layer in [layer for layer in layers if layer.books or layer.tests][1:] or layers:
        # What a test names is looked for once what it tests is right: until then nobody knows what will be there.
        if not wrong & {*layer.files, *(problem.file for problem in layer.problems)}:
            problems += of_test(p for source, tests in layer.tests for p in wrong_names(source, tests, names, metrics))
    problems += [
        Problem(file="disable_alerts", what=f"no rule defines the alert `{name}`", instead=did_you_mean(name, alerts))
        for name in sorted(set(disable_alerts) - set(alerts) - broken)
    ]
    content = Content(
        signals=tuple(signals[name] for name in sorted(signals)),
        rules=tuple(alerts[name] for name in sorted(set(alerts) - set(disable_alerts))),
        playbooks=tuple(books[name].noun for name in sorted(books)),
        causes=tuple(causes[name].noun for name in sorted(causes)),
    )
    return content, tuple(in_order(problems))


def _place(written: Written[Playbook] | Written[Cause]) -> tuple[str, int]:
    return written.noun.file, written.noun.line


def _names(node: Node) -> set[str]:
    """Everything a file that failed may have defined."""
    if isinstance(node.value, list):
        return {name for child in node.value for name in _names(child)}
    if not isinstance(node.value, dict):
        return set()
    own = {str(node.value[key].value).removeprefix(SIGNAL) for key in ("id", "alert", "record") if key in node.value}
    causes = node.value.get("causes")
    own |= set(causes.value) if causes is not None and isinstance(causes.value, dict) else set()
    return own | {name for child in node.value.values() for name in _names(child)}
