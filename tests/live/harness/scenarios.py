"""Which faults do we make, and what is the truth about each? Data: traffic before, what changes, the right answer.

Overload is given as a multiple of `capacity`, the requests per second of the usual kind that the server answers when it
is never idle (`play.measure_capacity`, once per server), so that a fast and a slow machine get the same fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tests.live.harness import faults
from tests.live.harness.faults import Fault
from tests.live.harness.load import Traffic

COMMON = ("--block-size", "32", "--max-num-batched-tokens", "2048", "--enable-server-load-tracking")
ROOMY = ("--max-model-len", "4096", "--max-num-seqs", "16", *COMMON)
"""A server with KV cache to spare (419,000 tokens) that answers sixteen requests at a time."""
STARVED = ("--max-model-len", "2048", "--max-num-seqs", "32", "--num-gpu-blocks-override", "128", *COMMON)
"""The same model with room for 4,096 tokens of KV cache."""

USUAL = Traffic(rate=3, prompt_tokens=200, output_tokens=150, shared=0.5, most_outstanding=60)
USUAL_SHARE = 0.25
"""Usual traffic never takes more of the server's capacity than this."""
QUIET = Traffic(rate=0)
MOST_WAITING = 200
"""Of an overload: more would only make the wait after it longer."""


@dataclass(frozen=True)
class Scenario:
    """One experiment: `usual` traffic, then `during` with `fault`, then `usual` again."""

    name: str
    says: str
    server: tuple[str, ...] = ROOMY
    usual: Traffic = USUAL
    during: Traffic = USUAL
    of_capacity: float | None = None
    """Rate of `during` as a multiple of the server's capacity, instead of its `rate`."""
    fault: Fault = faults.nothing
    fault_s: float = 45.0
    """How long the fault holds at most."""
    incident_class: str | None = None
    """None: there must be no incident."""
    causes: tuple[str, ...] = ()
    """The right first hypothesis: any of these."""
    deadly: bool = False
    """The server does not survive it."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """What an operator would have configured for this target: alert -> threshold."""

    def on(self, capacity: float) -> Scenario:
        """The same experiment with its rates fixed for a server of that capacity."""
        during = self.during
        if self.of_capacity is not None:
            during = replace(during, rate=self.of_capacity * capacity, most_outstanding=MOST_WAITING)
        elif during == self.usual:
            during = self._usual(capacity)
        return replace(self, usual=self._usual(capacity), during=during)

    def _usual(self, capacity: float) -> Traffic:
        if self.usual.prompt_tokens > 4 * USUAL.prompt_tokens:
            return self.usual  # another kind of request: the measured capacity says nothing about it
        return replace(self.usual, rate=min(self.usual.rate, USUAL_SHARE * capacity))


HEALTHY = Scenario("healthy", "steady load, nothing wrong")
IDLE = Scenario("idle", "no requests at all", usual=QUIET, during=QUIET)
BURST = Scenario("burst", "healthy, with a ten-second burst that fills the server", of_capacity=0.8, fault_s=10.0)
BURST_HARD = Scenario(
    "burst_hard", "healthy, with a ten-second burst of one and a half times the capacity", of_capacity=1.5, fault_s=10.0
)

SPIKE = Scenario(
    "spike",
    "arrivals rise to two and a half times what the server can answer",
    of_capacity=2.5,
    incident_class="high_ttft",
    causes=("capacity_exceeded",),
)
PREFIX_COLLAPSE = Scenario(
    "prefix_collapse",
    "same rate and length, but prompts share nothing any more",
    usual=Traffic(rate=7, prompt_tokens=2800, output_tokens=20, shared=0.97, spread=0.1),
    during=Traffic(rate=7, prompt_tokens=2800, output_tokens=20, shared=0.0, spread=0.1, most_outstanding=60),
    incident_class="high_ttft",
    causes=("prefix_cache_collapse",),
)
LONG_PROMPTS = Scenario(
    "long_prompts",
    "same rate, but prompts are sixteen times as long",
    usual=replace(USUAL, rate=4, shared=0.0, output_tokens=60),
    during=Traffic(rate=4, prompt_tokens=3200, output_tokens=60, shared=0.0, spread=0.05, most_outstanding=60),
    incident_class="high_ttft",
    causes=("long_prompt_blocking",),
)
CLIENT_ABORTS = Scenario(
    "client_aborts",
    "many clients come and go away after five tokens",
    during=Traffic(rate=20, prompt_tokens=200, output_tokens=400, shared=0.5, abort_after=5),
    causes=("client_abort_storm",),
)
SLOW_ACCELERATOR = Scenario(
    "slow_accelerator",
    "the worker runs a tenth of the time",
    usual=replace(USUAL, rate=1),
    during=replace(USUAL, rate=1),
    fault=faults.slowed(faults.worker, stopped_share=0.9),
    incident_class="slow_decode",
    causes=("slow_accelerator",),
)
STALLS = Scenario(
    "stalls",
    "the engine stands still for two and a half seconds every ten",
    fault=faults.stalling(faults.engine_core, stop_s=2.5, every_s=10.0),
    incident_class="sporadic_slow",
    causes=("engine_stalls",),
)
ENGINE_HANG = Scenario(
    "engine_hang",
    "the engine is stopped under load",
    fault=faults.stopped(faults.engine_core),
    incident_class="hang_or_crash",
    causes=("engine_hang",),
)
WORKER_HANG = Scenario(
    "worker_hang",
    "the worker is stopped under load",
    fault=faults.stopped(faults.worker),
    incident_class="hang_or_crash",
    causes=("worker_hang",),
)
WORKER_HANG_IDLE = Scenario(
    "worker_hang_idle",
    "the worker is stopped while the server is idle, then requests come",
    usual=QUIET,
    during=replace(USUAL, rate=1),
    fault=faults.stopped(faults.worker),
    incident_class="hang_or_crash",
    causes=("worker_hang",),
)
FRONTEND_FROZEN = Scenario(
    "frontend_frozen",
    "the API server is stopped under load",
    fault=faults.stopped(faults.api_server),
    incident_class="hang_or_crash",
    causes=("frontend_frozen",),
)
RESTART = Scenario("restart", "a graceful restart, as a deploy does it", fault=faults.restarted, fault_s=0.0)
ENGINE_KILLED = Scenario(
    "engine_killed",
    "kill -9 of the engine under load",
    fault=faults.killed(faults.engine_core),
    incident_class="hang_or_crash",
    causes=("engine_crash",),
    deadly=True,
)
WORKER_KILLED = replace(
    ENGINE_KILLED, name="worker_killed", says="kill -9 of the worker under load", fault=faults.killed(faults.worker)
)
FRONTEND_KILLED = replace(
    ENGINE_KILLED,
    name="frontend_killed",
    says="kill -9 of the API server under load: orphans stay",
    fault=faults.killed(faults.api_server),
)
KV_STARVATION = Scenario(
    "kv_starvation",
    "long generations on a server with little KV cache",
    server=STARVED,
    usual=replace(USUAL, rate=2, output_tokens=80),
    during=Traffic(rate=8, prompt_tokens=200, output_tokens=700, shared=0.0, most_outstanding=40),
    incident_class="high_ttft",
    causes=("kv_pressure_preemption",),
)

ALL = (
    HEALTHY,
    IDLE,
    BURST,
    BURST_HARD,
    SPIKE,
    PREFIX_COLLAPSE,
    LONG_PROMPTS,
    CLIENT_ABORTS,
    SLOW_ACCELERATOR,
    STALLS,
    ENGINE_HANG,
    WORKER_HANG,
    WORKER_HANG_IDLE,
    FRONTEND_FROZEN,
    RESTART,
    KV_STARVATION,
    ENGINE_KILLED,
    WORKER_KILLED,
    FRONTEND_KILLED,
)
