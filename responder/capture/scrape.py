"""What does /metrics say when we ask the server ourselves? Twice, a second apart, so that movement shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from responder.ask import Answer, credentials, get
from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step
from responder.exposition import Exposition, parse
from responder.model import Fact, Outcome, Scalar

TIMEOUT_S = 3.0
APART_S = 1.0
MAX_BYTES = 4 << 20
META = "scrape.json"
PAGES = ("metrics-1.txt", "metrics-2.txt")

RUNNING = ("vllm:num_requests_running",)
WAITING = ("vllm:num_requests_waiting",)
KV_USAGE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
PROGRESS = (
    ("vllm:generation_tokens_total", "vllm:generation_tokens"),
    ("vllm:prompt_tokens_total", "vllm:prompt_tokens"),
    ("vllm:iteration_tokens_total_count",),
)
EXPECTED: Mapping[str, tuple[str, ...]] = {
    "running": RUNNING,
    "waiting": WAITING,
    "kv_usage": KV_USAGE,
    "preemptions": ("vllm:num_preemptions_total", "vllm:num_preemptions"),
    "generation_tokens": PROGRESS[0],
    "prompt_tokens": PROGRESS[1],
    "iterations": PROGRESS[2],
    "ttft": ("vllm:time_to_first_token_seconds_count",),
    "itl": ("vllm:inter_token_latency_seconds_count", "vllm:time_per_output_token_seconds_count"),
    "prefix_cache": ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
    "http_requests": ("http_requests_total",),
    "process": ("process_start_time_seconds",),
}
"""What a server with statistics on exposes, newest name first."""

_APPEARED: tuple[tuple[str, str], ...] = (
    ("vllm:admission_rejections_total", "0.32"),
    ("vllm:request_num_preemptions_count", "0.30"),
    ("vllm:tool_call_parser_invocations_total", "0.24"),
    ("vllm:num_requests_waiting_by_reason", "0.20"),
    ("vllm:estimated_flops_per_gpu_total", "0.17"),
    ("vllm:prompt_tokens_by_source_total", "0.16"),
    ("vllm:request_prefill_kv_computed_tokens_count", "0.13"),
    ("vllm:mm_cache_queries_total", "0.11.1"),
    ("vllm:request_time_per_output_token_seconds_count", "0.11"),
    ("vllm:inter_token_latency_seconds_count", "0.10.2"),
    ("vllm:kv_cache_usage_perc", "0.9.2"),
    ("vllm:iteration_tokens_total_count", "0.8.5"),
    ("vllm:num_requests_running", "0.6"),
)
"""A metric every server of its time has, and the release it came with: the newest one seen is a lower bound."""


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Two scrapes; the second only when the first was answered (a silent server is not asked to be silent twice)."""
    pages: dict[str, bytes] = {}
    answers: list[Answer] = []
    for page in PAGES:
        if answers:
            await asyncio.sleep(APART_S)
        answer = await get(
            scene.http,
            f"{scene.target.url}/metrics",
            timeout=TIMEOUT_S,
            max_bytes=MAX_BYTES,
            headers=credentials(scene.target),
        )
        answers.append(answer)
        if answer.body:
            pages[page] = answer.body
        if answer.reach != "ok" or answer.status != 200:
            break
    meta = [{"reach": a.reach, "status": a.status, "seconds": a.seconds, "truncated": a.truncated} for a in answers]
    files = {META: json.dumps(meta, indent=1).encode(), **pages}
    bad = answers[-1]
    if bad.reach != "ok":
        return Fetched(files, Outcome.PARTIAL, f"/metrics: {bad.reach}, {bad.error}")
    if bad.status != 200:
        return Fetched(files, Outcome.PARTIAL, f"/metrics answered {bad.status}")
    return Fetched(files)


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Facts of the newest page, and whether anything moved between the two."""
    try:
        meta = json.loads(files[META])
        last = meta[-1]
    except (KeyError, ValueError, IndexError, TypeError):
        return
    pages = [parse(files[page]) for page in PAGES if page in files]
    newest = pages[-1] if pages else parse(b"")
    page = PAGES[len(pages) - 1] if pages else META

    def fact(name: str, value: Scalar, unit: str = "", says: str = "", file: str = page) -> Fact:
        return Fact(name=f"scrape.{name}", value=value, unit=unit, step="scrape", file=file, at=brief.now, says=says)

    yield fact("reachable", last["reach"], file=META)
    yield fact("status", last["status"], file=META)
    yield fact("seconds", max(answer["seconds"] for answer in meta), "s", file=META)
    if not newest.readings:
        return
    engines = newest.label_values("engine")
    yield fact("running", newest.total(*RUNNING), says="last known, not live: gauges freeze with the engine")
    yield fact("waiting", newest.total(*WAITING), says="last known, not live: gauges freeze with the engine")
    yield fact("kv_usage", newest.highest(*KV_USAGE), "share")
    yield fact("engines", max(1, len(engines)) if newest.named(*RUNNING) else None)
    yield fact("model_name", ",".join(newest.label_values("model_name")) or None)
    yield fact("absent", _absent(newest) if newest.label_values("model_name") else None)
    yield fact("version_guess", _version(newest), says="at least; guessed from which metrics exist")
    yield fact("tokens_moved", _moved(pages))
    for engine in engines if len(engines) > 1 else ():
        for name, metric in (("running", RUNNING[0]), ("waiting", WAITING[0])):
            mine = [r.value for r in newest.named(metric) if r.labels.get("engine") == engine and r.value is not None]
            if mine:
                yield fact(name, sum(mine)).model_copy(update={"subject": f"engine {engine}"})


def _absent(page: Exposition) -> str:
    return ",".join(name for name, metrics in EXPECTED.items() if not page.named(*metrics))


def _version(page: Exposition) -> str | None:
    names = {reading.name for reading in page.readings}
    return next((version for metric, version in _APPEARED if metric in names), None)


def _moved(pages: list[Exposition]) -> bool | None:
    """Whether a token or iteration counter changed; None with one page only. A fall is a restart: that is movement."""
    if len(pages) < 2:
        return None
    pairs = [(pages[0].total(*names), pages[1].total(*names)) for names in PROGRESS]
    known = [(before, after) for before, after in pairs if before is not None and after is not None]
    return any(before != after for before, after in known) if known else None


STEP = Step(
    name="scrape",
    rung=0,
    says="reads /metrics twice, a second apart; answered by the API server, the engine is not touched",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("scrape.reachable", "", "ok, refused, timeout, reset or error"),
        FactSpec("scrape.status", "", "HTTP status of /metrics"),
        FactSpec("scrape.seconds", "s", "how long the slower of the two scrapes took"),
        FactSpec("scrape.running", "requests", "requests in execution, last known, summed over engines"),
        FactSpec("scrape.waiting", "requests", "requests queued, last known, summed over engines"),
        FactSpec("scrape.kv_usage", "share", "KV cache in use, last known, of the fullest engine"),
        FactSpec("scrape.tokens_moved", "", "whether token or iteration counters moved within a second"),
        FactSpec("scrape.engines", "", "engines (data-parallel ranks) that report"),
        FactSpec("scrape.model_name", "", "served model names in the metrics"),
        FactSpec("scrape.absent", "", "expected metrics that are not exposed; some appear with the first request"),
        FactSpec("scrape.version_guess", "", "oldest vLLM release that has these metrics"),
    ),
    timeout_s=2 * TIMEOUT_S + APART_S + 1,
    max_bytes=2 * MAX_BYTES + (64 << 10),
)
