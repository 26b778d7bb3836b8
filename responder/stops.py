"""When did the engine stand still, and when did nobody answer? Pure statistics over a `Window`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from statistics import median

from responder.model import Scalar
from responder.window import COMPUTED, SCRAPED_AT, Window

STALL_S = 1.0
FREEZE_S = 5.0
EPISODE_BEFORE_ONSET_S = 60.0
"""A freeze is noticed by its consequences: the onset may be estimated after it ended."""
MISSED_CALLS = 10.0
"""So many requests would have come in a silence: that none did is no chance."""
WAITED_INSIDE = 0.4
"""Of those who came evenly during a stop each waited half of it, on average, and then for those before it."""
HARDLY_WAITED = 0.1
"""Of a stop: its first calls came in its beginning, and are served first."""

GAPS_BEFORE_ONSET_S = 10.0
OFTENER_LOST = 3.0
"""Times as many scrapes lost as in usual times are no chance."""
LONGER_THAN_LOST = 3
"""Scrapes more in a row than ever get lost are a silence of its own."""
ONE_IS_ENOUGH_S, GIVEN_UP_S = 30.0, 0.8

LATE_SCRAPE_S = 0.25
LATER_THAN_MOST = 10.0
"""Times the median of those that are answered: of a busy server every scrape takes long."""
REFUSED_S = 0.2
"""What fails sooner was refused: nobody listens. A frozen server and a lost packet are waited for."""


@dataclass(frozen=True)
class Stretch:
    """A time in which no step returned although scrapes were answered."""

    since: float
    until: float
    in_flight: bool | None
    """Whether requests were in flight all through; None when the gauges do not say."""
    ended: bool
    """Whether counters moved again afterwards."""

    @property
    def seconds(self) -> float:
        """Length as far as scrapes show it; the true one is up to one scrape interval longer on either side."""
        return self.until - self.since


def stretches(window: Window) -> list[Stretch] | None:
    """Every stretch of equal progress counters over at least two scrapes; None without progress counters."""
    scrapes = _scrapes(window)
    if len(scrapes) < 2:
        return None
    found: list[Stretch] = []
    first = 0
    for at in range(1, len(scrapes) + 1):
        if at < len(scrapes) and scrapes[at][1] == scrapes[first][1]:
            continue
        if at - 1 > first:
            since, until = scrapes[first][0], scrapes[at - 1][0]
            found.append(Stretch(since, until, _in_flight(window, since, until), at < len(scrapes)))
        first = at
    return found


def _scrapes(window: Window) -> list[tuple[float, float]]:
    """(scrape time, progress) without repeats. Without scrape times, a point may show the scrape before it."""
    progress = window.signals.get("progress_total", ())
    scraped = window.signals.get(SCRAPED_AT, (None,) * window.length)
    out: list[tuple[float, float]] = []
    for index, value in enumerate(progress):
        if value is None:
            continue
        at = scraped[index]
        if at is None:
            at = window.at(index)
        if window.disturbed(at):
            continue
        if not out or at > out[-1][0]:
            out.append((at, value))
    return out


def _in_flight(window: Window, since: float, until: float) -> bool | None:
    signal = "in_flight" if "in_flight" in window.signals else "running"
    inside = [value for _, value in window.points(signal, since, until + window.step)]
    if not inside:
        return None
    # The last point may already show the time after the stretch.
    inside = inside[:-1] or inside
    return min(inside) > 0


def standing(window: Window) -> dict[str, Scalar]:
    """flat_s, flat_with_in_flight, catch_up, stalls, longest_stall_s; what cannot be told is None.

    Of several engines in a process one may stand still with requests in flight while others go on: it is told of."""
    whole = _standing(window)
    alone = [_standing(engine) for engine in _engines(window)]
    stuck = [one for one in alone if one["flat_with_in_flight"]]
    if not stuck or whole["flat_with_in_flight"]:
        return whole
    return max(stuck, key=lambda one: float(one["flat_s"] or 0.0))


def _engines(window: Window) -> list[Window]:
    """Each engine's own view; none of a server with one."""
    names = window.engines.get("progress_total", {})
    return [
        replace(window, signals={**window.signals, **{signal: rows[name] for signal, rows in window.engines.items()
                                                      if name in rows}}, engines={})
        for name in names
    ]  # fmt: skip


def _standing(window: Window) -> dict[str, Scalar]:
    found = stretches(window)
    if found is None:
        return dict.fromkeys(("flat_s", "flat_with_in_flight", "catch_up", "stalls", "longest_stall_s"))
    last = found[-1] if found and not found[-1].ended else None
    flat_s = _flat(window, last)
    long_enough = flat_s >= max(2 * window.interval, 3.0)
    stalls = _stalls(window, found)
    return {
        "flat_s": flat_s,
        "flat_with_in_flight": (last.in_flight if last else False) if long_enough else False,
        "catch_up": any(s.ended and s.seconds >= FREEZE_S for s in stalls) or _after_silence(window, found),
        "stalls": len(stalls),
        "longest_stall_s": max((s.seconds for s in stalls), default=0.0),
    }


def _stalls(window: Window, found: list[Stretch]) -> list[Stretch]:
    """Those of the episode in which requests were in flight."""
    since = window.onset_at - EPISODE_BEFORE_ONSET_S
    return [s for s in found if s.in_flight and s.seconds >= STALL_S and s.until >= since]


def _after_silence(window: Window, found: list[Stretch]) -> bool | None:
    """Whether an engine that counted nobody just before, for longer than chance explains, had hung meanwhile.

    vLLM updates its gauges when a step returns: an engine that hangs while idle shows nobody, and then all of them. Who
    waited inside for a good part of the silence, and from before its end, had come in it. False where those who were
    answered first had waited for hardly any of it: who waits longest is served first. None: so many may have come at
    once, and nobody's first token tells."""
    for stop in found:
        recent = stop.until >= window.onset_at - EPISODE_BEFORE_ONSET_S
        if not recent or not stop.ended or stop.in_flight is not False or stop.seconds < FREEZE_S:
            continue
        rates = [value for _, value in window.points("arrival_rate", window.start, stop.since)]
        if rates and median(rates) * stop.seconds >= MISSED_CALLS:
            waited = window.points("queue_time_mean", stop.until, window.end)
            came_in_it = (at - wait < stop.until and wait >= WAITED_INSIDE * stop.seconds for at, wait in waited)
            if any(came_in_it):
                return True
            first_answered = window.points("ttft_mean", stop.until, window.end)[:1]
            return False if any(wait < HARDLY_WAITED * stop.seconds for _, wait in first_answered) else None
    return False


def prefill_at_stops(window: Window, usual: float | None, arrivals: float | None) -> float | None:
    """Prompt tokens computed from the beginning of each stop until as long after it, against what is computed in such a
    time, the median of all stops. None without a counter, without a usual rate, or without a stop that ended.

    usual: prompt tokens per second before the onset; arrivals: requests per second against before. An engine that stood
    still works off what arrived meanwhile, no more: about 1. One that computed a giant's prompt shows its tokens.
    """
    found = stretches(window)
    if found is None or usual is None or usual <= 0:
        return None
    expected = usual * max(1.0, arrivals or 1.0)
    ratios = []
    for stop in _stalls(window, found):
        # A chunk may follow, with tokens of others between; prompt tokens are counted when the last chunk is done.
        until = stop.until + max(stop.seconds, window.interval) + 2 * window.interval
        counted = [value for _, value in window.points(COMPUTED, stop.since, until)]
        if stop.ended and len(counted) >= 2 and until <= window.end + window.interval:
            ratios.append((counted[-1] - counted[0]) / (expected * (until - stop.since)))
    return round(median(ratios), 4) if ratios else None


def _flat(window: Window, last: Stretch | None) -> float:
    if last is None:
        return 0.0
    # While scrapes are answered the stretch lasts until now; when they stopped, nobody knows what happened since.
    return (window.end if window.end - last.until <= 3 * window.interval else last.until) - last.since


def scrape_gap(window: Window) -> float | None:
    """Longest run of failed or missing scrapes since the onset; None when `up` is not known at all."""
    values = window.signals.get("up")
    if values is None:
        return None
    longest = run = 0
    for index, value in enumerate(values):
        if window.at(index) < window.onset_at:
            continue
        run = run + 1 if value is None or value == 0 else 0
        longest = max(longest, run)
    return longest * window.step


def silence(window: Window) -> float | None:
    """Longest run of failed scrapes that was not over a minute before the onset, in s; None where `up` is unknown. What
    piled up in a silence is noticed when it is over. Where nobody scraped, nothing is known of a silence."""
    values = window.signals.get("up")
    if values is None:
        return None
    longest = run = 0
    for index, value in enumerate(values):
        run = run + 1 if value == 0 or (value is None and run) else 0
        if window.at(index) >= window.onset_at - EPISODE_BEFORE_ONSET_S:
            longest = max(longest, run)
    return longest * window.step


DOWN = ("down_s", "unasked", "answers_between_gaps", "failed_scrape_s", "answered_scrape_s", "late_scrapes")


def down(window: Window) -> dict[str, Scalar]:
    """down_s, unasked, answers_between_gaps, failed_scrape_s, answered_scrape_s, late_scrapes: whether nobody answers
    scrapes, or now and then somebody does, how long a failed and an answered one took, and how often one was answered
    late. None: `up`, or the length of scrapes, is not known, or there was none of the kind.

    What was answered between the first failed scrape and the last tells a server that is slow from one that is gone; an
    onset is put where the longest run of failures began, so those shortly before it count."""
    ups = window.points("up", window.start, window.end)
    if not ups:
        return dict.fromkeys(DOWN)
    failed = [at for at, value in ups if value == 0 and at >= window.onset_at]
    answered = [at for at, value in ups if value > 0]
    since = min((at for at in failed if not answered or at > answered[-1]), default=None)
    if since is not None and _may_be_lost(window, since):
        since = None
    # Prometheus no longer asks: it has left service discovery.
    unasked = window.end - ups[-1][0] > 2.5 * window.interval
    if since is None and answered and unasked:
        since = answered[-1] + window.step
    lengths = dict(window.points("scrape_seconds", window.onset_at, window.end))
    took = [lengths[at] for at in failed if at in lengths]
    answering = [lengths[at] for at in answered if at in lengths]
    return {
        "unasked": unasked,
        "down_s": 0.0 if since is None else window.end - since + window.step,
        "answers_between_gaps": _between(ups, window) if failed else None,
        "failed_scrape_s": median(took) if took else None,
        "answered_scrape_s": median(answering) if answering else None,
        "late_scrapes": _late(window, ups),
    }


def _may_be_lost(window: Window, since: float) -> bool:
    """Whether one scrape was given up on and the next is not over: any may get lost. Where scrapes are rare one counts,
    as in the rule that tells of a server that is down; one that was refused always does."""
    took = dict(window.points("scrape_seconds", since, window.end))
    alone = window.end - since < window.interval - window.step / 2
    return alone and window.interval < ONE_IS_ENOUGH_S and took.get(since, 0.0) >= GIVEN_UP_S


def _late(window: Window, ups: list[tuple[float, float]]) -> int | None:
    """How many times, from a minute before the onset on, a scrape was answered late, and most were not: once for each
    run of them. One that was given up on may have been lost on the way."""
    since = window.onset_at - EPISODE_BEFORE_ONSET_S
    lengths = dict(window.points("scrape_seconds", since, window.end))
    took = [lengths.get(at) if value > 0 else None for at, value in ups if at >= since]
    known = [seconds for seconds in took if seconds is not None]
    if not known:
        return None
    least = max(LATE_SCRAPE_S, LATER_THAN_MOST * median(known))
    late = [seconds is not None and seconds >= least for seconds in took]
    return sum(now and not before for before, now in zip([False, *late], late, strict=False))


def _between(ups: list[tuple[float, float]], window: Window) -> int:
    """Scrapes answered between the first that failed, from shortly before the onset on, and the last. Where scrapes get
    lost in usual times, too, those beside a real silence that fail no longer in a row than then, and no more often, are
    no failures."""
    since = window.onset_at - max(GAPS_BEFORE_ONSET_S, 3 * window.interval)
    runs = [(failed, list(run)) for failed, run in groupby(ups, lambda one: one[1] == 0)]
    usually = window.onset_at - EPISODE_BEFORE_ONSET_S
    before = [run for failed, run in runs if failed and run[-1][0] < usually]
    near = [run for failed, run in runs if failed and run[-1][0] >= since]
    usual = max(map(len, before), default=0)
    short = [run for run in near if len(run) <= usual]
    answered = [at for at, value in ups if value > 0]
    ever, since_then = sum(at < usually for at in answered), sum(at >= since for at in answered)
    silence = max(map(len, near), default=0) >= usual + LONGER_THAN_LOST
    if silence and ever and len(short) <= 1 + OFTENER_LOST * len(before) / ever * since_then:
        near = [run for run in near if len(run) > usual]
    return sum(near[0][0][0] < at < near[-1][-1][0] for at in answered) if near else 0


def reset(window: Window) -> bool | None:
    """Whether the server was started anew inside the window: another start time, or counters that fell."""
    starts = [value for _, value in window.points("process_start_time", window.start, window.end)]
    if starts:
        return max(starts) - min(starts) > 1.0
    progress = [value for _, value in window.points("progress_total", window.start, window.end)]
    if len(progress) < 2:
        return None
    return any(after < before for before, after in zip(progress, progress[1:], strict=False))


def ended_at_work(window: Window) -> int | None:
    """How many processes of this server ended, each with requests in flight when it was last scraped: one that another
    followed, or after whose last answer a scrape was refused at once. None: its start time is not known."""
    ups = window.points("up", window.start, window.end)
    began, held = (dict(window.points(name, window.start, window.end)) for name in ("process_start_time", "in_flight"))
    answered = [at for at, value in ups if value > 0 and at in began]
    if not answered:
        return None
    # Of two answers with different starts between them the earlier one was the last of its process.
    last = [at for at, after in pairwise(answered) if began[after] - began[at] > 1.0]
    took = dict(window.points("scrape_seconds", answered[-1], window.end))
    if any(value == 0 and at > answered[-1] and took.get(at, REFUSED_S) < REFUSED_S for at, value in ups):
        last.append(answered[-1])
    return sum(held.get(at, 0.0) > 0 for at in last)
