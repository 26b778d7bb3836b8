"""What does a site change in what is shipped, without copying a file? Maps by id laid over the content. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pydantic import BaseModel

from responder.located import Path, did_you_mean
from responder.model import Cause, Comparison, Content, Playbook, Problem, Rule, Severity
from responder.rules import NEWS, limited

Tell = Callable[[Path, str, str], Problem]
"""(path in the configuration, what is wrong, what instead) -> the problem with its place."""


def _placeless(_: Path, what: str, instead: str) -> Problem:
    return Problem(file="configuration", what=what, instead=instead)


def overridden(
    content: Content, wanted: Mapping[str, Mapping[str, Mapping[str, Any]]], tell: Tell = _placeless
) -> tuple[Content, list[Problem]]:
    """The content as this site wants it, and everything wrong with the wish.

    wanted: `alerts`, `causes`, `playbooks` -> id -> what to change there; durations in seconds.
    """
    problems: list[Problem] = []
    rules = {rule.alert: rule for rule in content.rules}
    causes = {cause.id: cause for cause in content.causes}
    books = {book.id: book for book in content.playbooks}
    known = partial(_known, tell=tell, problems=problems)
    for name, change in known(wanted.get("alerts", {}), rules, "alerts", "no rule defines the alert"):
        _lay(rules, name, _rule(rules[name], change, problems, tell) if not change.get("disabled") else None)
    for name, change in known(wanted.get("causes", {}), causes, "causes", "nobody defines the cause"):
        _lay(causes, name, _cause(causes[name], change) if not change.get("disabled") else None)
    for name, _ in known(wanted.get("playbooks", {}), books, "playbooks", "there is no playbook"):
        if wanted["playbooks"][name].get("disabled"):
            del books[name]
    books = {name: _book(book, causes, wanted.get("causes", {})) for name, book in books.items()}
    update = {"rules": tuple(rules.values()), "causes": tuple(causes.values()), "playbooks": tuple(books.values())}
    return content.model_copy(update=update), problems


def _known(
    wanted: Mapping[str, Mapping[str, Any]], there: Mapping[str, BaseModel], kind: str, what: str, *,
    tell: Tell, problems: list[Problem],
) -> list[tuple[str, Mapping[str, Any]]]:  # fmt: skip
    for name in sorted(set(wanted) - set(there)):
        near = did_you_mean(name, there)
        problems.append(tell(("overrides", kind, name), f"overrides.{kind}: {what} `{name}`", near))
    return [(name, wanted[name]) for name in wanted if name in there]


def _lay(table: dict[str, Any], name: str, item: Any) -> None:
    if item is None:
        del table[name]
    else:
        table[name] = item


def _rule(rule: Rule, change: Mapping[str, Any], problems: list[Problem], tell: Tell) -> Rule:
    update: dict[str, Any] = {}
    if change.get("for") is not None:
        update["for_s"] = change["for"]
    if change.get("severity"):
        update["severity"] = Severity(change["severity"])
    if change.get("threshold") is not None:
        if not rule.terms:
            problems.append(tell(
                ("overrides", "alerts", rule.alert), f"overrides.alerts.{rule.alert}: its expression has no threshold "
                "of its own", "replace the rule by one of the same name in a file under `rules:`",
            ))  # fmt: skip
        else:
            first = rule.terms[0]
            own = Comparison(signal=first.signal, op=first.op, number=change["threshold"])
            # A limit of the site's own counts however usual it is that it is passed.
            update["terms"] = (own, *(term for term in rule.terms[1:] if not term.signal.endswith(NEWS)))
            update["expr"] = limited(rule.expr, first, change["threshold"])
    return rule.model_copy(update=update)


def _cause(cause: Cause, change: Mapping[str, Any]) -> Cause:
    return cause if change.get("prior") is None else cause.model_copy(update={"prior": change["prior"]})


def _book(book: Playbook, causes: Mapping[str, Cause], changed: Mapping[str, Mapping[str, Any]]) -> Playbook:
    """Without the causes that are switched off; a prior the site sets counts in every class."""
    priors = {name: p for name, p in book.priors.items() if (changed.get(name) or {}).get("prior") is None}
    return book.model_copy(update={"causes": tuple(n for n in book.causes if n in causes), "priors": priors})
