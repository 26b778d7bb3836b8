"""Is this server slower than it should be at this load, and busier than yesterday? Learned expectations, out of
Prometheus; the server is not touched.

Expectations come from what the daemon learned in healthy times; where it has not seen enough yet, from the half hour
before the onset. What was used lies in the folder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from statistics import median

from pydantic import BaseModel, ValidationError

from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.expected import ENOUGH, Expected, Model, Observation, expect, itl_load, learn, ttft_load
from responder.model import Fact, Outcome, Scalar
from responder.window import Rows, Window, decode, encode, gather, grid

LATELY, YESTERDAY, LEARNED = "lately.json", "yesterday.json", "learned.json"
EXPECTATION = "expectation"
"""The name under which the daemon remembers what it learned of a server."""
LOAD = ("running", "prompt_computed_rate", "kv_usage", "prompt_tokens_mean", "prefix_hit_rate", "itl_mean", "ttft_mean")
DAILY = ("arrival_rate", "generation_rate", "prompt_token_rate", "running", "itl_mean", "ttft_mean")
BEFORE_S, DAY_S = 1800.0, 86400.0
HALF_S = 1800.0
GUARD_S = 20.0
RECENT_S = 60.0
MAX_POINTS = 400
FEW = 3
QUERY_TIMEOUT_S = 6.0
ALMOST_NOTHING = 1e-6


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """The half hour before the onset until now, and the hour around this time yesterday, of the signals of load."""
    if scene.range_query is None:
        return skipped("no Prometheus: start the responder with `--prometheus URL`")
    files: dict[str, bytes] = {}
    learned = scene.remembered.get(scene.target.name, {}).get(EXPECTATION)
    if learned is not None:
        files[LEARNED] = learned.encode()
    failed: list[str] = []
    for name, signals, start, end, at in (
        (LATELY, tuple(dict.fromkeys((*LOAD, *DAILY))), scene.onset_at - BEFORE_S, scene.now, scene.onset_at),
        (YESTERDAY, DAILY, scene.now - DAY_S - HALF_S, scene.now - DAY_S + HALF_S, scene.now - DAY_S),
    ):
        window, wrong = await _window(scene, signals, start, end, at)
        failed += wrong
        if window.signals:
            files[name] = encode(window)
    if failed and LATELY not in files:
        return Fetched(files, Outcome.FAILED, f"Prometheus did not answer: {failed[0]}")
    return Fetched(files, Outcome.PARTIAL if failed else Outcome.OK, "; ".join(failed[:3]))


async def _window(
    scene: Scene, signals: tuple[str, ...], start: float, end: float, onset_at: float
) -> tuple[Window, list[str]]:
    assert scene.range_query is not None
    step, length = grid(start, end, max(scene.scrape_interval_s, (end - start) / MAX_POINTS), MAX_POINTS)
    start = end - (length - 1) * step
    answers: dict[str, Rows] = {}
    failed: list[str] = []
    for name in signals:
        if name not in scene.signals:
            continue
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                answers[name] = await scene.range_query(scene.signals[name], start, end, step)
        except Exception as error:  # Prometheus is the outside; and if it fails once there is no use in asking on.
            failed.append(f"{name}: {type(error).__name__}: {error}"[:160])
            break
    window = Window(start, step, length, onset_at, scene.scrape_interval_s, asked=signals)
    return gather(window, answers, scene.target.match), failed


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """How far latency is from what this load explains, and load from yesterday's."""
    lately, yesterday = decode(files.get(LATELY, b"")), decode(files.get(YESTERDAY, b""))
    if lately is None:
        return

    def fact(name: str, value: Scalar, unit: str = "", says: str = "") -> Fact:
        rounded = float(f"{value:.6g}") if isinstance(value, float) else value
        return Fact(
            name=f"expected.{name}", value=rounded, unit=unit, step="expected", file=LATELY, at=lately.end, says=says
        )

    model, source = _model(files.get(LEARNED), lately)
    yield fact("source", source)
    yield fact("samples", model.itl.samples)
    seen = [observation(lately, index) for index in range(lately.length) if lately.at(index) >= _recent(lately)]
    itl = [(s.itl, expect(model.itl, itl_load(s))) for s in seen]
    ttft = [(s.ttft, expect(model.ttft, ttft_load(s))) for s in seen]
    for name, rows in (("itl", itl), ("ttft", ttft)):
        pairs = [(value, found) for value, found in rows if value is not None and found is not None]
        enough = len(pairs) >= FEW
        yield fact(f"{name}_s", median(e.value for _, e in pairs) if enough else None, "s")
        yield fact(f"{name}_ratio", median(v / e.value for v, e in pairs) if enough else None, "x")
        yield fact(f"{name}_residual_sigmas", median(_sigmas(v, e) for v, e in pairs) if enough else None)
    for signal in DAILY:
        yield fact(f"{signal}_vs_yesterday", _against(lately, yesterday, signal), "x")


def _sigmas(value: float, found: Expected) -> float:
    return (value - found.value) / found.sigma


def _recent(window: Window) -> float:
    return max(window.onset_at, window.end - max(RECENT_S, FEW * window.step))


def _model(raw: bytes | None, lately: Window) -> tuple[Model, str]:
    """What the daemon had learned, if that was enough; else what the half hour before the onset teaches."""
    try:
        learned = Model.model_validate_json(raw) if raw else Model()
    except ValidationError:
        learned = Model()
    if learned.itl.samples >= ENOUGH:
        return learned, "learned in healthy times"
    model = Model()
    for index in range(lately.length):
        if lately.at(index) <= lately.onset_at - GUARD_S:
            model = learn(model, observation(lately, index))
    return model, "the half hour before the onset"


def observation(window: Window, index: int) -> Observation:
    """Load and latency at one point of a window."""
    values = [row[index] if (row := window.signals.get(name)) else None for name in LOAD]
    return Observation(*values)


def _against(lately: Window, yesterday: Window | None, signal: str) -> float | None:
    """Now against the median of the same hour yesterday; unknown when there was (almost) nothing."""
    if yesterday is None:
        return None
    then = [value for _, value in yesterday.points(signal, yesterday.start, yesterday.end)]
    now = [value for _, value in lately.points(signal, _recent(lately), lately.end)]
    if len(then) < FEW or not now or abs(median(then)) < ALMOST_NOTHING:
        return None
    return median(now) / median(then)


STEP = Step(
    name="expected",
    rung=0,
    says="asks Prometheus for the load and latency of the last half hour and of the same hour yesterday, "
    "and compares them with what was learned of this server",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("expected.source", "", "where the expectation comes from"),
        FactSpec("expected.samples", "", "healthy samples it rests on"),
        FactSpec("expected.itl_s", "s", "inter-token latency expected at this batch, prefill and KV cache"),
        FactSpec("expected.itl_ratio", "x", "inter-token latency against the expected"),
        FactSpec("expected.itl_residual_sigmas", "", "how far off that is, in standard deviations"),
        FactSpec("expected.ttft_s", "s", "time to first token expected at these prompts, hits and batch"),
        FactSpec("expected.ttft_ratio", "x", "time to first token against the expected"),
        FactSpec("expected.ttft_residual_sigmas", "", "how far off that is, in standard deviations"),
        *(
            FactSpec(f"expected.{signal}_vs_yesterday", "x", f"{signal} against the same hour yesterday")
            for signal in DAILY
        ),
    ),
    timeout_s=25.0,
    max_bytes=2 << 20,
    needs=("Prometheus",),
)
