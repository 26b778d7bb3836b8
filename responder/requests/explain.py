"""Why were some requests slow? Compared with matched fast ones, in bursts or alone, and by what they share. Pure.

A request is slow when its first token, or its decoding for the number of tokens it made, took far longer than usual
here. Each slow one is set beside fast ones of the same prompt-length band, replica and minute; where there are none,
the match is widened, and how far is said. A stall of the server hits whatever is in flight: then nearly all requests
alive at one moment are slow. Individuals are slow while their neighbours are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from responder.requests.bursts import Burst, bursts_of, regular
from responder.requests.record import Request, pseudonym

ENOUGH = 20
"""Fewer requests say nothing about what is usual."""
LATE_TTFT_S = 0.25
LATE_DECODE_S = 0.5
SPREADS = 5.0
GIANT_TIMES = 6.0
GIANT_TOKENS = 1000
MATCHES = ("same length, replica and minute", "same length and replica", "same length", "any")
PHASES = ("gateway", "before_queue", "queue", "prefill", "decode")


@dataclass(frozen=True)
class Usual:
    """What is normal for these requests: medians."""

    ttft: float | None
    per_token: float | None
    prompt_tokens: float | None
    e2e: float


@dataclass(frozen=True)
class Slow:
    """One slow request and where its time went."""

    request: Request
    excess: float
    """Seconds more than its matched ones."""
    where: str
    """The phase with most of the excess; '' when its span has no phases."""
    phases: dict[str, float]
    """Phase -> seconds more than the matched ones."""
    match: str
    """One of MATCHES: how near the compared ones are."""
    matched: int
    giant: bool


@dataclass(frozen=True)
class Explanation:
    """What can be said of all of them."""

    usual: Usual
    count: int
    slow: tuple[Slow, ...]
    """Worst first."""
    bursts: tuple[Burst, ...]
    period_s: float | None
    pattern: str
    """none, bursts, individuals, mixed, most (nearly all are slow: not sporadic), or unclear."""
    victims: int
    """Slow ones that ran while a giant prompt of the same replica was prefilled."""
    shared: tuple[str, ...]
    """What nearly all slow ones and few fast ones have."""
    retried: int
    """Slow ones that a gateway had tried before."""


def explain(requests: Sequence[Request]) -> Explanation | None:
    """The explanation, or None with too few requests to know what is usual."""
    if len(requests) < ENOUGH:
        return None
    usual = usual_of(requests)
    lateness = _lateness(requests, usual)
    slow_ones = [r for r, late in zip(requests, lateness, strict=True) if late]
    fast = [r for r, late in zip(requests, lateness, strict=True) if not late]
    index = _Index(fast or requests)
    slow = sorted((_compare(r, index, usual) for r in slow_ones), key=lambda s: (-s.excess, s.request.id))
    giants = [s.request for s in slow if s.giant]
    # Whoever only suffers from a giant is no burst of its own: the giant explains it.
    victims = [s for s in slow if not s.giant and _beside(s.request, giants)]
    rest = [s for s in slow if not s.giant and s not in victims] if giants else slow
    share = len(slow) / len(requests)
    bursts = bursts_of([(s.request, s.excess) for s in rest], fast) if share <= 0.6 else []
    return Explanation(
        usual=usual,
        count=len(requests),
        slow=tuple(slow),
        bursts=tuple(bursts),
        period_s=regular([b.at for b in bursts]),
        pattern=_pattern(len(slow), share, len(rest), sum(b.hit for b in bursts), len(giants)),
        victims=len(victims),
        shared=tuple(_shared([s.request for s in slow], fast)) if slow and fast else (),
        retried=sum(s.request.attempts > 1 for s in slow),
    )


def usual_of(requests: Sequence[Request]) -> Usual:
    """Medians of those that have a value."""
    return Usual(
        ttft=_median(r.ttft for r in requests),
        per_token=_median(r.per_token for r in requests),
        prompt_tokens=_median(r.prompt_tokens for r in requests),
        e2e=median(r.e2e for r in requests),
    )


def _lateness(requests: Sequence[Request], usual: Usual) -> list[bool]:
    """Whether each is slow: far off the median, measured in spreads, and by enough to matter to somebody."""
    firsts = [None if r.ttft is None or usual.ttft is None else r.ttft - usual.ttft for r in requests]
    rests = [_decode_excess(r, usual.per_token) for r in requests]
    wholes = [r.e2e - usual.e2e if r.ttft is None and r.decode is None else None for r in requests]
    first_limit = max(LATE_TTFT_S, SPREADS * _spread(firsts), 2 * (usual.ttft or 0.0))
    rest_limit = max(LATE_DECODE_S, SPREADS * _spread(rests))
    whole_limit = max(LATE_DECODE_S, SPREADS * _spread(wholes), 2 * usual.e2e)
    return [
        (a is not None and a >= first_limit)
        or (b is not None and b >= rest_limit)
        or (c is not None and c >= whole_limit)
        for a, b, c in zip(firsts, rests, wholes, strict=True)
    ]


def _decode_excess(request: Request, per_token: float | None) -> float | None:
    if request.decode is None or per_token is None or not request.completion_tokens:
        return None
    return request.decode - per_token * (request.completion_tokens - 1)


def _spread(values: Iterable[float | None]) -> float:
    known = [v for v in values if v is not None]
    middle = median(known) if known else 0.0
    return median(abs(v - middle) for v in known) if known else 0.0


def _median(values: Iterable[float | int | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(median(known)) if known else None


# ----------------------------------------------------------------------------------------------------- comparison


def band(tokens: int | None) -> int:
    """Prompt-length band: powers of two; -1 when unknown."""
    return -1 if tokens is None else max(0, tokens - 1).bit_length()


class _Index:
    """Fast requests by how near they are to a slow one."""

    def __init__(self, fast: Sequence[Request]) -> None:
        self.keys: tuple[Callable[[Request], object], ...] = (
            lambda r: (band(r.prompt_tokens), r.replica, int(r.start // 60)),
            lambda r: (band(r.prompt_tokens), r.replica),
            lambda r: band(r.prompt_tokens),
            lambda r: 0,
        )
        self.groups: list[dict[object, list[Request]]] = []
        self._middles: dict[tuple[int, object], dict[str, float]] = {}
        for key in self.keys:
            groups: dict[object, list[Request]] = {}
            for request in fast:
                groups.setdefault(key(request), []).append(request)
            self.groups.append(groups)

    def nearest(self, request: Request) -> tuple[int, list[Request], dict[str, float]]:
        """(which of MATCHES, the matched ones, their middle per phase): the nearest group with three or more."""
        for level, key in enumerate(self.keys):
            found = self.groups[level].get(key(request), [])
            if len(found) >= 3 or level == len(self.keys) - 1:
                place = (level, key(request))
                if place not in self._middles:
                    self._middles[place] = _middles(found)
                return level, found, self._middles[place]
        raise AssertionError("the last level takes everything")


def _middles(matched: Sequence[Request]) -> dict[str, float]:
    found = {
        "gateway": _median(_before_vllm(r) for r in matched),
        "before_queue": _median(r.before_queue for r in matched),
        "queue": _median(r.queue for r in matched),
        "prefill": _median(r.prefill for r in matched),
        "per_token": _median(r.per_token for r in matched),
        "e2e": _median(r.e2e for r in matched),
    }
    return {name: value for name, value in found.items() if value is not None}


def _before_vllm(request: Request) -> float | None:
    return None if request.gateway is None else max(0.0, request.gateway - request.e2e)


def _compare(request: Request, index: _Index, usual: Usual) -> Slow:
    level, matched, middle = index.nearest(request)
    mine = {
        "gateway": _before_vllm(request), "before_queue": request.before_queue, "queue": request.queue,
        "prefill": request.prefill,
    }  # fmt: skip
    phases = {name: value - middle.get(name, 0.0) for name, value in mine.items() if value is not None}
    decode = _decode_excess(request, middle.get("per_token", usual.per_token))
    if decode is not None:
        phases["decode"] = decode
    excess = sum(v for name, v in phases.items() if name != "gateway" and v > 0)
    if not phases:
        excess = max(0.0, request.e2e - middle.get("e2e", usual.e2e))
    inside = {k: v for k, v in phases.items() if v > 0}
    where = max(inside, key=lambda k: (inside[k], k)) if inside else ""
    giant = _is_giant(request, usual)
    return Slow(request, excess, where, phases, MATCHES[level], len(matched), giant)


def _is_giant(request: Request, usual: Usual) -> bool:
    """Its prompt is far longer than usual and its prefill takes more than its queueing."""
    if request.prompt_tokens is None or usual.prompt_tokens is None:
        return False
    large = request.prompt_tokens >= max(GIANT_TOKENS, GIANT_TIMES * usual.prompt_tokens)
    return large and (request.prefill is None or request.prefill >= (request.queue or 0.0))


def _beside(request: Request, giants: Iterable[Request]) -> bool:
    for giant in giants:
        ends = giant.start + (giant.ttft if giant.ttft is not None else giant.e2e)
        began = ends - (giant.prefill if giant.prefill is not None else giant.e2e)
        if request.replica == giant.replica and request.start <= ends and request.end >= began:
            return True
    return False


def _pattern(slow: int, share: float, rest: int, in_bursts: int, giants: int) -> str:
    if slow == 0:
        return "none"
    if share > 0.6:
        return "most"
    alone = rest - in_bursts + giants
    if in_bursts >= 0.8 * (in_bursts + alone):
        return "bursts"
    if in_bursts <= 0.2 * (in_bursts + alone):
        return "individuals" if alone >= 2 or giants else "unclear"
    return "mixed"


# ------------------------------------------------------------------------------------------------ what they share


def _traits(request: Request) -> Iterable[tuple[str, object]]:
    yield "replica", request.replica.name
    yield "model", request.model
    yield "tenant", pseudonym(request.tenant) if not request.tenant.startswith("tenant-") else request.tenant
    yield "prompt tokens", _range(request.prompt_tokens)
    yield "output tokens", _range(request.completion_tokens)
    yield "max_tokens", _range(request.max_tokens)
    yield "n", request.n
    yield "temperature", request.temperature
    yield "attempts", "more than one" if request.attempts > 1 else None


def _range(tokens: int | None) -> str | None:
    if tokens is None:
        return None
    top = 1 << band(tokens)
    return f"{top // 2 + 1}..{top}" if top > 1 else "1"


def _shared(slow: Sequence[Request], fast: Sequence[Request]) -> Iterable[str]:
    """Traits of at least 80 % of the slow and at most 30 % of the fast ones, strongest first."""
    of_slow = Counter(t for r in slow for t in _traits(r) if t[1] not in (None, ""))
    of_fast = Counter(t for r in fast for t in _traits(r) if t[1] not in (None, ""))
    found = []
    for trait, count in of_slow.items():
        here, there = count / len(slow), of_fast[trait] / len(fast)
        if count >= 2 and here >= 0.8 and there <= 0.3:
            says = f"{trait[0]} {trait[1]} ({count} of {len(slow)} slow, {there:.0%} of fast)"
            found.append((here - there, says))
    return [says for _, says in sorted(found, key=lambda f: (-f[0], f[1]))]
