"""What would simple ways have said of the same moments? Most frequent, first rule, largest change, nearest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from bench.scoring.cases import Case, before_captures
from responder.model import Scalar

Vector = dict[str, Scalar]

RULES: tuple[tuple[str, str, float, str], ...] = (
    ("scrape_gap_s", ">", 10, "engine_crash"),
    ("flat_s", ">", 5, "engine_hang"),
    ("reset", "==", 1, "server_restart"),
    ("preemption_rate.now", ">", 0.02, "kv_pressure_preemption"),
    ("unfinished_share.now", ">", 0.3, "client_abort_storm"),
    ("prefix_hit_rate.change", "<", -0.2, "prefix_cache_collapse"),
    ("prompt_tokens_mean.ratio", ">", 1.5, "long_prompt_blocking"),
    ("waiting.now", ">", 5, "capacity_exceeded"),
    ("itl_mean.ratio", ">", 2, "slow_accelerator"),
    ("ttft_mean.ratio", ">", 3, "frontend_bottleneck"),
    ("generation_rate.ratio", "<", 0.3, "insufficient_load"),
)
"""Rules as people write them: the first that fits names the cause."""
SPEAKS_FOR = {
    "waiting": "capacity_exceeded", "arrival_rate": "capacity_exceeded", "queue_time_mean": "capacity_exceeded",
    "kv_usage": "kv_pressure_preemption", "preemption_rate": "kv_pressure_preemption",
    "prefix_hit_rate": "prefix_cache_collapse", "prompt_tokens_mean": "long_prompt_blocking",
    "itl_mean": "slow_accelerator", "ttft_mean": "capacity_exceeded", "generation_rate": "engine_hang",
    "iteration_rate": "engine_hang", "error_rate": "engine_crash", "unfinished_rate": "client_abort_storm",
    "http_4xx_rate": "client_abort_storm", "api_server_cpu": "frontend_bottleneck",
}  # fmt: skip
FLOOR = {"waiting": 2.0, "arrival_rate": 0.2, "kv_usage": 0.05, "preemption_rate": 0.05, "prefix_hit_rate": 0.05}


def facts_of(case: Case) -> Vector:
    """The last metrics window's facts, without their prefix."""
    out: Vector = {}
    for item in before_captures(case):
        for fact in item.facts:
            if not fact.subject and fact.value is not None:
                out[fact.name.removeprefix("metrics.")] = fact.value
    return out


def number(facts: Vector, name: str) -> float | None:
    """A fact as a number, if it is one."""
    value = facts.get(name)
    return float(value) if isinstance(value, int | float) else None


def first_rule(facts: Vector) -> str:
    """The first rule that fits."""
    for name, op, limit, cause in RULES:
        value = number(facts, name)
        if value is not None and {">": value > limit, "<": value < limit, "==": value == limit}[op]:
            return cause
    return "unknown"


def largest_change(facts: Vector) -> str:
    """The cause of the signal that moved most against what it used to be."""
    moved = []
    for signal, cause in SPEAKS_FOR.items():
        change, usual = number(facts, f"{signal}.change"), number(facts, f"{signal}.baseline")
        if change is not None and usual is not None:
            moved.append((abs(change) / (0.1 * abs(usual) + FLOOR.get(signal, 0.01)), cause))
    return max(moved)[1] if moved else "unknown"


def most_frequent(case: Case, others: Sequence[Case]) -> str:
    """The cause that most other cases have."""
    counts = Counter(cause for other in others if other is not case for cause in other.causes)
    return max(counts, key=lambda cause: (counts[cause], cause)) if counts else "unknown"


def nearest(case: Case, vectors: Sequence[tuple[Case, Vector]]) -> str:
    """The cause of the most similar other recording (leave one out; the same recording's other half left out, too)."""
    mine = next(vector for other, vector in vectors if other is case)
    family = case.name.partition(":")[0]
    best = min(
        ((_distance(mine, theirs), other.name, other) for other, theirs in vectors
         if other is not case and other.name.partition(":")[0] != family and other.causes),
        default=None, key=lambda row: row[:2],
    )  # fmt: skip
    return sorted(best[2].causes)[0] if best else "unknown"


def _distance(one: Vector, other: Vector) -> float:
    """Mean difference over the facts both have, each at most 1."""
    both = [name for name in one.keys() & other.keys() if name.endswith((".ratio", ".change")) or "." not in name]
    if not both:
        return 1.0
    return sum(_apart(one[name], other[name]) for name in both) / len(both)


def _apart(a: Scalar, b: Scalar) -> float:
    if isinstance(a, str) or isinstance(b, str) or a is None or b is None:
        return float(a != b)
    x, y = (math.copysign(math.log1p(abs(float(v))), float(v)) for v in (a, b))
    return min(1.0, abs(x - y))
