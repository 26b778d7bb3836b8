"""What does one round of detection come to? Answers, probes and memory in, incidents and new memory out.

One pure function, so that a round over a thousand servers can be worked out beside the event loop.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from responder.alertmanager import fold
from responder.correlate import Decision, Memory, Policy, correlate
from responder.evaluate import Observation, mute, observe, present, quiet
from responder.holding import States, advance, as_ever
from responder.model import Content, Incident, Silence, Symptom, Target
from responder.table import Answers, Table


@dataclass(frozen=True)
class Round:
    """Everything a round rests on.

    targets: ours; everywhere: all that are configured. responsive: those whose engine has just proven that it answers;
    sound: others' that are well; muted: those a capture of ours disturbs.
    """

    now: float
    content: Content
    targets: Mapping[str, Target]
    everywhere: Mapping[str, Target]
    answers: Answers
    responsive: frozenset[str]
    sound: frozenset[str]
    muted: frozenset[str]
    stopping: frozenset[str]
    silences: tuple[Silence, ...]
    told: tuple[Symptom, ...]
    incidents: tuple[Incident, ...]
    states: States
    memory: Memory
    policy: Policy


@dataclass(frozen=True)
class Judged:
    """What it comes to."""

    states: States
    memory: Memory
    decisions: tuple[Decision, ...]
    over: tuple[Observation, ...] = ()
    """Limits that are passed as ever."""


def judge(one: Round) -> Judged:
    """Observe, hold, correlate."""
    mine = one.targets.values()
    here = present(one.answers, mine)
    seen = observe(one.content.rules, one.answers, mine, one.now, one.states.seen)
    seen = mute(seen, one.content.rules, one.muted)
    states, own = advance(
        one.states, seen, one.now, one.content.rules, targets=one.targets.keys(), present=here,
        quiet=quiet(one.answers, mine, one.responsive),
    )  # fmt: skip
    decisions, memory = correlate(
        fold(own, one.told), one.incidents, one.memory, one.now, targets=tuple(one.everywhere.values()),
        silences=one.silences, healthy=(one.responsive & here) | one.sound, stopping=one.stopping, policy=one.policy,
    )  # fmt: skip
    return Judged(states, memory, decisions, as_ever(seen, states))


def absent(signals: Collection[str], answers: Answers, targets: Collection[Target]) -> dict[str, frozenset[str]]:
    """Signal -> targets Prometheus has nothing of; signals nobody answered about are left out."""
    table = Table(answers)
    return {
        name: frozenset(target.name for target in targets if not table.scraped(name, target))
        for name in signals
        if not table.silent(name)
    }
