"""What is concluded? Findings, hypotheses, the verdict, and what earlier incidents turned out to be."""

from __future__ import annotations

from enum import StrEnum

from responder.model.authored import Disproof, Remedy
from responder.model.done import Fact
from responder.model.noun import Noun, Truth


class Finding(Noun):
    """One decided weight with the facts behind it."""

    weight: str
    group: str
    truth: Truth
    decibans: float
    counted: bool
    """False when another clause of the same group spoke louder."""
    says: str
    facts: tuple[Fact, ...] = ()


class Missing(Noun):
    """Evidence we do not have, and why."""

    step: str
    why: str
    would_tell: str = ""


class Status(StrEnum):
    """How sure a hypothesis is, by stated rules (`diagnose.py`)."""

    CONFIRMED = "confirmed"
    PROBABLE = "probable"
    POSSIBLE = "possible"
    UNKNOWN = "unknown"


class WhyUnknown(Noun):
    """Nobody knows why a cause came about: what was looked for and is not there, what could not be seen."""

    not_found: tuple[str, ...] = ()
    not_seen: tuple[str, ...] = ()
    otherwise: str = ""


class Hypothesis(Noun):
    """A cause with what speaks for it, against it, and what is not known."""

    cause: str
    title: str
    says: str
    status: Status
    probability: float
    decibans: float
    supports: tuple[Finding, ...] = ()
    contradicts: tuple[Finding, ...] = ()
    missing: tuple[Missing, ...] = ()
    unexplained: tuple[str, ...] = ()
    """Symptoms (alerts) this cause does not account for."""
    proof: Truth = Truth.UNKNOWN
    """Whether all that would confirm it was found; `no` when some of it was looked for and is not so."""
    confirm: tuple[str, ...] = ()
    """Ids of the findings that confirm it."""
    would_confirm: tuple[str, ...] = ()
    """What is still wanted for that, in words."""
    why_unknown: WhyUnknown | None = None
    would_disprove: Disproof
    remedies: tuple[Remedy, ...] = ()


class Verdict(Noun):
    """Ranked hypotheses; `unknown` is always one of them. Probabilities add up to one at most, but for two causes that
    hold `together`: each says how likely it is to be there."""

    hypotheses: tuple[Hypothesis, ...]
    playbooks: tuple[str, ...]
    together: tuple[str, ...] = ()
    """Causes that hold at the same time, the weightiest first, when more than one fault is needed to explain all."""
    notes: tuple[str, ...] = ()


class Opinion(Noun):
    """What an engineer said of a verdict once they knew."""

    incident: str
    target: str
    named: str
    """The cause the report had named first."""
    status: Status
    playbooks: tuple[str, ...]
    right: bool
    cause: str = ""
    """What it turned out to be; empty when nobody said."""
    who: str
    note: str = ""
    at: float


class Record(Noun):
    """How often a cause was right when it was named, by what engineers said."""

    cause: str
    right: int
    told: int


class Neighbour(Noun):
    """A past incident that left much the same evidence."""

    incident: str
    target: str
    at: float
    named: str
    status: Status
    turned_out: str = ""
    """What an engineer said it was; empty when nobody did."""
    distance: float
    """0: every sign one of them showed the other showed, too; 1: none."""
    shared: tuple[str, ...] = ()
    """Signs both showed, as `cause.claim`."""
    apart: tuple[str, ...] = ()
    """Signs only one of them showed."""


class Experience(Noun):
    """What earlier incidents say about this one; it never moves a verdict."""

    records: tuple[Record, ...] = ()
    nearest: tuple[Neighbour, ...] = ()
