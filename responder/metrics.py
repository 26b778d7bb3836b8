"""What does Prometheus answer? The only importer of prometheus_api_client.

The library is synchronous and unbounded: here it gets its own connection pool, explicit timeouts, a body cap, and its
own small thread pool, so that it never runs on the event loop and never piles up.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any, TypeVar

import requests
import structlog
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ReadTimeoutError

from responder.model import Target
from responder.spelling import AS_WRITTEN, ASK, spelling

log = structlog.get_logger()
ASSUMED_S = 5.0
LONGER = 3
"""A whole answer may take so many times as long as one read of it."""
MAX_BODY = 16 << 20
"""Bytes of one answer; 5,000 series with their labels are about 1 MB."""
MAX_SERIES = 20_000
MOST_WARNINGS = 10
NO_POST = re.compile(r"^HTTP (Status Code )?405\b")
NUMBER = re.compile(r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$", re.ASCII)
DURATION = re.compile(r"(\d+)(ms|[smhd])")
UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

ALWAYS_THERE = "vllm:num_requests_running"
"""Every version exposes it from the start."""
LOOK_BACK_S = 330
"""Samples a minute apart are five, then."""
FEWEST_GAPS = 3
LONGEST_WAIT_S = 120.0

Labels = dict[str, str]
T = TypeVar("T")
Point = tuple[float, float | None]


class PrometheusSilent(Exception):
    """Prometheus did not answer usefully: down, slow, or saying something that is no answer. Changes nothing."""


class PrometheusBusy(PrometheusSilent):
    """It has had too many queries and answers later (HTTP 429); `after_s`: seconds it asks for, 0 where it does not."""

    def __init__(self, words: str, after_s: float = 0.0) -> None:
        super().__init__(words)
        self.after_s = after_s


def number(text: object) -> float | None:
    """A sample value of the HTTP API; NaN and infinities are None. ValueError for anything that is no number."""
    if not isinstance(text, str):
        raise ValueError(f"sample value {text!r} is not a string")
    if text in ("NaN", "+Inf", "-Inf", "Inf"):
        return None
    if not NUMBER.match(text):
        raise ValueError(f"sample value {text!r} is not a number")
    value = float(text)
    return value if math.isfinite(value) else None


class CappedSession(requests.Session):
    """A session that never reads more than `MAX_BODY` of an answer and ignores proxies from the environment."""

    def __init__(self, pool: int) -> None:
        super().__init__()
        self.trust_env = False
        adapter = HTTPAdapter(pool_connections=pool, pool_maxsize=pool, max_retries=0)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["stream"] = True
        limit = time.monotonic() + LONGER * (kwargs.get("timeout") or ASSUMED_S)
        response = super().request(*args, **kwargs)
        body = bytearray()
        try:
            # Piece by piece as it comes: the timeout of a read says nothing of an answer that trickles for hours.
            while chunk := response.raw.read1(1 << 16, decode_content=True):
                body += chunk
                if len(body) > MAX_BODY:
                    raise PrometheusSilent(f"answer larger than {MAX_BODY >> 20} MiB refused")
                if time.monotonic() > limit:
                    raise requests.Timeout("the answer does not come to an end")
        except BaseException as error:
            response.close()
            if isinstance(error, HTTPError):  # the library under the library has errors of its own
                late = isinstance(error, ReadTimeoutError)
                raise (requests.Timeout if late else requests.ConnectionError)(str(error)) from None
            raise
        response._content = bytes(body)
        return response


class Prometheus:
    """One Prometheus (or anything that speaks its HTTP API).

    url: base URL. timeout_s: per query, connect and read each. workers: queries in flight at most.
    """

    def __init__(self, url: str, *, timeout_s: float = 4.0, workers: int = 6, headers: Labels | None = None) -> None:
        self.timeout_s = timeout_s
        session = CappedSession(workers)
        ours = dict(session.adapters)
        self._connect = PrometheusConnect(
            url=url.rstrip("/"),
            headers=headers or {},
            session=session,
            method="POST",
            timeout=timeout_s,  # type: ignore[arg-type]  # annotated as int, handed to requests as it is
        )
        # The library puts in one of its own that tries three times more, seconds apart: a dead Prometheus would hold up
        # a whole round, in which the probes see what it does not.
        session.adapters.clear()
        session.adapters.update(ours)
        self.spelling = AS_WRITTEN
        """How metrics are called here; every query is put that way."""
        self.warnings: dict[str, None] = {}
        """What it said beside its answers of ranges, without repeats: a store behind it was away, data is partial."""
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="prometheus")
        self._slots = asyncio.Semaphore(workers)

    @property
    def url(self) -> str:
        """Where it answers; a private one that was started again does so somewhere else."""
        return str(self._connect.url)

    @url.setter
    def url(self, url: str) -> None:
        self._connect.url = url.rstrip("/")

    def close(self) -> None:
        """Give up outstanding queries; their threads end with their timeouts."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def instant(self, expr: str, at: float | None = None) -> list[tuple[Labels, float, float | None]]:
        """Evaluate PromQL now (or at unix seconds `at`): (labels, sample time, value; None for NaN or infinite)."""
        params = {"time": f"{at:.3f}"} if at is not None else {}
        expr = self.spelling.of(expr)

        def ask() -> Any:
            return self._connect.custom_query(expr, params=params, timeout=self.timeout_s)  # type: ignore[arg-type]

        return await self._ask(
            ask, lambda row: (_labels(row["metric"]), float(row["value"][0]), number(row["value"][1]))
        )

    async def raw(self, expr: str, at: float) -> list[tuple[Labels, list[Point]]]:
        """The samples themselves of a range selector like `ALERTS[1h]`, up to `at` (unix seconds)."""
        params = {"time": f"{at:.3f}"}
        expr = self.spelling.of(expr)

        def ask() -> Any:
            return self._connect.custom_query(expr, params=params, timeout=self.timeout_s)  # type: ignore[arg-type]

        return await self._ask(ask, _points)

    async def range(self, expr: str, start: float, end: float, step: float) -> list[tuple[Labels, list[Point]]]:
        """Evaluate PromQL over [start, end] (unix seconds) every `step` seconds: (labels, points)."""
        http = self._connect._session  # the library's range helper insists on datetimes and chunks; its session is ours
        data = {
            "query": self.spelling.of(expr),
            "start": f"{start:.3f}",
            "end": f"{end:.3f}",
            "step": f"{max(step, 0.001):.3f}",
        }

        def ask() -> Any:
            posted = self._connect._method == "POST"
            response = http.request(
                self._connect._method, f"{self.url}/api/v1/query_range", data=data if posted else None,
                params=None if posted else data, headers=self._connect.headers, timeout=self.timeout_s,
            )  # fmt: skip
            if response.status_code == 429:
                raise PrometheusBusy(f"HTTP 429: {response.text[:200]}", _seconds(response.headers.get("Retry-After")))
            if response.status_code != 200:
                raise PrometheusApiClientException(f"HTTP {response.status_code}: {response.text[:200]}")
            body = response.json()
            result = body["data"]["result"]
            for words in list(body.get("warnings") or ())[:MOST_WARNINGS]:
                if len(self.warnings) < MOST_WARNINGS:
                    self.warnings[str(words)[:200]] = None
            return result

        return await self._ask(ask, _points)

    async def scrape_interval(self, match: Iterable[Labels]) -> float | None:
        """The scrape interval in seconds of the first active target that carries one of these label sets."""
        wanted = list(match)

        def ask() -> Any:
            response = self._connect._session.get(
                f"{self.url}/api/v1/targets", params={"state": "active"}, timeout=self.timeout_s
            )
            return response.json()["data"]["activeTargets"]

        targets = await self._ask(ask, lambda row: row)
        for target in targets:
            labels = target.get("labels", {})
            if any(all(labels.get(k) == v for k, v in match_.items()) for match_ in wanted):
                text = target.get("scrapeInterval") or target.get("discoveredLabels", {}).get("__scrape_interval__", "")
                return sum(int(n) * UNIT_S[u] for n, u in DURATION.findall(text)) or None
        return None

    async def learn_spelling(self) -> None:
        """See how metrics are called here. A store that has none of vLLM's yet, or does not answer, changes nothing."""
        with contextlib.suppress(PrometheusSilent):
            rows = await self.instant(ASK)
            self.spelling = spelling(labels.get("spelled", "") for labels, _, _ in rows)

    async def sample_interval(self, match: Iterable[Labels], at: float) -> float | None:
        """Seconds between the samples of those servers before `at`; None without any. Of several the slowest counts."""
        wanted = list(match)
        gaps = [
            gap
            for labels, points in await self.raw(f"{ALWAYS_THERE}[{LOOK_BACK_S}s]", at)
            if any(all(labels.get(k) == v for k, v in one.items()) for one in wanted)
            and (gap := gap_of([stamp for stamp, _ in points])) is not None
        ]
        return max(gaps, default=None)

    async def _ask(self, ask: Callable[[], Any], shape: Callable[[Any], T]) -> list[T]:
        """Ask, check and take apart on a thread: a large answer must not hold up the loop."""

        def work() -> list[T]:
            try:
                rows = ask()
            except PrometheusApiClientException as error:
                if self._connect._method == "GET" or not NO_POST.search(str(error)):
                    raise
                self._connect._method = "GET"  # some gateways let nothing else through
                rows = ask()
            if not isinstance(rows, list):
                raise PrometheusSilent("answer of the wrong shape: result is not a list")
            if len(rows) > MAX_SERIES:
                raise PrometheusSilent(f"{len(rows)} series refused (at most {MAX_SERIES})")
            try:
                return [shape(row) for row in rows]
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise PrometheusSilent(f"answer of the wrong shape: {error}") from None

        async with self._slots:
            try:
                # Whatever holds a thread up, a round of detection goes on without its answer.
                async with asyncio.timeout(2 * LONGER * self.timeout_s):
                    return await asyncio.get_running_loop().run_in_executor(self._threads, work)
            except TimeoutError:
                raise PrometheusSilent("did not answer in time") from None
            except (PrometheusApiClientException, requests.RequestException, ValueError, KeyError, TypeError) as error:
                raise PrometheusSilent(_words(error)) from None
            except RuntimeError as error:  # the pool was shut down under us
                raise PrometheusSilent(str(error)) from None


async def asked_interval(prometheus: Prometheus, targets: Mapping[str, Target]) -> float:
    """How often these are scraped, seconds: as Prometheus is configured, else as samples of the last minutes are apart
    (Thanos, Mimir and VictoriaMetrics have no targets to ask about); 5, loudly, where it cannot be found out."""
    match = [target.match for target in targets.values()]
    found = None
    with contextlib.suppress(PrometheusSilent):
        found = await prometheus.scrape_interval(match)
    try:
        found = found or await prometheus.sample_interval(match, time.time())
    except PrometheusSilent as error:
        log.warning("prometheus.silent", reason=str(error))
    if found is None:
        log.warning("scrape_interval.unknown", assumed_s=ASSUMED_S, hint="set prometheus.scrape_interval")
    return found or ASSUMED_S


def gap_of(stamps: Iterable[float]) -> float | None:
    """Seconds between samples, from when they were taken: the median, to a tenth. None of fewer than four."""
    ordered = sorted(set(stamps))
    gaps = [after - before for before, after in zip(ordered, ordered[1:], strict=False)]
    return round(median(gaps), 1) if len(gaps) >= FEWEST_GAPS else None


def _points(row: Any) -> tuple[Labels, list[Point]]:
    return _labels(row["metric"]), [(float(t), number(v)) for t, v in row["values"]]


def _seconds(retry_after: str | None) -> float:
    """Of a Retry-After header; 0 for a date or nonsense."""
    return min(float(retry_after), LONGEST_WAIT_S) if retry_after and NUMBER.match(retry_after) else 0.0


def _labels(metric: object) -> Labels:
    if not isinstance(metric, dict):
        raise TypeError("metric is not an object")
    return {str(k): str(v) for k, v in metric.items() if k != "__name__"}


def _words(error: Exception) -> str:
    if isinstance(error, requests.Timeout):
        return "did not answer in time"
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached"
    return f"{type(error).__name__}: {error}"[:300]
