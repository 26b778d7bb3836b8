"""What do engineers write down? Clauses, causes, playbooks, and what is wrong in what they wrote."""

from __future__ import annotations

from pydantic import Field

from responder.model.done import StepCall
from responder.model.noun import Noun, Operator, Scalar
from responder.model.wrong import Rule, Signal


class Problem(Noun):
    """Something wrong in what an operator wrote; findings are data, all of them are reported."""

    file: str
    line: int = 0
    column: int = 0
    what: str
    instead: str = ""
    """What to write instead; empty when nothing sensible can be proposed."""
    excerpt: str = ""
    """The offending source line, for the caret."""
    in_test: bool = Field(False, exclude=True)
    """In a playbook test: what is in force is as good without it."""
    doubt: bool = Field(False, exclude=True)
    """It works, and cannot have been meant: a daemon that has run with it starts again."""


class Clause(Noun):
    """One claim about one fact: `gpu.power_share_max < 0.4`."""

    fact: str
    op: Operator
    value: Scalar
    line: int = 0


class Test(Noun):
    """Clauses joined: every `all` and at least one `any`, under three-valued logic."""

    all: tuple[Clause, ...] = ()
    any: tuple[Clause, ...] = ()


class Weight(Noun):
    """One grouped piece of evidence for a cause, in decibans (10 = ten to one)."""

    id: str
    group: str
    """One vote per signal group: correlated probes never multiply."""
    test: Test
    yes: float
    """Decibans when the test holds."""
    no: float = 0.0
    """Decibans when the test is known not to hold."""
    says: str
    """The claim in words, present tense, as the report prints it when it holds."""
    says_not: str = ""
    """The words when it is known not to hold."""
    first_look: bool = False
    """Only what was known first counts: later on, what people and clients do about the trouble is mixed in."""


class Disproof(Noun):
    """What would prove a cause wrong, as an instruction a woken engineer can follow."""

    says: str
    command: str = ""


class Attempt(Noun):
    """The number to try instead of one that is set: `of` times `times` plus `plus`, within limits."""

    of: str = ""
    """The fact that is reckoned from; empty: what the option is set to now."""
    times: float = 1.0
    plus: float = 0.0
    at_least: float | None = None
    at_most: float | None = None


class Remedy(Noun):
    """The next safe action: what, the exact option or command, what it costs."""

    says: str
    option: str = ""
    tradeoff: str
    safe_now: bool = False
    """Whether it can be done at night without a restart or a loss of requests."""
    only_if: Test | None = None
    """Offered only where this is known to hold."""
    unless: Test | None = None
    """Not offered where this is known to hold."""
    now: str = ""
    """The fact that says what the option is set to."""
    attempt: Attempt | None = None
    """The number for the option's `<…>`."""
    found: Scalar = None
    """In a verdict: what the option is set to."""


class Reason(Noun):
    """A test and what is known where it holds, as a noun: `a kill for memory`, `how long prompts are`."""

    test: Test
    says: str


class Beside(Noun):
    """What proves a cause even where one of these others is at work."""

    id: str
    causes: tuple[str, ...]
    """The others: one of them, or a refinement of it."""
    test: Test
    despite: tuple[str, ...] = ()
    """Ids of evidence of this cause that says nothing then: the other fault accounts for it."""
    says: str
    """What is left over that the other does not explain, as the report prints it."""


class Cause(Noun):
    """A hypothesis we know how to recognise."""

    id: str
    title: str
    says: str
    """One sentence, plain words: what is going on inside the server."""
    titles: tuple[Reason, ...] = ()
    """What it is called instead of `title` where one of these holds: the first that does, at any look."""
    prior: float = 0.05
    evidence: tuple[Weight, ...] = ()
    confirm: tuple[str | tuple[str, ...], ...] = ()
    """Ids of weights; `confirmed` needs every one of them to hold, of an inner group any one."""
    told_apart: tuple[Reason, ...] = ()
    """What must have been seen before it is `confirmed`: without it a look-alike leaves the same evidence. Each has to
    hold at some look; `>= 0` asks only whether a fact is known."""
    disproved_by: tuple[Test, ...] = ()
    """If any of these holds the cause is out, whatever else speaks for it."""
    beside: tuple[Beside, ...] = ()
    """What tells of it as a second fault (`beside.py`)."""
    explains: tuple[str, ...] = ()
    """Alerts this cause accounts for; an incident's other symptoms count against it. `*` explains all."""
    why: tuple[Reason, ...] = ()
    """Of a cause that can be certain while its own reason is not: what would tell that."""
    why_otherwise: str = ""
    would_disprove: Disproof
    remedies: tuple[Remedy, ...] = ()
    seen_in: tuple[str, ...] = ()
    """References: seeds, recordings, documents."""
    file: str = ""
    line: int = 0


class Playbook(Noun):
    """One problem class: which alerts open it, what to capture in which order, which causes compete."""

    id: str
    incident_class: str
    title: str
    alerts: tuple[str, ...]
    ladder: tuple[StepCall, ...]
    causes: tuple[str, ...]
    priors: dict[str, float] = Field(default_factory=dict)
    """Cause id -> prior in this class, instead of the cause's own."""
    file: str = ""
    line: int = 0


class Content(Noun):
    """Everything SREs author, loaded and checked: what a verdict depends on besides facts."""

    signals: tuple[Signal, ...] = ()
    rules: tuple[Rule, ...] = ()
    playbooks: tuple[Playbook, ...] = ()
    causes: tuple[Cause, ...] = ()
