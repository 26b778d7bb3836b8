"""What would the captures of a case have brought? Its facts as they stand, its outputs as the steps read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydantic import ValidationError

from responder.absence import step_of
from responder.authoring.climb import climbed
from responder.authoring.judge import Came, incident_of
from responder.authoring.testfile import CasePart
from responder.capture import command, log_tail
from responder.capture.step import Brief, Step
from responder.collect import read_facts
from responder.diagnose import diagnose
from responder.model import Content, Evidence, Fact, Incident, Outcome, Scalar, StepCall
from responder.plan import playbooks_for

ONE_FILE = {"log_tail": log_tail.LOG}
"""Steps of which one file says nearly all."""
AT = "the names as in `raw/` of a stored incident"


def came_of(case: CasePart, content: Content, steps: Mapping[str, Step]) -> Came:
    """The incident that the case's `alerts` make, diagnosed with all its facts; its plan is what would have run live,
    where a fact is known only after its step has run. ValueError in words where no alert is in force."""
    incident = incident_of(case.alerts, content)
    calls = [call for book in playbooks_for(incident, content.playbooks) for call in book.ladder]
    evidence, wrong = brought(case, incident, calls, steps)
    plan = climbed(incident, content, steps, evidence, case.max_rung)
    verdict = diagnose(incident, content.playbooks, content.causes, evidence, plan)
    facts = {fact.name: fact.value for item in evidence for fact in item.facts if not fact.subject}
    return Came(incident.incident_class, verdict, plan, facts=facts, wrong=wrong)


def brought(
    case: CasePart, incident: Incident, calls: Sequence[StepCall], steps: Mapping[str, Step]
) -> tuple[tuple[Evidence, ...], list[str]]:
    """One piece of evidence for each step the case speaks of, and what is wrong with its outputs, in words.

    calls: every call of the playbooks that match, with its parameters, since they say how a command is read.
    """
    brief = Brief(target=incident.target, now=incident.opened_at, onset_at=incident.onset_at,
                  opened_at=incident.opened_at, symptoms=incident.symptoms)  # fmt: skip
    by_step: dict[str, dict[str, Fact]] = {}
    wrong: list[str] = []
    for key, given in case.outputs.items():
        step = command.STEP.name if key.startswith(f"{command.STEP.name}.") else key
        read, complaints = _read(key, given, calls, steps[step], brief)
        wrong += [f"outputs: {says}" for says in complaints]
        by_step.setdefault(step, {}).update({fact.name: fact for fact in read})
    for name, value in case.facts.items():
        step = step_of(name)
        facts = by_step.setdefault(step, {})
        if value is not None and name in facts:
            wrong.append(f"facts: {name} comes out of `outputs` already, as {shown(facts[name].value)}: give it once")
        facts.setdefault(name, Fact(name=name, value=value, step=step, at=incident.opened_at))
    wrong += _without_value(case, calls, by_step)
    return tuple(_evidence(case, incident.opened_at, by_step)), wrong


def _read(
    key: str, given: str | Mapping[str, str], calls: Sequence[StepCall], step: Step, brief: Brief
) -> tuple[Sequence[Fact], list[str]]:
    if step.name == command.STEP.name:
        files, wrong = _command_files(key, given, calls)
    else:
        files, wrong = _files(given, step)
    facts, broke = read_facts(step, files, brief)
    if files and not facts and not broke:
        broke = f"gives no facts; are its files named right ({AT})?"
    return facts, [*wrong, *([f"{key} {broke}"] if broke else [])]


def _command_files(
    key: str, given: str | Mapping[str, str], calls: Sequence[StepCall]
) -> tuple[dict[str, bytes], list[str]]:
    if not isinstance(given, str):
        return {}, [f"{key}: write the text that the program prints"]
    mine = [call for call in _commands(calls) if key == command.STEP.name or key in _declared(call)]
    if not mine:
        return {}, [f"{key}: no playbook that matches these alerts has such a `command` step"]
    if len(mine) > 1:
        names = " or ".join(f"`{_declared(call)[0]}`" for call in mine)
        return {}, [f"{key}: {len(mine)} `command` steps match; say which by a fact it declares: {names}"]
    return command.as_brought(command.CommandParams.model_validate(mine[0].params), given), []


def _files(given: str | Mapping[str, str], step: Step) -> tuple[dict[str, bytes], list[str]]:
    """The raw files of any other step: by name, or one text where one file says it all."""
    if not isinstance(given, str):
        return {name: text.encode() for name, text in given.items()}, []
    if step.name not in ONE_FILE:
        return {}, [f"{step.name} reads several files; write `{step.name}: {{FILE: text}}`, {AT}"]
    return {ONE_FILE[step.name]: given.encode()}, []


def _commands(calls: Sequence[StepCall]) -> Iterator[StepCall]:
    for call in calls:
        if call.step == command.STEP.name:
            try:
                command.CommandParams.model_validate(call.params)
            except ValidationError:
                continue
            yield call


def _declared(call: StepCall) -> list[str]:
    return [f"{command.STEP.name}.{one.fact}" for one in command.CommandParams.model_validate(call.params).facts]


def _without_value(case: CasePart, calls: Sequence[StepCall], by_step: Mapping[str, Mapping[str, Fact]]) -> list[str]:
    """Facts a given output should have told and did not, unless the case says that they are unknown (`null`)."""
    found = by_step.get(command.STEP.name, {})
    wrong = []
    for key, given in case.outputs.items():
        for call in _commands(calls):
            if not isinstance(given, str) or key != command.STEP.name and key not in _declared(call):
                continue
            for parser in command.CommandParams.model_validate(call.params).facts:
                name = f"{command.STEP.name}.{parser.fact}"
                expected = name in case.facts and case.facts[name] is None
                if name in found and found[name].value is None and not expected:
                    why = command.why_nothing(parser, given)
                    wrong.append(f"outputs: {name} gets no value: {why}. If it must be so: `facts: {{{name}: null}}`")
    return wrong


def shown(value: Scalar) -> str:
    """A value as an author writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.10g}" if isinstance(value, int | float) else value


def _evidence(case: CasePart, at: float, by_step: Mapping[str, Mapping[str, Fact]]) -> Iterator[Evidence]:
    for step, facts in by_step.items():
        yield Evidence(id=step, step=step, rung=0, outcome=Outcome.OK, started_at=at, seconds=0.0,
                       facts=tuple(facts.values()))  # fmt: skip
    for step, why in case.skipped.items():
        if step not in by_step:
            yield Evidence(id=step, step=step, rung=0, outcome=Outcome.SKIPPED, reason=why, started_at=at, seconds=0.0)
