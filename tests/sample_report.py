"""A realistic report: KV-cache starvation on one server of two, seen from its first minute to its end."""

from __future__ import annotations

import math
import random
from typing import Any, Literal

from responder.model import (
    Disproof,
    Evidence,
    Fact,
    Finding,
    Hypothesis,
    Incident,
    Missing,
    Outcome,
    Plan,
    Refusal,
    Remedy,
    Report,
    Scalar,
    Series,
    Severity,
    Status,
    StepCall,
    Symptom,
    TimelineEntry,
    Timings,
    TraceRow,
    TraceStep,
    TraceView,
    Truth,
    Verdict,
)

ONSET = 1795144360.0
"""2026-11-20 03:12:40 UTC."""
OPENED = ONSET + 24.0
DONE = OPENED + 21.4
TARGET = "chat-70b-a:8000"
MODEL = "chat-70b"


def fact(name: str, value: Scalar, unit: str = "", step: str = "metrics_window", **more: Any) -> Fact:
    """A fact of the sample; `at` 0 means when its step ran."""
    file = {"metrics_window": "series.json", "log_tail": "log.txt", "server_config": "config.json"}.get(step, "")
    return Fact(name=name, value=value, unit=unit, step=step, file=file, **more)


KV_NOW = fact("metrics.kv_usage.now", 0.991, "share", at=OPENED)
KV_BASE = fact("metrics.kv_usage.baseline", 0.52, "share", at=ONSET)
PREEMPTIONS = fact("metrics.preemption_rate.now", 3.42, "/s", at=OPENED)
TTFT = fact("metrics.ttft_p99.now", 7.2, "s", at=OPENED)
TTFT_BASE = fact("metrics.ttft_p99.baseline", 0.62, "s", at=ONSET)
BUCKET = fact("metrics.ttft_p99.bucket", "between 5 s and 7.5 s", at=OPENED)
ITL = fact("metrics.itl_p99.now", 0.34, "s", at=OPENED)
ARRIVAL_RATIO = fact("metrics.arrival_rate.ratio", 1.04, at=OPENED)
HIT_RATE = fact("metrics.prefix_hit_rate.now", 0.61, "share", at=OPENED)
HIT_BASE = fact("metrics.prefix_hit_rate.baseline", 0.63, "share", at=ONSET)
GENERATION_LENGTH = fact("metrics.generation_tokens_mean.ratio", 2.9, at=OPENED)
RUNNING = fact("metrics.running.now", 31.0, at=OPENED)
WAITING = fact("metrics.waiting.now", 118.0, at=OPENED)
LOG_KV = fact("log.stats_kv_usage", 0.993, "share", "log_tail", at=OPENED + 1.1)
BLOCKS = fact("config.num_gpu_blocks", 5120, "blocks", "server_config")


def finding(weight: str, group: str, decibans: float, says: str, *facts: Fact, counted: bool = True) -> Finding:
    """A decided piece of evidence."""
    truth = Truth.YES if decibans > 0 else Truth.NO
    return Finding(weight=weight, group=group, truth=truth, decibans=decibans, counted=counted, says=says, facts=facts)


KV = Hypothesis(
    cause="kv_pressure_preemption",
    title="KV cache too small for the running requests",
    says="The KV cache is full, so the scheduler throws running requests out and computes them again from the start; "
    "new requests wait for room.",
    status=Status.PROBABLE,
    probability=0.873,
    decibans=14.2,
    supports=(
        finding("kv_full", "kv", 9.0, "the KV cache is full", KV_NOW),
        finding("kv_full_log", "kv", 6.0, "the server's own log says the same", LOG_KV, counted=False),
        finding("preempting", "preemption", 8.0, "running requests are being preempted", PREEMPTIONS),
        finding("longer_answers", "shape", 4.0, "answers got longer", GENERATION_LENGTH),
        finding("queue_behind", "queue", 2.0, "requests wait while fewer than the maximum run", RUNNING, WAITING),
    ),
    contradicts=(finding("hit_rate_fell", "cache", -1.5, "the prefix-cache hit rate is as usual", HIT_RATE),),
    missing=(
        Missing(
            step="gpu",
            why="skipped: NVML is not available on this machine",
            would_tell="the accelerator itself got slower",
        ),
    ),
    would_disprove=Disproof(
        says="KV usage falls under 80 % while requests still wait.",
        command="curl -s http://chat-70b-a:8000/metrics | grep -E 'kv_cache_usage|num_requests_waiting'",
    ),
    remedies=(
        Remedy(
            says="Give the KV cache more memory at the next restart",
            option="--gpu-memory-utilization 0.95",
            tradeoff="less room for activation peaks: a CUDA out-of-memory becomes likelier; needs a restart",
        ),
        Remedy(
            says="Send part of this model's traffic to the other replica",
            option="",
            tradeoff="the other replica loses headroom; it runs 9 requests with no queue now",
            safe_now=True,
        ),
        Remedy(
            says="Store the KV cache in fp8, about twice the tokens in the same memory",
            option="--kv-cache-dtype fp8",
            tradeoff="small quality loss on some models; needs a restart",
        ),
    ),
)
CAPACITY = Hypothesis(
    cause="capacity_exceeded",
    title="More requests than this server can serve",
    says="Requests arrive faster than they are finished, at the usual length and cache hit rate.",
    status=Status.POSSIBLE,
    probability=0.091,
    decibans=4.1,
    supports=(finding("queue", "queue", 5.0, "a queue has formed", WAITING),),
    contradicts=(finding("arrivals_up", "arrivals", -6.0, "no more requests arrive than usual", ARRIVAL_RATIO),),
    unexplained=("VLLMKVCacheCritical",),
    would_disprove=Disproof(says="Arrivals per second are no higher than before the onset."),
    remedies=(Remedy(says="Add a replica", tradeoff="costs an accelerator; minutes until it serves"),),
)
UNKNOWN = Hypothesis(
    cause="unknown",
    title="Something we do not know",
    says="None of the known causes explains what was measured.",
    status=Status.UNKNOWN,
    probability=0.036,
    decibans=0.0,
    would_disprove=Disproof(says="One of the causes above is confirmed."),
)


def symptoms() -> tuple[Symptom, ...]:
    """Three rules that hold, in the order they fired."""
    common: dict[str, Any] = {"target": TARGET, "labels": {"model_name": MODEL, "engine": "0"}}
    return (
        Symptom(
            alert="VLLMKVCacheCritical",
            incident_class="slow_decode",
            severity=Severity.CRITICAL,
            since=ONSET + 9,
            fired_at=OPENED,
            value=0.991,
            threshold=0.95,
            unit="share",
            summary="KV cache 99 % full (limit 95 %) with 3.4 preemptions/s",
            **common,
        ),
        Symptom(
            alert="VLLMTTFTHigh",
            incident_class="high_ttft",
            severity=Severity.WARNING,
            since=ONSET + 14,
            fired_at=OPENED + 5,
            value=7.2,
            threshold=2.0,
            unit="s",
            summary="TTFT p99 is between 5 s and 7.5 s, limit 2 s",
            **common,
        ),
        Symptom(
            alert="VLLMQueueGrowing",
            incident_class="high_ttft",
            severity=Severity.WARNING,
            since=ONSET + 20,
            fired_at=OPENED + 10,
            value=118,
            threshold=20,
            unit="requests",
            summary="118 requests wait (limit 20) and the queue grows",
            **common,
        ),
    )


def timeline() -> tuple[TimelineEntry, ...]:
    """What happened, in order."""
    return (
        TimelineEntry(at=ONSET, kind="onset", says="KV usage left its usual band (estimated from the data)"),
        TimelineEntry(at=ONSET + 9, kind="symptom", says="VLLMKVCacheCritical began to hold"),
        TimelineEntry(at=OPENED, kind="opened", says="incident opened by VLLMKVCacheCritical"),
        TimelineEntry(
            at=OPENED + 0.4, kind="cause", says="KV cache too small for the running requests: possible (48 %)"
        ),
        TimelineEntry(at=OPENED + 1.0, kind="delivery", says="first message delivered to slack"),
        TimelineEntry(at=OPENED + 5, kind="grew", says="VLLMTTFTHigh joined"),
        TimelineEntry(at=OPENED + 10, kind="grew", says="VLLMQueueGrowing joined"),
        TimelineEntry(at=OPENED + 12, kind="capture", says="stacks: pauses the server 0 ms, 4 processes"),
        TimelineEntry(at=DONE, kind="cause", says="KV cache too small for the running requests: probable (87 %)"),
    )


def evidence() -> tuple[Evidence, ...]:
    """What the captures brought, failures included."""

    def step(name: str, rung: int, outcome: Outcome, at: float, seconds: float, **more: Any) -> Evidence:
        return Evidence(id=name, step=name, rung=rung, outcome=outcome, started_at=at, seconds=seconds, **more)

    window = (
        KV_NOW, KV_BASE, PREEMPTIONS, TTFT, TTFT_BASE, BUCKET, ITL, ARRIVAL_RATIO, HIT_RATE, HIT_BASE,
        GENERATION_LENGTH, RUNNING, WAITING,
        fact("metrics.signals_unknown", "itl_p99_by_engine, spec_acceptance"),
    )  # fmt: skip
    return (
        step(
            "metrics_window", 0, Outcome.OK, OPENED, 0.9, bytes=48_120, files=("series.json",), facts=window
        ),
        step(
            "log_tail", 0, Outcome.OK, OPENED + 0.1, 0.3, bytes=65_536, files=("log.txt", "stats.json"), facts=(LOG_KV,)
        ),
        step("server_config", 0, Outcome.OK, OPENED + 0.1, 0.2, bytes=2_048, files=("config.json",), facts=(BLOCKS,)),
        step("gpu", 0, Outcome.SKIPPED, OPENED + 0.1, 0.0, reason="no NVIDIA driver on this machine (NVML not found)"),
        step("nccl_ras", 0, Outcome.SKIPPED, OPENED + 0.1, 0.0, reason="tensor parallel size is 1: no communicators"),
        step("endpoints", 0, Outcome.TIMED_OUT, OPENED + 0.1, 5.0, reason="/load did not answer within 5 s"),
        step(
            "stacks", 1, Outcome.OK, OPENED + 12, 1.4, pause_seconds=0.0004, bytes=18_400, files=("dump-1.txt",),
        ),
        step("canary", 1, Outcome.OK, OPENED + 13.6, 7.8, bytes=512, files=("answer.txt",)),
    )  # fmt: skip


def series() -> tuple[Series, ...]:
    """Fifteen minutes of the decisive signals at 5-s steps: usual, starved, with one scrape gap."""
    draw = random.Random(7)
    start = ONSET - 600

    def line(usual: float, wobble: float, after: float, rise: float, top: float = math.inf) -> Any:
        points: list[tuple[float, float | None]] = []
        for index in range(150):
            at = start + 5 * index
            grown = 0.0 if at < ONSET else (after - usual) * (1 - math.exp(-(at - ONSET) / rise))
            value = usual + grown + draw.uniform(-wobble, wobble) * (1 if grown == 0 else 2)
            points.append((at, None if 60 <= index < 68 else round(max(0.0, min(value, top)), 4)))
        return tuple(points)

    def of(signal: str, unit: str, points: Any, threshold: float | None = None) -> Series:
        return Series(signal=signal, label="", unit=unit, points=points, threshold=threshold)

    return (
        of("kv_usage", "share", line(0.52, 0.05, 0.99, 9, 0.998), 0.95),
        of("ttft_p99", "s", line(0.62, 0.15, 7.3, 25), 2.0),
        of("waiting", "requests", line(0.6, 0.7, 140, 45), 20.0),
        of("preemption_rate", "/s", line(0.0, 0.0, 3.4, 12)),
        of("generation_rate", "tokens/s", line(1480, 70, 910, 20)),
        of("prefix_hit_rate", "share", line(0.63, 0.03, 0.61, 9)),
        of("running", "requests", line(38, 3, 31, 10)),
        of("itl_p99", "s", line(0.06, 0.01, 0.34, 15)),
    )


def plan() -> Plan:
    """What ran, and the profile that was not allowed."""
    names = ("metrics_window", "log_tail", "server_config", "gpu", "nccl_ras", "endpoints")
    profile = StepCall(step="torch_profile", rung=3, why="would show the kernels of one engine step")
    return Plan(
        chosen=tuple(StepCall(step=name, rung=0) for name in names)
        + (StepCall(step="stacks", rung=1), StepCall(step="canary", rung=1)),
        refused=(Refusal(call=profile, why="rung 3 needs a person's approval and nobody gave it within 5 min"),),
    )


Stage = Literal["first", "update", "final", "resolved"]


def sample(stage: Stage = "final", **changes: Any) -> Report:
    """The report at one of its stages; `changes` replace fields of the report."""
    first = stage == "first"
    over = stage == "resolved"
    incident = Incident(
        id="inc-20261120-031304-7f3a",
        target=TARGET,
        incident_class="high_ttft",
        severity=Severity.CRITICAL,
        state="resolved" if over else "open",
        onset_at=ONSET,
        opened_at=OPENED,
        resolved_at=OPENED + 642 if over else None,
        symptoms=symptoms()[:1] if first else symptoms(),
        timeline=timeline()[:3] if first else timeline(),
    )
    fields: dict[str, Any] = {
        "revision": {"first": 1, "update": 2, "final": 3, "resolved": 4}[stage],
        "stage": stage,
        "incident": incident,
        "verdict": Verdict(
            hypotheses=() if first else (KV, CAPACITY, UNKNOWN),
            playbooks=("high_ttft", "slow_decode"),
            notes=() if first else ("The window of the stack capture is left out of the rules' data.",),
        ),
        "evidence": () if first else evidence(),
        "plan": plan(),
        "timings": Timings(
            detected_s=24.0, first_cause_s=None if first else 0.4, report_s=None if first else DONE - OPENED
        ),
        "series": series(),
        "target_url": "http://chat-70b-a:8000",
        "generated_at": OPENED + 0.3 if first else OPENED + 643 if over else DONE,
    }
    return Report(**(fields | changes))


def hostile(text: str) -> Report:
    """The report with `text` wherever a server, a label, a log line or an operator could put words."""
    bad_fact = Fact(name=f"log.{text}", value=text, unit=text, step="log_tail", file=text, says=text)
    bad_finding = Finding(
        weight=text, group=text, truth=Truth.YES, decibans=3, counted=True, says=text, facts=(bad_fact,)
    )
    symptom = Symptom(
        alert=text, incident_class="high_ttft", severity=Severity.WARNING, target=text, labels={"model_name": text},
        since=ONSET, fired_at=OPENED, value=1, threshold=2, unit=text, summary=text,
    )  # fmt: skip
    cause = Hypothesis(
        cause=text, title=text, says=text, status=Status.POSSIBLE, probability=0.5, decibans=0,
        supports=(bad_finding,), contradicts=(bad_finding,), missing=(Missing(step=text, why=text, would_tell=text),),
        unexplained=(text,), would_disprove=Disproof(says=text, command=text),
        remedies=(Remedy(says=text, option=text, tradeoff=text),),
    )  # fmt: skip
    capture = Evidence(
        id=text, step=text, rung=1, outcome=Outcome.FAILED, reason=text, started_at=OPENED, seconds=1, files=(text,),
        facts=(bad_fact,),
    )  # fmt: skip
    incident = Incident(
        id=text, target=text, incident_class=text, severity=Severity.WARNING, onset_at=ONSET, opened_at=OPENED,
        symptoms=(symptom,), timeline=(TimelineEntry(at=OPENED, kind="note", says=text),),
    )  # fmt: skip
    return sample(
        incident=incident,
        verdict=Verdict(hypotheses=(cause, cause.model_copy(update={"probability": 0.3})), playbooks=(text,),
                        notes=(text,)),
        evidence=(capture,),
        plan=Plan(refused=(Refusal(call=StepCall(step=text, rung=3), why=text),)),
        series=(Series(signal=text, label=text, unit=text, points=((ONSET, 1.0), (ONSET + 5, 2.0)), threshold=1.5),),
        traces=(TraceView(
            evidence=text, label=text, file=text, about=text, findings=(text,), partial=(text,),
            steps=(TraceStep(index=0, kind="decode", ms=1), TraceStep(index=1, kind="other", ms=2, slow=text)),
            kinds=(TraceRow(name=text, ms=1),), work=(TraceRow(name=text, ms=1, share=0.5),),
            kernels=(TraceRow(name=text, kind=text, ms=1, share=0.5),),
        ),),
        target_url=text,
    )  # fmt: skip
