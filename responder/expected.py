"""What latency is to be expected of this server at this load? Learned from its own healthy hours, with the uncertainty.

Inter-token latency is about linear in the batch, the prompt tokens computed beside it and the KV cache in use; the time
to the first token in the prompt, the part of it no cache held, and the batch. Recursive least squares keeps what was
learned in a few numbers; an outlier pulls no harder than a few standard deviations. Where the load is unlike anything
learned there is no expectation: unknown, not a guess.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from responder.model import Noun

ENOUGH = 40
"""Fewer healthy samples teach nothing."""
FORGETS = 0.9995
LOOSE = 1e4
"""Uncertainty of a weight nothing was learned about; it never grows beyond."""
PULL = 4.0
"""An innovation counts for at most this many standard deviations."""
VARIANCE_OVER = 300
LEAST_SPREAD = 0.02
"""A prediction is never surer than this share of itself: quantised series may look exact."""
TOO_VAGUE = 0.5
"""An expectation with a standard deviation above this share of itself is none."""
BEYOND = 0.25
"""How far outside of the loads learned an expectation still holds, as a share of their span or size."""


class Observation(NamedTuple):
    """Load and latency of a server over some seconds; None: not known."""

    running: float | None
    """Requests in the batch."""
    computed: float | None
    """Prompt tokens computed per second."""
    kv_usage: float | None
    prompt_tokens: float | None
    """Mean prompt length."""
    hit_rate: float | None
    itl: float | None
    """Mean inter-token latency, seconds."""
    ttft: float | None
    """Mean time to first token, seconds."""


class Regression(Noun):
    """Recursive least squares, as stored."""

    weights: tuple[float, ...] = ()
    spread: tuple[tuple[float, ...], ...] = ()
    """Covariance of the weights in units of the residuals' variance."""
    variance: float = 0.0
    samples: int = 0
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


class Model(Noun):
    """What was learned about one server."""

    itl: Regression = Regression()
    ttft: Regression = Regression()


class Expected(NamedTuple):
    """An expectation in seconds and its standard deviation, that of a single sample included."""

    value: float
    sigma: float


def learn(model: Model, seen: Observation) -> Model:
    """The model with one more healthy sample."""
    itl, ttft = model.itl, model.ttft
    x = itl_load(seen)
    if x is not None and seen.itl is not None:
        itl = update(itl, x, seen.itl)
    x = ttft_load(seen)
    if x is not None and seen.ttft is not None:
        ttft = update(ttft, x, seen.ttft)
    return Model(itl=itl, ttft=ttft)


def itl_load(seen: Observation) -> tuple[float, ...] | None:
    """What inter-token latency depends on; None while nothing runs or something is not known."""
    if not seen.running or seen.computed is None or seen.kv_usage is None:
        return None
    return (1.0, seen.running / 16, seen.computed / 4096, seen.kv_usage)


def ttft_load(seen: Observation) -> tuple[float, ...] | None:
    """What the time to the first token depends on; a server that tells of no prefix cache has no hits."""
    if seen.running is None or seen.prompt_tokens is None:
        return None
    prompt = seen.prompt_tokens / 512
    return (1.0, prompt, prompt * (1 - (seen.hit_rate or 0.0)), seen.running / 16)


def update(past: Regression, x: Sequence[float], y: float) -> Regression:
    """One more sample. A sample far off moves the weights no more than one PULL standard deviations off would."""
    if not past.weights:
        eye = tuple(tuple(LOOSE if i == j else 0.0 for j in range(len(x))) for i in range(len(x)))
        past = Regression(weights=(0.0,) * len(x), spread=eye, low=tuple(x), high=tuple(x))
    gain = _times(past.spread, x)
    leverage = _dot(x, gain)
    error = y - _dot(past.weights, x)
    settled = past.samples > 2 * len(x)
    if settled:
        most = PULL * max(math.sqrt(past.variance * (1 + leverage)), LEAST_SPREAD * abs(y - error))
        error = max(-most, min(most, error))
    forgets = FORGETS if max(past.spread[i][i] for i in range(len(x))) < LOOSE / 2 else 1.0
    weights = tuple(w + g * error / (forgets + leverage) for w, g in zip(past.weights, gain, strict=True))
    spread = tuple(
        tuple((past.spread[i][j] - gain[i] * gain[j] / (forgets + leverage)) / forgets for j in range(len(x)))
        for i in range(len(x))
    )
    over = min(past.samples - 2 * len(x) + 1, VARIANCE_OVER)
    variance = past.variance + (error * error / (1 + leverage) - past.variance) / over if settled else past.variance
    return Regression(
        weights=weights,
        spread=spread,
        variance=variance,
        samples=past.samples + 1,
        low=tuple(map(min, past.low, x)),
        high=tuple(map(max, past.high, x)),
    )


def expect(past: Regression, x: Sequence[float] | None) -> Expected | None:
    """The expectation at a load; None with too little learned, too far from what was learned, or too vague."""
    if x is None or past.samples < ENOUGH or len(x) != len(past.weights):
        return None
    for value, low, high in zip(x, past.low, past.high, strict=True):
        room = BEYOND * max(high - low, abs(high), abs(low)) + 1e-9
        if not low - room <= value <= high + room:
            return None
    value = _dot(past.weights, x)
    sigma = math.sqrt(max(past.variance, 0.0) * (1 + max(0.0, _dot(x, _times(past.spread, x)))))
    sigma = max(sigma, LEAST_SPREAD * abs(value))
    return Expected(value, sigma) if value > 0 and sigma <= TOO_VAGUE * value else None


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


def _times(matrix: Sequence[Sequence[float]], x: Sequence[float]) -> tuple[float, ...]:
    return tuple(_dot(row, x) for row in matrix)
