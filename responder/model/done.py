"""What is done about it? Plans, what a step brought back, what it cost, what is owed and what waits for a person."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from responder.model.noun import Noun, Scalar, Three


class StepCall(Noun):
    """A playbook's wish: run this step with these parameters."""

    step: str
    rung: int
    params: dict[str, Any] = Field(default_factory=dict)
    """Plain values as YAML has them; the step's own model checks them."""
    why: str = ""


class Refusal(Noun):
    """A call that will not run, and the reason people are told."""

    call: StepCall
    why: str


class Plan(Noun):
    """What to capture in which order, and what is refused."""

    chosen: tuple[StepCall, ...] = ()
    refused: tuple[Refusal, ...] = ()


class Outcome(StrEnum):
    """How a step ended; every one of these is evidence."""

    OK = "ok"
    PARTIAL = "partial"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    SKIPPED = "skipped"
    DENIED = "denied"
    INTERRUPTED = "interrupted"


class Fact(Noun):
    """One typed statement about the world, with unit, source and time. `value` None: looked, could not tell."""

    name: str
    value: Scalar
    unit: str = ""
    step: str
    file: str = ""
    """The raw file it was read from, relative to `raw/<step>/`."""
    at: float = 0.0
    """When it was true in the world; 0 means: when the step ran."""
    subject: str = ""
    """Of which rank, process, GPU or engine; empty for the server as a whole. Clauses read only those without."""
    says: str = ""
    """The fact in words, when the name and value are not enough."""
    momentary: bool = Field(default=False, exclude=True)
    """True of the seconds in which it was looked at, and of no other; as the step declares it."""


class Served(Noun):
    """What users got in the seconds a step looked, means of the server's own sums. None: nothing was counted."""

    itl_s: float | None = None
    ttft_s: float | None = None
    tokens_per_s: float | None = None


class Cost(Noun):
    """What one capture cost the server's users: the same figures before, during and after it. None: not known."""

    seconds: float = 0.0
    pause_s: float = 0.0
    """Longest time without any token while it ran, beyond the longest before it."""
    silence_s: Three = (None, None, None)
    gap_p99_s: Three = (None, None, None)
    """Between two tokens of one client, seen from outside; the following are means of the server's own sums."""
    ttft_s: Three = (None, None, None)
    itl_s: Three = (None, None, None)
    tokens_per_s: Three = (None, None, None)
    aborted: str = ""
    """Why the capture was ended early for the server's sake."""
    says: str = ""


class Obligation(Noun):
    """An end we owe a server: written before what it ends is begun."""

    id: str
    target: str
    url: str
    step: str
    incident: str = ""
    opened_at: float
    due_at: float
    """When the guard acts, if nobody has."""
    born_at: float | None = None
    """Start of the server's process: after a restart nothing is owed any more."""
    repeat_safe: bool = False
    """Whether asking twice is harmless; vLLM before 0.32 crashes on the second stop."""
    stop_sent_at: float | None = None
    state: Literal["open", "settled"] = "open"
    settled_at: float | None = None
    by: Literal["", "daemon", "guard"] = ""
    note: str = ""
    place: str = ""
    """The responder or agent whose guard watches over it; empty: written when there was only one."""


class Approval(Noun):
    """A capture that waits for a person, and what the person said."""

    incident: str
    step: str
    target: str
    rung: int
    asked_at: float
    expires_at: float
    decision: Literal["pending", "approved", "denied", "expired"] = "pending"
    who: str = ""
    decided_at: float | None = None


class Evidence(Noun):
    """What one step brought back; a failure is evidence too."""

    id: str
    """Unique in its incident: `stacks`, or `stacks-2` for the second run."""
    step: str
    rung: int
    outcome: Outcome
    reason: str = ""
    started_at: float
    seconds: float
    pause_seconds: float = 0.0
    """Measured pause of the server, 0 for rung 0."""
    cost: Cost | None = None
    served: Served | None = None
    """While it looked; None: nobody counted."""
    bytes: int = 0
    files: tuple[str, ...] = ()
    params: dict[str, Any] = Field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
