"""What did the engine do step by step until just now? From the ring file of the recorder inside vLLM, if it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from statistics import median, quantiles

from pydantic import BaseModel

from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Outcome, Scalar, Series
from responder.ringfile import NotARing, Record, Ring, dump, parse, restore
from responder.stepstory import Pace, Stall, Story, period, series, tell

BEFORE_S = 180.0
LEAD_S = 60.0
"""Steps that many seconds before the onset count as the incident's: onsets are estimates."""
MOST_FILES = 8
MAX_RING = 64 << 20
DEFAULT_FOLDER = "/dev/shm/responder-recorder"
SUFFIX = ".ring"
FROZEN_TICKS = 2.5
FREEZE_S = 2.0


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """The newest ring of every engine of this server, through /proc when it lives in a container here."""
    environment = scene.inventory.environment if scene.inventory is not None else {}
    setting = environment.get("RESPONDER_RECORDER", "")
    folder = scene.target.recorder or (setting if setting.startswith("/") else DEFAULT_FOLDER)
    if not scene.target.recorder and not setting:
        return skipped("vLLM runs without the step recorder: install it and start vLLM with RESPONDER_RECORDER=1")
    pids = [p.pid for p in scene.inventory.processes if p.role == "api_server"] if scene.inventory else []
    files: dict[str, bytes] = {}
    why = f"no ring file in {folder}"
    for root in (*(f"/proc/{pid}/root{folder}" for pid in pids[:1]), folder):
        names = await _names(scene, root)
        mine = [n for n in names if not pids or _pid(n) in pids] or names
        for name in mine[:MOST_FILES]:
            try:
                raw = await scene.runner.read(f"{root}/{name}", max_bytes=MAX_RING)
                ring = await asyncio.to_thread(parse, raw)
            except (OSError, NotARing) as error:
                why = f"{root}/{name}: {error}"
                continue
            if ring.records and ring.records[-1].at >= scene.onset_at - BEFORE_S:
                body = await asyncio.to_thread(dump, ring, scene.onset_at - BEFORE_S)
                files.setdefault(f"{name.removesuffix(SUFFIX)}.jsonl", body)
        if files:
            return Fetched(files)
    return Fetched(outcome=Outcome.FAILED, reason=why)


async def _names(scene: Scene, folder: str) -> list[str]:
    """Ring files of a folder, newest first; each engine writes one and leaves it when its server ends."""
    try:
        listed = await scene.runner.run(["ls", "-1t", "--", folder], timeout=3.0)
    except FileNotFoundError:
        return []
    return [name for name in listed.stdout.decode(errors="replace").splitlines() if name.endswith(SUFFIX)]


def _pid(name: str) -> int:
    last = name.removesuffix(SUFFIX).rsplit("-", 1)[-1]
    return int(last) if last.isdigit() else 0


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Facts of the engine that fared worst; of the others, the same with the engine as subject."""
    told = []
    for name in sorted(files):
        try:
            ring = restore(files[name])
        except NotARing:
            continue
        if ring.records:
            told.append((name, ring, tell(ring)))
    if not told:
        return
    worst = max(told, key=lambda t: (t[2].silent_in_flight_s, _lost(t[2], brief), len(t[2].paces), t[0]))
    for name, ring, story in told:
        subject = "" if name == worst[0] else f"engine {ring.head.engine} ({name.removesuffix('.jsonl')})"
        for fact, value, unit, says in _facts(ring, story, brief):
            yield Fact(name=f"steps.{fact}", value=value, unit=unit, step="step_recorder", file=name, subject=subject,
                       says=says)  # fmt: skip


def _lost(story: Story, brief: Brief) -> float:
    return sum(s.seconds for s in story.stalls if s.began >= brief.onset_at - LEAD_S)


Row = tuple[str, Scalar, str, str]


def _facts(ring: Ring, story: Story, brief: Brief) -> Iterator[Row]:
    since = brief.onset_at - LEAD_S
    mine = [p for p in story.paces if p.record.at >= since]
    yield "found", True, "", f"recorded by vLLM {ring.head.vllm}, engine {ring.head.engine}, pid {ring.head.pid}"
    yield "count", len(mine), "", ""
    yield "torn_last", ring.torn_last, "", "the writer died in the middle of a record" if ring.torn_last else ""
    yield "asleep", story.asleep, "", ""
    yield from _of_end(ring, story, brief)
    yield from _of_pace(story, mine, since)
    yield from _of_stalls([s for s in story.stalls if s.began >= since], mine)
    yield from _of_preemptions(story, mine, since)


def _of_end(ring: Ring, story: Story, brief: Brief) -> Iterator[Row]:
    last, newest = story.last_step, story.last_record
    if last is None or newest is None:
        return
    yield "last_age", _short(max(0.0, brief.now - last.at)), "s", ""
    yield "last_step", _step_in_words(last), "", ""
    yield "last_in_flight", last.in_flight, "", ""
    yield "last_kv_usage", _short(last.kv), "", ""
    ticking = brief.now - newest.at <= FROZEN_TICKS * ring.head.tick_s + FREEZE_S
    yield "recorder_ticks", ticking, "", "" if ticking else "no tick either: the API server is frozen or gone"
    frozen = story.silent_in_flight_s >= FREEZE_S
    yield (
        "frozen",
        frozen,
        "",
        (
            f"no step since {_clock(last.at)} with {last.in_flight} in flight, while the front end went on ticking"
            if frozen
            else ""
        ),
    )
    yield "frozen_s", _short(story.silent_in_flight_s) if frozen else 0.0, "s", ""


def _of_pace(story: Story, mine: list[Pace], since: float) -> Iterator[Row]:
    calm = [p.latency for p in mine if p.latency is not None and not p.prefilling]
    loaded = [p.latency for p in mine if p.latency is not None and p.prefilling]
    before = [p.latency for p in story.paces if p.latency is not None and p.record.at < since]
    every = [p.latency for p in mine if p.latency is not None]
    if len(every) >= 2:
        yield "latency_p50", _short(median(every)), "s", ""
        yield "latency_p99", _short(quantiles(every, n=100, method="inclusive")[98]), "s", ""
        yield "latency_max", _short(max(every)), "s", ""
    if every and len(before) >= 20:
        yield "latency_ratio", _short(median(every) / median(before)) if median(before) > 0 else None, "", ""
    if len(calm) >= 10 and len(loaded) >= 3:
        ratio = median(loaded) / median(calm) if median(calm) > 0 else None
        yield "prefill_ratio", _short(ratio), "", "latency of steps with prefill over that of steps without"
    prompts = [p.record.prompt for p in mine if p.record.prompt]
    if prompts:
        yield "largest_prefill", max(prompts), "tokens", ""


def _of_stalls(stalls: list[Stall], mine: list[Pace]) -> Iterator[Row]:
    lost = sum(s.seconds for s in stalls)
    busy = sum(p.latency for p in mine if p.latency is not None)
    by_kind = {kind: [s for s in stalls if s.kind == kind] for kind in ("prefill", "preemption", "unexplained")}
    front = [s for s in stalls if s.place == "front_end"]
    worst = sorted(stalls, key=lambda s: -s.seconds)[:3]
    yield "stalls", len(stalls), "", "; ".join(_stall_in_words(s) for s in worst)
    yield "stalls_prefill", len(by_kind["prefill"]), "", ""
    yield "stalls_preemption", len(by_kind["preemption"]), "", ""
    unexplained = [s for s in by_kind["unexplained"] if s.place == "engine"]
    yield "stalls_unexplained", len(unexplained), "", "; ".join(_stall_in_words(s) for s in unexplained[:3])
    yield "stalls_front_end", len(front), "", "the engine went on, its outputs waited" if front else ""
    yield "stall_share", _short(lost / busy) if busy else 0.0, "", "of the time with requests in flight"
    if stalls:
        yield "longest_stall", _short(max(s.seconds for s in stalls)), "s", ""
    longest = max((s.seconds for s in unexplained), default=0.0)
    distance = period([s for s in unexplained if s.seconds >= longest / 2])
    yield "stall_period", _short(distance), "s", "the distance of stalls that come regularly"


def _of_preemptions(story: Story, mine: list[Pace], since: float) -> Iterator[Row]:
    mine_too = [c for c in story.cascades if c.began >= since]
    total = sum(c.preempted for c in mine_too)
    yield "preemptions", total, "", ""
    yield (
        "preemption_cascades",
        len(mine_too),
        "",
        "; ".join(
            f"{_clock(c.began)}: {c.preempted} preempted in {c.steps} steps, KV cache {c.kv_before:.0%} full before, "
            f"waiting {c.waiting_before} -> {c.waiting_after}"
            for c in mine_too[:3]
        ),
    )
    if mine_too:
        yield "preemption_kv", _short(max(c.kv_before for c in mine_too)), "", "KV usage in the step before"
    if mine:
        yield "kv_max", _short(max(p.record.kv for p in mine)), "", ""
        yield "waiting_max", max(p.record.waiting for p in mine), "", ""
    hurt = sorted((p.record for p in mine if p.record.worst_preemptions), key=lambda r: -r.worst_e2e)
    yield (
        "preempted_finished",
        len(hurt),
        "",
        "; ".join(f"{r.worst_id}: preempted {r.worst_preemptions} times, {r.worst_e2e:.2f} s" for r in hurt[:3]),
    )
    hits, queries = sum(p.record.hits for p in mine), sum(p.record.queries for p in mine)
    if queries:
        yield "prefix_hit_rate", _short(hits / queries), "", ""


def charts(files: Mapping[str, bytes], since: float, until: float) -> tuple[Series, ...]:
    """The stored steps as series at one-step resolution, of the first engine that has some."""
    for name in sorted(files):
        try:
            found = series(restore(files[name]), since, until)
        except NotARing:
            continue
        if found and found[0].points:
            return found
    return ()


def _step_in_words(record: Record) -> str:
    return (
        f"{_clock(record.at)}: {record.running} running, {record.waiting + record.deferred} waiting, KV cache "
        f"{record.kv:.0%} full, {record.prompt} prompt tokens, {record.generated} generated, "
        f"{record.preempted} preempted, {record.finished} finished (step {record.seq})"
    )


def _stall_in_words(stall: Stall) -> str:
    cause = {"prefill": f"prefill of {stall.prompt} tokens", "preemption": f"{stall.preempted} preempted"}
    return f"{_clock(stall.began)} {stall.seconds:.2f} s ({cause.get(stall.kind, stall.place.replace('_', ' '))})"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


FACTS = {
    "found": ("", "a ring file was read"),
    "count": ("", "steps since a minute before the onset"),
    "torn_last": ("", "the last record was cut off by the writer's death"),
    "asleep": ("", "vLLM was put to sleep"),
    "last_age": ("s", "time since the last step"),
    "last_step": ("", "the last step in words"),
    "last_in_flight": ("", "requests in flight after the last step"),
    "last_kv_usage": ("", "KV usage at the last step"),
    "recorder_ticks": ("", "the recorder's tick goes on, so the API server's event loop does"),
    "frozen": ("", "ticks went on and steps did not, with requests in flight"),
    "frozen_s": ("s", "for how long"),
    "latency_p50": ("s", "median step latency"),
    "latency_p99": ("s", "99th percentile of step latency"),
    "latency_max": ("s", "longest step"),
    "latency_ratio": ("", "median step latency against that before the onset"),
    "prefill_ratio": ("", "latency of steps with prefill over that of steps without"),
    "largest_prefill": ("tokens", "most prompt tokens that one step completed"),
    "stalls": ("", "steps of 200 ms and four times the usual latency, or more"),
    "stalls_prefill": ("", "of these, with a large prefill"),
    "stalls_preemption": ("", "of these, with preemptions"),
    "stalls_unexplained": ("", "of these, in the engine and for no reason of the scheduler's"),
    "stalls_front_end": ("", "of these, in the API server while the engine went on"),
    "stall_share": ("", "share of the busy time in stalls"),
    "longest_stall": ("s", "the longest"),
    "stall_period": ("s", "distance of unexplained stalls when regular"),
    "preemptions": ("", "preempted requests"),
    "preemption_cascades": ("", "groups of preemptions close together"),
    "preemption_kv": ("", "KV usage in the step before the first preemption"),
    "kv_max": ("", "highest KV usage of any step"),
    "waiting_max": ("", "longest queue of any step"),
    "preempted_finished": ("", "steps in which a request finished that had been preempted"),
    "prefix_hit_rate": ("", "prefix-cache hits over asked tokens"),
}
STEP = Step(
    name="step_recorder",
    rung=0,
    says="Reads the ring file that the recorder inside vLLM writes; asks vLLM nothing.",
    fetch=fetch,
    read=read,
    facts=tuple(FactSpec(f"steps.{name}", unit, says) for name, (unit, says) in FACTS.items()),
    timeout_s=15.0,
    max_bytes=32 << 20,
    needs=("the step recorder in vLLM (RESPONDER_RECORDER=1)", "same host or shared folder"),
)
