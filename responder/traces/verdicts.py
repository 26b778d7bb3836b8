"""What do several traces say together? Across ranks, before and after, what stands out, and the whole result."""

from __future__ import annotations

from responder.traces.views import Rank, View


class RankLateness(View, frozen=True, kw_only=True):
    """How one rank arrives at collectives."""

    rank: str
    last_share: float
    """Share of collectives it arrives at last."""
    lateness_median_us: float
    """Behind the first rank to arrive."""
    lateness_p99_us: float
    caused_wait_ms: float
    """Time the others spent waiting for it, where it was last."""
    waited_ms: float


class Collective(View, frozen=True, kw_only=True):
    """One collective with a long wait."""

    index: int
    name: str
    last_rank: str
    wait_ms: float
    transfer_us: float
    step: int | None


class Across(View, frozen=True, kw_only=True):
    """What only several ranks together tell."""

    ranks: list[str]
    missing: list[int]
    matched: int
    unmatched: int
    transfer_ms: float
    """Minimum over ranks of each collective, added up: the data movement itself."""
    wait_ms: float
    """Mean over ranks of what is beyond it: waiting for the slow rank."""
    clock_offsets_us: dict[str, float]
    """Added to a rank's times so that collectives end together."""
    clock_error_us: float
    lateness: list[RankLateness]
    worst: list[Collective]
    straggler: str
    says: str


class Change(View, frozen=True, kw_only=True):
    """One thing that grew or shrank between two traces, per step where both have steps."""

    what: str
    category: str
    before: float
    after: float
    delta: float
    ratio: float | None
    before_count: float
    after_count: float


class Diff(View, frozen=True, kw_only=True):
    """Before and after."""

    before: str
    after: str
    per_step: bool
    unit: str
    measures: list[Change]
    categories: list[Change]
    kernels: list[Change]
    says: str


class Finding(View, frozen=True, kw_only=True):
    """One thing an engineer should look at first."""

    lost_ms: float
    says: str
    rank: str = ""


class TraceReport(View, frozen=True, kw_only=True):
    """Everything."""

    ranks: list[Rank]
    across: list[Across] = []
    """One per run: a folder may hold several profiling sessions."""
    diff: Diff | None = None
    findings: list[Finding] = []
    problems: list[str] = []
    """Files that could not be read, and why."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
