"""How does `responder steps` answer? From a ring file of the recorder, while its server runs or after it was killed."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from responder.recorder import layout
from responder.ringfile import NotARing, Record, Ring, parse, restore
from responder.stepstory import Story, period, series, tell

OK, RUNTIME, CONTENT = 0, 1, 2
KINDS = {layout.STEP: "step", layout.TICK: "tick", layout.SLEEP: "sleep"}


def show_steps(file: Path, last: int, chart: Path | None, format: str) -> int:
    """`responder steps`."""
    try:
        path = newest(file) if file.is_dir() else file
        raw = path.read_bytes()
        ring = parse(raw) if raw.startswith(layout.MAGIC) else restore(raw)
        if chart is not None:
            from responder.requests.stepchart import draw

            span = [r.at for r in ring.records] or [0.0]
            chart.write_text(draw(series(ring, min(span), max(span))))
    except NotARing as error:
        typer.echo(f"{file}: {error}", err=True)
        return CONTENT
    except OSError as error:
        typer.echo(str(error), err=True)
        return RUNTIME
    story = tell(ring)
    typer.echo(json.dumps(as_json(ring, story, last), indent=1) if format == "json" else as_text(ring, story, last))
    return OK


def newest(folder: Path) -> Path:
    """The ring of the server that started last. FileNotFoundError when there is none."""
    rings = sorted(folder.glob(f"*{layout.SUFFIX}"), key=lambda p: (p.name.split("-")[2:3], p.name))
    if not rings:
        raise FileNotFoundError(f"no *{layout.SUFFIX} file in {folder}")
    return rings[-1]


def unpack_recorder(folder: Path) -> int:
    """`responder recorder`."""
    from responder.recorder.unpack import unpack

    try:
        unpack(folder)
    except OSError as error:
        typer.echo(str(error), err=True)
        return RUNTIME
    typer.echo(f"PYTHONPATH={folder.absolute()} RESPONDER_RECORDER=1 vllm serve …")
    return OK


def as_text(ring: Ring, story: Story, last: int) -> str:
    """Summary, stalls, preemptions and the last steps."""
    head, latencies = ring.head, sorted(p.latency for p in story.paces if p.latency is not None)
    lines = [
        f"vLLM {head.vllm} {head.model}, engine {head.engine}, pid {head.pid}, started {_clock(head.started_at)}",
        f"{len(story.paces)} steps; {ring.lost} overwritten in between, {ring.damaged} damaged"
        + ("; the last record was cut off while it was written" if ring.torn_last else ""),
    ]
    if latencies:
        p99 = latencies[min(len(latencies) - 1, int(0.99 * len(latencies)))]
        lines.append(f"step latency: median {_ms(latencies[len(latencies) // 2])}, p99 {_ms(p99)}, "
                     f"longest {_ms(latencies[-1])}")  # fmt: skip
    if story.asleep:
        lines.append("vLLM was put to sleep")
    if story.silent_in_flight_s:
        at = story.last_step.at if story.last_step else 0.0
        lines.append(f"no step after {_clock(at)} while the front end ticked on for {story.silent_in_flight_s:.1f} s "
                     "with requests in flight: frozen")  # fmt: skip
    lines += [*_stalls(story), *_cascades(story)]
    lines += ["", "last records:", *(_line(r) for r in ring.records[-last:])]
    return "\n".join(lines)


def _stalls(story: Story) -> list[str]:
    if not story.stalls:
        return []
    lines = ["", f"{len(story.stalls)} stalls:"]
    for s in sorted(story.stalls, key=lambda s: -s.seconds)[:20]:
        where = f"{s.kind}, {s.place.replace('_', ' ')}"
        what = f"{s.running} running, {s.waiting} waiting, {s.prompt} prompt tokens, {s.preempted} preempted"
        lines.append(f"  {_clock(s.began)}  {s.seconds:6.2f} s  {where}; {what}")
    every = period(story.stalls)
    return [*lines, f"  every {every:.1f} s"] if every else lines


def _cascades(story: Story) -> list[str]:
    if not story.cascades:
        return []
    lines = ["", "preemptions:"]
    for c in story.cascades[-20:]:
        queue = f"waiting {c.waiting_before} -> {c.waiting_after}"
        steps = f"{c.preempted} in {c.steps} steps ({c.seconds:.2f} s)"
        lines.append(f"  {_clock(c.began)}  {steps}, KV cache {c.kv_before:.0%} before, {queue}")
    return lines


def _line(r: Record) -> str:
    if r.kind != layout.STEP:
        return f"  {_clock(r.at)}  {KINDS.get(r.kind, '?')}"
    load = f"{r.running} running, {r.waiting + r.deferred} waiting, KV {r.kv:.0%}"
    work = f"+{r.prompt} prompt, +{r.generated} generated, {r.preempted} preempted, {r.finished} finished"
    return f"  {_clock(r.at)}  {load}, {work}"


def as_json(ring: Ring, story: Story, last: int) -> dict[str, Any]:
    """The same for programs."""
    return {
        "head": asdict(ring.head),
        "steps": len(story.paces),
        "torn_last": ring.torn_last,
        "damaged": ring.damaged,
        "lost": ring.lost,
        "typical_latency": story.typical_s,
        "asleep": story.asleep,
        "silent_in_flight": story.silent_in_flight_s,
        "stalls": [asdict(s) for s in story.stalls],
        "cascades": [asdict(c) for c in story.cascades],
        "last": [r._asdict() for r in ring.records[-last:]],
    }


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]


def _ms(value: float) -> str:
    return f"{value * 1000:.1f} ms"
