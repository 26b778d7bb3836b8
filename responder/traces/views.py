"""What does a trace analysis say? The typed result that the child sends and that text, page and facts are made of.

Times are milliseconds unless the name says otherwise; shares are 0..1; None means the trace does not tell.
"""

from __future__ import annotations

import msgspec


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every part of the result."""


class Category(View, frozen=True, kw_only=True):
    """One kind of GPU work (or CPU operators when there is no GPU)."""

    name: str
    count: int
    sum_ms: float
    """Durations added up: what a kernel table shows."""
    wall_ms: float
    """Time during which at least one of them ran: overlapping ones count once."""
    share: float
    """wall_ms of the analysed span."""


class Kernel(View, frozen=True, kw_only=True):
    """One kernel, copy or operator by name."""

    name: str
    category: str
    count: int
    sum_ms: float
    median_us: float
    max_us: float
    share: float
    """sum_ms of all GPU work added up."""


class Outlier(View, frozen=True, kw_only=True):
    """One instance far from its own siblings, or one of a kind that has no siblings."""

    name: str
    category: str
    at_ms: float
    duration_us: float
    median_us: float | None
    """Of the same kernel in the same phase with the same launch grid; None: it has no siblings."""
    ratio: float | None
    step: int | None
    phase: str
    grid: str
    size_bytes: int = 0
    """Bytes of a copy, elements of a collective."""


class Busy(View, frozen=True, kw_only=True):
    """When did the GPU work?"""

    span_ms: float
    busy_ms: float
    idle_ms: float
    idle_share: float
    idle_reliable: bool
    compute_ms: float
    collective_ms: float
    memory_ms: float
    overlap_share: float | None
    """Share of collective time that computation hid."""
    exposed_collective_ms: float
    streams: int


class GapBucket(View, frozen=True, kw_only=True):
    """Idle gaps of one order of magnitude."""

    label: str
    count: int
    ms: float


class GapCause(View, frozen=True, kw_only=True):
    """What the CPU did while the GPU idled."""

    cause: str
    says: str
    ms: float
    share: float
    """Of the idle time."""


class Gap(View, frozen=True, kw_only=True):
    """One long idle gap."""

    at_ms: float
    ms: float
    causes: dict[str, float]
    """Cause -> ms, largest first."""
    step: int | None
    frame: str
    """The innermost Python frame that covers most of it; empty without stacks."""
    call: str
    """The runtime call or annotation that covers most of it."""


class Waiting(View, frozen=True, kw_only=True):
    """HTA's view of one stream: why was there nothing to run?"""

    stream: str
    host_wait_ms: float
    """The next piece of work was launched after the stream had run dry."""
    kernel_wait_ms: float
    """It had been launched; the pause is the ordinary one between two kernels."""
    other_ms: float


class Gaps(View, frozen=True, kw_only=True):
    """All idle time and its causes."""

    buckets: list[GapBucket]
    causes: list[GapCause]
    longest: list[Gap]
    streams: list[Waiting]


class Blocked(View, frozen=True, kw_only=True):
    """How long did the CPU thread that feeds the GPU stand still for it?"""

    total_ms: float
    share: float
    synchronize_ms: float
    copy_ms: float
    """Copies that return only when done (pageable host memory)."""
    stream_synchronize_ms: float
    event_synchronize_ms: float
    device_synchronize_ms: float
    other_threads_ms: float
    """The same on threads that launch nothing (output threads): they hold nobody up."""
    calls: list[Kernel]


class Launches(View, frozen=True, kw_only=True):
    """Launch calls and what came of them."""

    launches: int
    matched: int
    """GPU events whose launch call is in the trace."""
    launch_bound_share: float | None
    """Share of the span in which the GPU idled because the next launch had not been made."""
    short_kernels: int
    """Kernels that ran shorter than the call that launched them."""
    delay_median_us: float | None
    """From the launch call's end to the kernel's start."""
    delay_p99_us: float | None
    delay_outliers: int
    """Delays over 100 us."""
    call_median_us: float | None
    graph_launches: int
    graph_kernels: int
    """GPU events inside CUDA-graph replays."""
    kernels_per_graph: float | None
    longest_queue: int
    full_queue_ms: float


class Copy(View, frozen=True, kw_only=True):
    """Copies of one direction and memory kind."""

    name: str
    count: int
    bytes: int
    sum_ms: float
    gb_per_s: float | None


class Step(View, frozen=True, kw_only=True):
    """One engine step."""

    index: int
    name: str
    kind: str
    """prefill, decode, mixed, empty, other"""
    at_ms: float
    ms: float
    """From its start to the next step's start; CUDA graphs make the annotation itself end early."""
    gpu_ms: float
    """GPU busy with work this step launched (overlaps counted once)."""
    blocked_ms: float
    idle_ms: float
    prefill_requests: int
    prefill_tokens: int
    decode_requests: int
    decode_tokens: int
    last: bool = False
    """The last step has no next one: it ends with its GPU work."""


class StepKind(View, frozen=True, kw_only=True):
    """Steps of one kind."""

    kind: str
    count: int
    total_ms: float
    median_ms: float
    max_ms: float
    median_tokens: float
    us_per_token: float | None
    """Slope of time over tokens; None if the tokens do not vary."""


class SlowStep(View, frozen=True, kw_only=True):
    """A step that took longer than its kind usually does, and where the time went."""

    step: Step
    usual_ms: float
    excess_ms: float
    because: dict[str, float]
    """Component -> excess ms over the median step of the kind, largest first."""
    says: str


class Steps(View, frozen=True, kw_only=True):
    """Engine steps."""

    count: int
    source: str
    """vllm, profiler, graph or empty."""
    rows: list[Step]
    """At most a few thousand; the slowest are always among them."""
    kinds: list[StepKind]
    slow: list[SlowStep]


class Layer(View, frozen=True, kw_only=True):
    """One transformer layer, per step."""

    index: int
    total_us: float
    attention_us: float | None
    mlp_us: float | None
    ratio: float
    """Against the median layer."""


class Layers(View, frozen=True, kw_only=True):
    """Time per transformer layer."""

    source: str
    """annotations, module stacks, or repetition (found in the order of kernels)."""
    steps: int
    layers: list[Layer]
    unlike: list[int]
    """Layers unlike their siblings."""
    says: str


class Annotation(View, frozen=True, kw_only=True):
    """GPU and CPU time under one annotation."""

    name: str
    count: int
    cpu_ms: float
    gpu_ms: float | None


class Operator(View, frozen=True, kw_only=True):
    """One CPU operator."""

    name: str
    category: str
    count: int
    total_ms: float
    self_ms: float


class Communication(View, frozen=True, kw_only=True):
    """Collectives of one kind as Ascend reports them."""

    name: str
    count: int
    elapsed_ms: float
    transit_ms: float
    wait_ms: float
    synchronization_ms: float


class Stack(View, frozen=True, kw_only=True):
    """One line of a sampled profile."""

    frame: str
    samples: float
    share: float
    leaf_share: float


class Rank(View, frozen=True, kw_only=True):
    """One file (and device) analysed."""

    file: str
    format: str
    label: str
    rank: int | None = None
    world_size: int | None = None
    device: str = ""
    gpu: str = ""
    host: str = ""
    vllm_version: str = ""
    bytes: int = 0
    events: int = 0
    gpu_events: int = 0
    bad_events: int = 0
    span_ms: float = 0.0
    partial: list[str] = []
    notes: list[str] = []
    busy: Busy | None = None
    categories: list[Category] = []
    kernels: list[Kernel] = []
    unknown: list[Kernel] = []
    unknown_share: float = 0.0
    outliers: list[Outlier] = []
    singles: list[Outlier] = []
    gaps: Gaps | None = None
    blocked: Blocked | None = None
    launches: Launches | None = None
    copies: list[Copy] = []
    steps: Steps | None = None
    layers: Layers | None = None
    annotations: list[Annotation] = []
    operators: list[Operator] = []
    operator_categories: list[Category] = []
    stacks: list[Stack] = []
    communication: list[Communication] = []
