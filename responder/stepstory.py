"""What happened to the engine, step by step? Stalls, freezes, prefill, preemptions, from a ring's records.

A five-second scrape averages some hundred steps; here every one counts. A stall is told by where it happened: when the
engine's own clock saw it too, the engine stood still; when only the arrivals at the API server have the gap, the front
end did.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from responder.model import Series
from responder.recorder import layout
from responder.ringfile import Record, Ring

STALL_S = 0.2
STALL_TIMES = 4.0
"""A stall is at least this long and this many usual steps."""
CASCADE_GAP_S = 2.0
LOOK_BACK = 1000
BIG_PREFILL_TOKENS = 512
BIG_PREFILL_TIMES = 4.0
ALWAYS_BIG_TOKENS = 2048
"""A prefill is a stall's reason from 512 tokens and four usual prompts on, or from 2,048."""
REGULAR = 0.25
"""Stalls are periodic when the spread of their distances is below this share of the middle distance."""


@dataclass(frozen=True)
class Pace:
    """One step and how long it took."""

    record: Record
    latency: float | None
    """Seconds since the step before; None when the engine had nothing to do in between."""
    prefilling: bool
    """Some request of the step was in its prefill."""


@dataclass(frozen=True)
class Stall:
    """A step that took far longer than the usual one."""

    began: float
    """Unix seconds."""
    seconds: float
    kind: str
    """prefill, preemption, or unexplained (nothing the scheduler did accounts for it)."""
    place: str
    """engine or front_end."""
    running: int
    waiting: int
    prompt: int
    preempted: int
    seq: int


@dataclass(frozen=True)
class Cascade:
    """Preemptions close together, in order."""

    began: float
    seconds: float
    preempted: int
    steps: int
    kv_before: float
    """Fullest KV cache of the two seconds before."""
    waiting_before: int
    waiting_after: int


@dataclass(frozen=True)
class Story:
    """All of it."""

    paces: tuple[Pace, ...]
    stalls: tuple[Stall, ...]
    cascades: tuple[Cascade, ...]
    typical_s: float | None
    """Middle latency of steps without prefill (of all steps when every one had some)."""
    last_step: Record | None
    last_record: Record | None
    asleep: bool
    silent_in_flight_s: float
    """How long the tick went on after the last step while requests were in flight; 0 when steps go on."""


def tell(ring: Ring) -> Story:
    """The story of a ring's records."""
    paces = tuple(_paces(ring.records))
    calm = [p.latency for p in paces if p.latency is not None and not p.prefilling]
    usual = calm or [p.latency for p in paces if p.latency is not None]
    typical = median(usual) if usual else None
    steps = [p.record for p in paces]
    sleeps = [r for r in ring.records if r.kind == layout.SLEEP]
    last = steps[-1] if steps else None
    asleep = bool(sleeps and sleeps[-1].running)
    return Story(
        paces=paces,
        stalls=tuple(_stalls(paces, typical)),
        cascades=tuple(_cascades(paces)),
        typical_s=typical,
        last_step=last,
        last_record=ring.records[-1] if ring.records else None,
        asleep=asleep,
        silent_in_flight_s=0.0 if asleep else _silence(ring.records, last),
    )


def _paces(records: Iterable[Record]) -> Iterable[Pace]:
    before: Record | None = None
    for record in records:
        if record.kind != layout.STEP:
            if record.kind == layout.SLEEP:
                before = None  # what lies between is rest, not latency
            continue
        busy = before is not None and before.in_flight > 0
        latency = max(0.0, record.mono - before.mono) if before is not None and busy else None
        yield Pace(record, latency, _prefilling(record))
        before = record


def _prefilling(record: Record) -> bool:
    if record.prompt > 0 or not record.flags & layout.OUTPUTS_KNOWN:
        return record.prompt > 0 or record.running > 0
    # A request in the middle of a chunked prefill runs and yields no token.
    return record.generated < record.running


def _stalls(paces: Sequence[Pace], typical: float | None) -> Iterable[Stall]:
    if typical is None:
        return
    limit = max(STALL_S, STALL_TIMES * typical)
    prompts = [p.record.prompt for p in paces if p.record.prompt > 0]
    usual = BIG_PREFILL_TIMES * median(prompts) if prompts else 0.0
    big = min(max(BIG_PREFILL_TOKENS, usual), ALWAYS_BIG_TOKENS)
    for index, pace in enumerate(paces):
        if pace.latency is None or pace.latency < limit:
            continue
        record = pace.record
        around = [p.record for p in paces[max(0, index - 1) : index + 2]]
        # A chunked prefill counts its tokens only in the step that ends it, so look at what runs on into it.
        prompt = _ends_with(paces, index)
        preempted = sum(r.preempted for r in around)
        in_engine = record.itl >= 0.5 * pace.latency or _no_catching_up(paces, index, typical)
        kind = "preemption" if preempted else "prefill" if prompt >= big else "unexplained"
        yield Stall(
            began=record.at - pace.latency, seconds=pace.latency, kind=kind if in_engine else "unexplained",
            place="engine" if in_engine else "front_end", running=record.running, waiting=record.waiting,
            prompt=prompt, preempted=preempted, seq=record.seq,
        )  # fmt: skip


def _ends_with(paces: Sequence[Pace], index: int) -> int:
    """Prompt tokens of the prefill this step is part of."""
    for pace in paces[index : index + 64]:
        if pace.record.prompt or not pace.prefilling:
            return pace.record.prompt
    return 0


def _no_catching_up(paces: Sequence[Pace], index: int, typical: float) -> bool:
    """After a front end's freeze the engine's outputs arrive all at once; after the engine's own they do not."""
    after = [p.latency for p in paces[index + 1 : index + 6] if p.latency is not None]
    return len(after) < 3 or median(after) > 0.25 * typical


def _cascades(paces: Sequence[Pace]) -> Iterable[Cascade]:
    group: list[int] = []
    for index, pace in enumerate(paces):
        if pace.record.preempted == 0:
            continue
        if group and pace.record.at - paces[group[-1]].record.at > CASCADE_GAP_S:
            yield _cascade(paces, group)
            group = []
        group.append(index)
    if group:
        yield _cascade(paces, group)


def _cascade(paces: Sequence[Pace], group: Sequence[int]) -> Cascade:
    first, last = paces[group[0]].record, paces[group[-1]].record
    before = paces[max(0, group[0] - 1)].record
    # A preemption is told with the victim's next token, so the fullest cache of the last moments is what caused it.
    lately = [
        p.record.kv for p in paces[max(0, group[0] - LOOK_BACK) : group[0]] if first.at - p.record.at <= CASCADE_GAP_S
    ]
    return Cascade(
        began=first.at,
        seconds=last.at - first.at,
        preempted=sum(paces[i].record.preempted for i in group),
        steps=len(group),
        kv_before=max(lately, default=before.kv),
        waiting_before=before.waiting,
        waiting_after=last.waiting,
    )


def _silence(records: Sequence[Record], last: Record | None) -> float:
    if last is None or last.in_flight == 0:
        return 0.0
    ticks = [r for r in records if r.kind == layout.TICK and r.seq > last.seq]
    return ticks[-1].mono - last.mono if ticks else 0.0


def period(stalls: Sequence[Stall]) -> float | None:
    """Seconds between stalls when they come regularly, else None."""
    starts = [s.began for s in stalls]
    gaps = [b - a for a, b in zip(starts, starts[1:], strict=False)]
    if len(gaps) < 2:
        return None
    middle = median(gaps)
    spread = median(abs(g - middle) for g in gaps)
    return middle if middle > 0 and spread <= REGULAR * middle else None


def series(ring: Ring, since: float, until: float, most: int = 2000) -> tuple[Series, ...]:
    """Charts at the resolution of one step: latency, running, waiting, KV usage and preemptions. Where there are more
    steps than points, a point is the worst step of its stretch."""
    paces = [p for p in _paces(ring.records) if since <= p.record.at <= until]
    width = max(1, -(-len(paces) // most))
    cuts = [paces[i : i + width] for i in range(0, len(paces), width)]

    def line(name: str, label: str, unit: str, values: Iterable[float | None]) -> Series:
        points = tuple((cut[-1].record.at, value) for cut, value in zip(cuts, values, strict=True))
        return Series(signal=name, label=label, unit=unit, points=points)

    latency = [max((p.latency for p in cut if p.latency is not None), default=None) for cut in cuts]
    return (
        line("step_latency", "step latency, worst of each point", "s", latency),
        line("step_running", "running", "", [float(max(p.record.running for p in cut)) for cut in cuts]),
        line("step_waiting", "waiting", "", [float(max(p.record.waiting for p in cut)) for cut in cuts]),
        line("step_kv_usage", "KV cache usage", "", [max(p.record.kv for p in cut) for cut in cuts]),
        line("step_preempted", "preempted", "", [float(sum(p.record.preempted for p in cut)) for cut in cuts]),
        line("step_prompt_tokens", "prompt tokens", "", [float(sum(p.record.prompt for p in cut)) for cut in cuts]),
    )
