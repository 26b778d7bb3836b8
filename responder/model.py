"""What are the nouns? Frozen values that one part of the flow hands to the next. Imports nothing of ours.

Times are unix seconds (UTC) as floats; durations are seconds; shares are 0..1. RFC 3339 appears only in what
leaves the process (`report.py`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Scalar = float | int | bool | str | None
"""What a fact can be; None means *unknown*, never zero and never fine."""

Three = tuple[float | None, float | None, float | None]
Operator = Literal[">", ">=", "<", "<=", "==", "!="]


class Noun(BaseModel):
    """Base of every value here: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Truth(StrEnum):
    """Three truth values everywhere; unknown never silently becomes either of the others."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """How loud an incident is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


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


# ----------------------------------------------------------------------------------------------- what is watched


class Expectation(Noun):
    """What somebody asked this server to deliver; without it low throughput is no incident."""

    generation_tokens_per_second: float | None = None
    requests_per_second: float | None = None


class CapturePolicy(Noun):
    """How far captures of one server may go without asking anybody; durations in seconds."""

    max_rung: int = 1
    pause: float = 4.0
    """All captures of one incident together may pause the server for so long."""
    pause_per_day: float = 30.0
    heavy_per_hour: int = 5
    """Captures of rung 2 and up; this and the one above count the server and its whole host."""
    abort_after: float = 4.0
    last_replica: bool = False
    """Whether rung 2 may run on a server without another healthy replica of its model."""
    approve: tuple[str, ...] = ()
    """Steps a person must approve, whatever their rung."""
    approval_expiry: float = 900.0
    cpu_load: float = 1.5
    """Load per core over which nothing is profiled: on a busy host the end of a profile has taken minutes."""


class Target(Noun):
    """One vLLM server (one API endpoint), as an operator names it."""

    name: str
    """Unique; the host:port of `url` unless the operator named it."""
    url: str
    """Base URL, no trailing slash: http://host:8000."""
    match: dict[str, str] = Field(default_factory=dict)
    """Prometheus labels that select this server's series; {"instance": "host:port"} unless configured."""
    model: str | None = None
    thresholds: dict[str, float] = Field(default_factory=dict)
    """Alert name -> threshold for this target, instead of the number in the rule."""
    expect: Expectation | None = None
    api_key: SecretStr | None = None
    canary: bool = True
    """Whether requests of our own may be sent: what its owner said, else whether `capture.max_rung` is above 0."""
    log_file: str | None = None
    """Where the server's log is; discovered from the process when it runs on this host and this is unset."""
    recorder: str | None = None
    """Folder of the step recorder's ring files; discovered from the process when this is unset."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Free labels of the operator (team, tier), for routing and silences."""
    capture: CapturePolicy | None = None
    node: str = ""
    """Node whose agent does the captures; empty: the responder itself does."""


class ProcessInfo(Noun):
    """One process of a server, as last seen alive."""

    pid: int
    ppid: int
    started_at: float
    """Process start, unix seconds: a recycled pid has another one."""
    role: Literal["launcher", "api_server", "engine_core", "worker", "coordinator", "other"]
    name: str
    """Title or short name: `VLLM::Worker_TP1`."""
    rank: int | None = None


class Inventory(Noun):
    """What the daemon knows of a server from the time it was healthy; it must survive the server's death."""

    at: float
    local: bool
    """Whether the server's processes are visible from here (same host or shared PID namespace)."""
    via: str = ""
    """How commands reach the server's host when it is another one: `ssh gpu-1`, `pod ns/name`; empty: not at all."""
    processes: tuple[ProcessInfo, ...] = ()
    command: tuple[str, ...] = ()
    """argv of the API server, secrets masked."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Allow-listed VLLM_/NCCL_/CUDA_/TORCH_ variables of the API server."""
    log_file: str | None = None
    version: str | None = None
    why_not: str = ""
    """Why processes or log could not be found, in words."""

    @property
    def reachable(self) -> bool:
        """Whether commands run where the server runs."""
        return self.local or bool(self.via)


# ------------------------------------------------------------------------------------------------- what is wrong


class Comparison(Noun):
    """`signal op number`: one term of a rule."""

    signal: str
    op: Operator
    number: float


class Signal(Noun):
    """A recording rule: a name and the PromQL that computes it."""

    name: str
    """Without the `signal:` prefix: ttft_p99."""
    expr: str
    file: str = ""
    line: int = 0


class Rule(Noun):
    """A Prometheus alerting rule. `terms` is its expression as a conjunction of comparisons of signals;
    empty terms mean an expression of another shape, which Prometheus then evaluates as a whole."""

    alert: str
    incident_class: str
    severity: Severity
    expr: str
    terms: tuple[Comparison, ...] = ()
    """The first term carries the threshold an operator may override; terms on `*_samples` are guards: a guard that
    does not hold makes the rule unknown, not false."""
    for_s: float = 0.0
    keep_firing_for_s: float = 0.0
    unit: str = ""
    summary: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    file: str = ""
    line: int = 0


class Sample(NamedTuple):
    """One value of one signal for one label set. `value` None: the series exists but says NaN.

    No noun: a round over a thousand servers makes tens of thousands, from what is checked already.
    """

    signal: str
    labels: dict[str, str]
    value: float | None
    at: float


class Symptom(Noun):
    """A rule that is true for one target (and model, and engine), since when."""

    alert: str
    incident_class: str
    severity: Severity
    target: str
    labels: dict[str, str] = Field(default_factory=dict)
    """model_name, engine and whatever identifies the series."""
    since: float
    """When the condition was first seen true."""
    fired_at: float
    value: float | None = None
    threshold: float | None = None
    unit: str = ""
    summary: str = ""
    """In words, bucket-honest: 'TTFT p99 is between 1 s and 2.5 s, SLO 2 s'."""
    source: str = "rules"
    """rules, or alertmanager when somebody else's Prometheus told us."""


class Change(StrEnum):
    """The reason anything happens next."""

    OPENED = "opened"
    GREW = "grew"
    UNCHANGED = "unchanged"
    RESOLVED = "resolved"


class TimelineEntry(Noun):
    """One dated line of an incident's history."""

    at: float
    kind: Literal["onset", "symptom", "opened", "grew", "capture", "cause", "delivery", "resolved", "note", "action"]
    says: str


class Acknowledged(Noun):
    """Somebody has taken an incident: who, and when."""

    who: str
    at: float


class Incident(Noun):
    """One episode of trouble of one target."""

    id: str
    target: str
    incident_class: str
    severity: Severity
    state: Literal["open", "resolved"] = "open"
    onset_at: float
    """Estimated backwards from the data; never later than `opened_at`."""
    opened_at: float
    resolved_at: float | None = None
    symptoms: tuple[Symptom, ...] = ()
    """Every symptom the episode has had, first seen first."""
    timeline: tuple[TimelineEntry, ...] = ()
    acknowledged: Acknowledged | None = None


# --------------------------------------------------------------------------------------------------- what is done


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
    bytes: int = 0
    files: tuple[str, ...] = ()
    params: dict[str, Any] = Field(default_factory=dict)
    facts: tuple[Fact, ...] = ()


# ---------------------------------------------------------------------------------------------- what it must be


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
    """One thing that would say why a cause came about, as a noun: `a kill for memory`."""

    test: Test
    says: str


class Cause(Noun):
    """A hypothesis we know how to recognise."""

    id: str
    title: str
    says: str
    """One sentence, plain words: what is going on inside the server."""
    prior: float = 0.05
    evidence: tuple[Weight, ...] = ()
    confirm: tuple[str | tuple[str, ...], ...] = ()
    """Ids of weights; `confirmed` needs every one of them to hold, of an inner group any one."""
    disproved_by: tuple[Test, ...] = ()
    """If any of these holds the cause is out, whatever else speaks for it."""
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
    """Ranked hypotheses; `unknown` is always one of them."""

    hypotheses: tuple[Hypothesis, ...]
    playbooks: tuple[str, ...]
    together: tuple[str, ...] = ()
    """Causes that hold at the same time, the weightiest first, when more than one fault is needed to explain all."""
    notes: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------ what it had been


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


# ----------------------------------------------------------------------------------------------------- who is told


class Timings(Noun):
    """How fast we were, seconds; None while it has not happened."""

    detected_s: float | None = None
    """Onset -> opened."""
    first_cause_s: float | None = None
    """Opened -> a cause named."""
    report_s: float | None = None
    """Opened -> complete report."""


class Series(Noun):
    """One signal over time, for charts: (unix seconds, value) pairs; None marks a gap."""

    signal: str
    label: str
    unit: str = ""
    points: tuple[tuple[float, float | None], ...]
    threshold: float | None = None


class TraceRow(Noun):
    """Time of one kind of work or of one kernel in a trace."""

    name: str
    kind: str = ""
    count: int = 0
    ms: float = 0.0
    share: float | None = None
    """0..1: kinds of work of the span, kernels of all their time."""


class TraceStep(Noun):
    """One engine step of a trace; `slow` says where the time of one that stands out went."""

    index: int
    kind: Literal["prefill", "decode", "mixed", "empty", "other"]
    ms: float
    gpu_ms: float = 0.0
    slow: str = ""


class TraceView(Noun):
    """What the trace engine saw of one rank, as much as a report shows."""

    evidence: str
    label: str
    file: str = ""
    about: str = ""
    on_gpu: bool = True
    """False: kinds and kernels are CPU operators."""
    span_ms: float = 0.0
    idle_share: float | None = None
    step_count: int = 0
    steps: tuple[TraceStep, ...] = ()
    kinds: tuple[TraceRow, ...] = ()
    """Steps by kind; `ms` is the median."""
    work: tuple[TraceRow, ...] = ()
    kernels: tuple[TraceRow, ...] = ()
    findings: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()


class Report(Noun):
    """Everything a report says, before it is worded or drawn."""

    revision: int
    stage: Literal["first", "update", "final", "resolved"]
    incident: Incident
    verdict: Verdict
    evidence: tuple[Evidence, ...]
    plan: Plan
    timings: Timings
    series: tuple[Series, ...] = ()
    traces: tuple[TraceView, ...] = ()
    target_url: str = ""
    owed: tuple[str, ...] = ()
    experience: Experience = Experience()
    generated_at: float
    before: tuple[str, str, Status, str] | None = None
    """What the message before named first (cause, title, how sure), and the finding that has changed it since."""
    judged_anew: bool = False
    """By other playbooks than those in force then: the timeline says what was said then."""


class Delivery(Noun):
    """One message to one receiver; the id is the receiver's idempotency key."""

    id: str
    incident: str
    revision: int
    receiver: str
    stage: Literal["first", "update", "final", "resolved"]
    state: Literal["pending", "delivered", "dead", "superseded"] = "pending"
    attempts: int = 0
    next_at: float = 0.0
    error: str = ""
    """Why the last attempt failed; begins with `ambiguous` while an attempt may have arrived without our knowing."""
    queued_at: float = 0.0
    doubtful: bool = False
    """An attempt may have arrived, and it was sent again: the receiver may have it twice."""


class Button(Noun):
    """Something a person may press in a message. Whoever shows it carries the id only; what it means stays with us."""

    id: str = ""
    action: Literal["acknowledge", "silence", "approve", "deny", "right", "wrong"]
    incident: str
    target: str = ""
    step: str = ""
    rung: int = 0
    cause: str = ""
    truth: str = ""
    """Of `wrong`: which cause it was instead; empty: another one, or nobody knows."""
    seconds: float = 0.0
    """Of a silence."""
    until: float = 0.0
    """When the question expires; 0: it does not."""
    what: str = ""
    """What pressing it does to the server, or the name of the cause it was instead, in words."""


class Silence(Noun):
    """A maintenance window: matching symptoms open nothing while it holds."""

    id: str
    match: dict[str, str]
    """Label -> regular expression (fully anchored), over target, alert, class, severity and the target's labels."""
    starts_at: float
    ends_at: float
    comment: str = ""
