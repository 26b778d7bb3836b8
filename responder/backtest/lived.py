"""Which failed scrapes say nothing of the server? Those through which its counters went on.

A daemon asks the server itself. A history has the next scrape that is answered: at once, by the same process, with as
many tokens, requests and steps more as come in that time, and nobody had piled up behind a closed door.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from responder.backtest.find import SEEN
from responder.backtest.scan import Stretch
from responder.model import Target

LONGEST_S = 180.0
"""A longer silence is worth knowing, whatever became of the server."""
USUAL_S = 300.0
"""Before the gap; what a server does in that time is what it would have done in the gap."""
WENT_ON = 0.5
"""Of the usual tokens, requests and steps: who stands still for half of a gap and catches up has made fewer steps."""
LATE = 2.0
"""Times the usual wait for the first token, or as many in flight: who was shut out comes all at once."""
FEW, AT_ONCE_S = 5.0, 0.5
LULL_S = 60.0
"""Before the gap at least; who had little to do so shortly before it may go on so, and works it off one by one."""
COUNTERS = {
    "tokens": "vllm:generation_tokens_total",
    "requests": "vllm:time_to_first_token_seconds_count",
    "steps": "vllm:iteration_tokens_total_count",
}
WAITED = "vllm:time_to_first_token_seconds_sum"
OTHERS = {
    "waited": WAITED,
    "running": SEEN,
    "waiting": "vllm:num_requests_waiting",
    "started": "process_start_time_seconds",
    "took": "scrape_duration_seconds",
}
Rows = Sequence[tuple[Mapping[str, str], Sequence[tuple[float, float | None]]]]
Ask = Callable[[str, str, float, float, float], Awaitable[Rows | None]]
"""(name, PromQL, start, end, step) -> rows; None: nobody answered."""
Shown = Mapping[str, float]
"""What one scrape showed, summed over models and engines; what it did not have is left out."""


class Gap(NamedTuple):
    """Two scrapes that were answered, with none between, and one from before; unix seconds."""

    before: float
    last: float
    next: float
    lately: float | None = None
    """The last one that is as long before `last` as the gap is, and `LULL_S` at least."""


async def lived(ask: Ask, target: Target, stretches: Iterable[Stretch], interval: float) -> list[Stretch]:
    """Of these stretches in which scrapes failed, the gaps that the server worked through."""
    pairs = ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(target.match.items()))
    found = []
    for stretch in stretches:
        stamp = f"timestamp({SEEN}{{{pairs}}})"
        since, until = stretch.since - USUAL_S, stretch.until + LONGEST_S
        answered = _values(await ask("lived", stamp, since, until, max(1.0, interval / 2)))
        for gap in gaps(answered, interval):
            if gap.next >= stretch.since and gap.last <= stretch.until:
                shown = [await _shown(ask, pairs, at) for at in (gap.before, gap.last, gap.next)]
                lull = await _shown(ask, pairs, gap.lately) if gap.lately is not None else {}
                if went_on(gap, *shown) or lulled(gap, lull, *shown):
                    found.append(Stretch(target.name, gap.last, gap.next))
    return found


def gaps(answered: Iterable[float], interval: float) -> list[Gap]:
    """Where scrapes are missing for no longer than `LONGEST_S`, with two scrapes before. answered: unix seconds."""
    ordered = sorted(set(answered))

    def lately(last: float, then: float) -> float | None:
        return max((at for at in ordered if last - USUAL_S <= at <= last - max(LULL_S, then - last)), default=None)

    return [
        Gap(next(at for at in ordered if at >= last - USUAL_S), last, then, lately(last, then))
        for number, (last, then) in enumerate(zip(ordered, ordered[1:], strict=False))
        if number and 1.5 * interval < then - last <= LONGEST_S + 2 * interval
    ]


def went_on(gap: Gap, before: Shown, last: Shown, then: Shown, *, few: bool = False) -> bool:
    """Whether the server was at work through the whole gap and let everybody in, as far as counters tell. few: so few
    requests that their tokens and steps are luck as well."""
    long, usually = gap.next - gap.last, gap.last - gap.before
    if before.get("started") != last.get("started") or last.get("started") != then.get("started") or usually <= 0:
        return False
    if not {"tokens", "requests", "running"} <= before.keys() & last.keys() & then.keys():
        return False
    if then.get("took", 0.0) > max(AT_ONCE_S, LATE * last.get("took", 0.0)):
        return False
    came = max(1.0, (last["requests"] - before["requests"]) * long / usually)
    for name in COUNTERS.keys() & before.keys() & last.keys() & then.keys():
        wanted = (last[name] - before[name]) * long / usually
        chance = wanted / math.sqrt(came) if few or name == "requests" else 0.0
        grew = then[name] - last[name]
        if wanted < 0 or grew < 0 or grew < WENT_ON * wanted - chance:  # began anew, or stood still
            return False
    if then["tokens"] <= last["tokens"]:
        return False
    crowd = then["running"] + then.get("waiting", 0.0)
    at_once = max(_in_flight(before, last, then, long), last["running"] + last.get("waiting", 0.0))
    many = max(LATE * at_once, _batch(before, last)) + FEW
    return crowd <= many and _waited(last, then) <= LATE * _waited(before, last) + AT_ONCE_S


def lulled(gap: Gap, lately: Shown, before: Shown, last: Shown, then: Shown) -> bool:
    """Whether it went on as shortly before the gap, with less to do than usual. Who is shut out comes all at once, and
    a batch needs fewer steps for as many tokens: here they take as many as usual at least."""
    if gap.lately is None or not {"tokens", "steps"} <= lately.keys() & before.keys() & last.keys() & then.keys():
        return False
    if not went_on(Gap(gap.lately, gap.last, gap.next), lately, last, then, few=True):
        return False
    usual, now = (last["tokens"] - before["tokens"]), (then["tokens"] - last["tokens"])
    return usual > 0 and (then["steps"] - last["steps"]) * usual >= (last["steps"] - before["steps"]) * now


def _in_flight(before: Shown, last: Shown, then: Shown, long: float) -> float:
    """As many as come within a second or two: of a fast server hardly anybody is in flight at a scrape."""
    return (then["requests"] - last["requests"]) / long


def _batch(since: Shown, until: Shown) -> float:
    """Mean number of requests that a step gave a token to; one scrape shows a moment. 0 where steps are not counted."""
    steps = until.get("steps", 0.0) - since.get("steps", 0.0)
    return (until["tokens"] - since["tokens"]) / steps if steps > 0 else 0.0


def _waited(since: Shown, until: Shown) -> float:
    """Mean wait for the first token between two scrapes, seconds; 0 where nobody came."""
    count = until["requests"] - since["requests"]
    return (until.get("waited", 0.0) - since.get("waited", 0.0)) / count if count > 0 else 0.0


async def _shown(ask: Ask, pairs: str, at: float) -> Shown:
    found = {}
    for name, metric in (COUNTERS | OTHERS).items():
        values = _values(await ask("lived", f"{metric}{{{pairs}}}", at, at, 1.0))
        if values:
            found[name] = sum(values)
    return found


def _values(rows: Rows | None) -> list[float]:
    return [value for _, row in rows or () for _, value in row if value is not None]
