"""What may a playbook name? The reference page, made from the code: steps, facts, clauses, signals, alerts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from pydantic import BaseModel

from responder.absence import step_of
from responder.authoring.settings import rows
from responder.authoring.testfile import CasePart, ExpectPart
from responder.capture.step import Step
from responder.classes import CAUSES_OF, CAUSES_OF_ANY_CLASS
from responder.model import Content

OPERATORS = ("`>`", "`>=`", "`<`", "`<=`", "`==`", "`!=`")

REMEDY_KEYS = {
    "option": "the exact option or command; `<lower>` is a blank, `$URL` and `$PORT` are the server's",
    "safe_now": "`true`: needs no restart and loses no request",
    "only_if": "a clause, or `all` and `any`: offered only where it is known to hold",
    "unless": "a clause, or `all` and `any`: not offered where it is known to hold",
    "now": "the fact that says what the option is set to; the report shows it",
    "try": "the number for the blank: `times` and `plus` from what is set (or from the fact in `of`), within "
    "`at_least` and `at_most`; if that is set already the remedy is not offered",
}


def page(steps: Mapping[str, Step], content: Content) -> str:
    """docs/reference.md."""
    return "\n".join(
        [
            "# Reference",
            "",
            "Made from the code by `make reference`; a test fails when it is not current. How to use it: "
            "[playbooks.md](playbooks.md), [tutorial.md](tutorial.md).",
            "",
            *_steps(steps),
            *_command(steps),
            *_tests(),
            *_facts(steps),
            *_clauses(),
            *_remedies(),
            *_alerts(content),
            *_signals(content),
            *_causes(content),
            *_settings(),
        ]
    )


def _steps(steps: Mapping[str, Step]) -> Iterable[str]:
    yield from ("## Capture steps", "", "Rung 0 observe, 1 look, 2 touch, 3 operate. Pause, time and bytes are the "
                "most a step declares; the plan refuses what does not fit a target's budget.", "")  # fmt: skip
    yield from _table("step", "rung", "pause s", "time s", "MiB", "needs", "what it brings")
    for step in sorted(steps.values(), key=lambda step: (step.rung, step.name)):
        yield _row(f"`{step.name}`", step.rung, f"{step.worst_pause_s:g}", f"{step.timeout_s:g}",
                   f"{step.max_bytes / 2**20:.3g}", ", ".join(step.needs), step.says)  # fmt: skip
    yield ""


def _command(steps: Mapping[str, Step]) -> Iterable[str]:
    yield from ("## The step `command`", "", "Runs a program of yours where the server runs, and makes facts of what "
                "it prints. Under `with:`", "")  # fmt: skip
    params = steps["command"].params
    yield from _fields(params, "key")
    yield from ("", "Each of `facts`:", "")
    yield from _fields(_item(params, "facts"), "key")
    yield from (
        "",
        "A fact whose pattern matches no line is *unknown*, neither true nor false (`kind: found` is then false). What "
        "goes to standard error is kept and not read. An exit code other than 0 is told in the report; what was "
        "printed is read all the same. The step is of rung 1: it runs when it would tell the leading causes apart, and "
        "not any more once a cause is confirmed, wherever the ladder names it. The program must only read: nothing "
        "here can check that. Try it: `responder capture TARGET --playbooks FOLDER --playbook ID --step command`.",
        "",
    )


def _tests() -> Iterable[str]:
    yield from ("## Playbook tests", "", "A file of kind `PlaybookTest` holds `cases`. Keys of a case:", "")
    yield from _fields(CasePart, "key")
    yield from ("", "Keys of `expect`; those that take names take one or a list:", "")
    yield from _fields(ExpectPart, "key")
    yield ""


def _fields(model: type[BaseModel], head: str) -> Iterable[str]:
    yield from _table(head, "default", "what it says")
    for name, field in model.model_fields.items():
        default = "needed" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        yield _row(f"`{field.alias or name}`", default, field.description or "")


def _shown(default: object) -> str:
    if default is None or default == "" or default == [] or default == {}:
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _item(model: type[BaseModel], name: str) -> type[BaseModel]:
    """The model of one item of a list."""
    found = next(a for a in get_args(model.model_fields[name].annotation) if isinstance(a, type))
    assert issubclass(found, BaseModel)
    return found


def _facts(steps: Mapping[str, Step]) -> Iterable[str]:
    yield from ("## Facts", "", "What clauses may read. `{signal}` stands for any signal below. A fact nobody could "
                "capture is unknown, which is neither true nor false.", "")  # fmt: skip
    specs = sorted({(spec.name, spec.unit, spec.says) for step in steps.values() for spec in step.facts})
    yield from _table("fact", "unit", "of step", "what it says")
    owners = {spec.name: step.name for step in steps.values() for spec in step.facts}
    for name, unit, says in specs:
        yield _row(f"`{name}`", unit, owners.get(name, step_of(name)), says)
    yield ""


def _clauses() -> Iterable[str]:
    yield from ("## Clauses", "", "`fact operator value`, joined by `when` (one), `all`, `any`. Operators: "
                f"{', '.join(OPERATORS)}. Values: a number, `true`, `false`, or a word; an order needs a number.",
                "")  # fmt: skip


def _remedies() -> Iterable[str]:
    yield from ("## Remedies", "", "What a remedy of a cause may say besides `says` and `tradeoff`.", "")
    yield from _table("key", "what it does")
    for key, says in REMEDY_KEYS.items():
        yield _row(f"`{key}`", says)
    yield ""


def _alerts(content: Content) -> Iterable[str]:
    yield from ("## Alerts", "")
    yield from _table("alert", "class", "severity", "for s", "all at once; `threshold` replaces the first number")
    for rule in sorted(content.rules, key=lambda rule: rule.alert):
        terms = [f"`{term.signal} {term.op} {term.number:g}`" for term in rule.terms]
        shown = " and ".join(terms) or "an expression of its own"
        yield _row(f"`{rule.alert}`", rule.incident_class, rule.severity.value, f"{rule.for_s:g}", shown)
    yield ""


def _signals(content: Content) -> Iterable[str]:
    yield from ("## Signals", "", "For each there are `metrics.<signal>.baseline`, `.now`, `.max`, `.min`, `.last`, "
                "`.ratio` and `.change`.", "")  # fmt: skip
    yield ", ".join(f"`{signal.name}`" for signal in sorted(content.signals, key=lambda signal: signal.name)) + "."
    yield ""


def _causes(content: Content) -> Iterable[str]:
    yield from ("## Canonical causes", "", "A cause of your own is `<canonical>/<name>`.", "")
    yield from _table("class", "causes")
    for name, causes in CAUSES_OF.items():
        yield _row(f"`{name}`", ", ".join(f"`{cause}`" for cause in causes))
    yield _row("any", ", ".join(f"`{cause}`" for cause in CAUSES_OF_ANY_CLASS))
    yield ""


def _settings() -> Iterable[str]:
    yield from ("## Configuration", "", "Every key of a configuration file. Times are seconds, or `30s`, `5m`, `7d`; "
                "sizes bytes, or `5GiB`. `responder check --config FILE` says what a daemon would do with it; an "
                "annotated example is `deploy/config.example.yaml`.", "")  # fmt: skip
    yield from _table("key", "default", "what it says")
    for cells in rows():
        yield _row(*cells)
    yield ""


def _table(*heads: str) -> list[str]:
    return [_row(*heads), "|" + "---|" * len(heads)]


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
