"""Is this server answering us, right now? What Prometheus cannot see, as samples that rules can use.

A hung vLLM looks idle: its gauges freeze, often at 0, and `/health` says 200. So the probe looks from outside: can a
new client connect, is `/health` well, how many connections stand open, do the server's processes live, and - only while
the token counters stand still, at most once per interval - does a one-token request come back? What each costs the
server is printed by `bench/watch_cost.py`.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp

from responder.model import ProcessInfo, Sample, Target

HEALTH_TIMEOUT_S = 2.0
CANARY_DEADLINE_S = 8.0
FLAT_BEFORE_CANARY_S = 2.0
"""While tokens flow nobody needs a canary: progress proves life. Where the gauges froze at 0 only the canary tells a
hang, and what is waited here is waited before anybody hears of it."""
MOVES_MATTER = 1e-9
SET_BACK_S = 30.0


class CanaryAnswer(Protocol):
    """What the probe needs to know of a canary request."""

    @property
    def ok(self) -> bool:
        """A token came back in time."""

    @property
    def seconds(self) -> float:
        """How long it took, or until we gave up."""

    @property
    def asked(self) -> bool:
        """False when the server could not even be asked (no model name, refused): says nothing about a hang."""


@dataclass(frozen=True)
class Senses:
    """What a probe may do in the world; `app.py` wires the real ones, tests give fakes."""

    http: aiohttp.ClientSession
    newcomer: aiohttp.ClientSession
    """Connects anew each time: what it is told, a new client is told."""
    clock: Callable[[], float]
    canary: Callable[[Target, float], Awaitable[CanaryAnswer]]
    """(target, deadline in seconds) -> answer; must not raise for a server that is down."""
    connections: Callable[[int], int | None]
    """Port -> established connections, None when it cannot be seen from here."""
    alive: Callable[[Sequence[ProcessInfo]], Sequence[ProcessInfo]]
    """Those of these processes that still live."""


@dataclass
class Seen:
    """The latest of everything; None: not known."""

    at: float | None = None
    clock: float | None = None
    """When anything was noted last."""
    reachable: bool | None = None
    refused: bool | None = None
    health_status: int | None = None
    health_seconds: float | None = None
    connections: int | None = None
    server_load: int | None = None
    process_gone: bool | None = None
    canary_started: float | None = None
    canary_unanswered_since: float | None = None
    canary_ended: float | None = None
    canary_seconds: float | None = None
    progress_total: float | None = None
    progress_moved_at: float | None = None
    progress_seen_at: float | None = None
    log: dict[str, float] = field(default_factory=dict)
    canaries: dict[str, float] = field(default_factory=dict)
    unseen: bool | None = None


class Probe:
    """The probe of one target. `look` is called every few seconds; `samples` is what it knows."""

    def __init__(self, target: Target, senses: Senses, *, canary_interval_s: float = 10.0) -> None:
        self.target = target
        self.senses = senses
        self.canary_interval_s = canary_interval_s
        self.seen = Seen()
        self.processes: tuple[ProcessInfo, ...] = ()
        self.local = False
        """Whether the server runs on this host: only then do connections on the port say anything about it."""
        self._canary: asyncio.Task[None] | None = None
        self._has_load: bool | None = None
        self._port = urlsplit(target.url).port or (443 if target.url.startswith("https") else 80)

    async def look(self) -> None:
        """One round; never raises for anything the server does."""
        await self._health()
        await self._load()
        if self.local:
            self.seen.connections = await asyncio.to_thread(self.senses.connections, self._port)
        if self.processes:
            alive = await asyncio.to_thread(self.senses.alive, self.processes)
            self.seen.process_gone = None if self._replaced(alive) else len(alive) < len(self.processes)
        else:
            self.seen.process_gone = None
        self._maybe_canary()
        self.seen.at = self.senses.clock()

    def _replaced(self, alive: Sequence[ProcessInfo]) -> bool:
        """The port answers, and none of the API servers we know lives: these are the processes of an earlier server."""
        fronts = [process for process in self.processes if process.role == "api_server"]
        return bool(self.seen.reachable and fronts) and not any(process in alive for process in fronts)

    def progress(self, total: float | None, at: float) -> None:
        """Tell the probe the sum of the server's token and iteration counters at a time; None: not known."""
        if total is None:
            return
        self._set_back(at)
        seen = self.seen
        if seen.progress_total is None or abs(total - seen.progress_total) > MOVES_MATTER:
            seen.progress_moved_at = at
        seen.progress_total, seen.progress_seen_at = total, at

    def overlooked(self, unseen: bool | None) -> None:
        """Tell the probe whether Prometheus has nothing of the server; None: it does not answer."""
        self.seen.unseen = unseen

    def log_values(self, values: dict[str, float]) -> None:
        """Tell the probe what the log's stats lines say (signal name -> value)."""
        self.seen.log = values

    def canary_values(self, values: dict[str, float]) -> None:
        """Tell the probe what the pinned canaries say (signal name -> value)."""
        self.seen.canaries = values

    def samples(self, now: float) -> tuple[Sample, ...]:
        """What is known now, as samples labelled target=<name>; what is not known is not there."""
        seen = self.seen
        values: dict[str, float | None] = {
            "responder_probe_reachable": _number(seen.reachable),
            "responder_probe_refused": _number(seen.refused),
            "responder_probe_health_status": seen.health_status,
            "responder_probe_health_seconds": seen.health_seconds,
            "responder_probe_connections": seen.connections,
            "responder_probe_server_load": seen.server_load,
            "responder_probe_process_gone": _number(seen.process_gone),
            "responder_probe_unseen": _number(seen.unseen),
            "responder_probe_canary_seconds": seen.canary_seconds,
            "responder_probe_canary_stuck_seconds": self._stuck(now),
            "responder_probe_flat_seconds": self._flat(now),
            **seen.log,
            **seen.canaries,
        }
        if self.target.expect and self.target.expect.generation_tokens_per_second is not None:
            values["responder_expected_generation_rate"] = self.target.expect.generation_tokens_per_second
        return tuple(
            Sample(signal=name, labels={"target": self.target.name}, value=float(value), at=now)
            for name, value in values.items()
            if value is not None
        )

    def responsive(self, now: float, within_s: float = 30.0) -> bool | None:
        """True when a canary came back or the counters moved lately; False when a canary is stuck; else unknown."""
        stuck = self._stuck(now)
        if stuck is not None and stuck > 0:
            return False
        last = max(self.seen.canary_ended or 0.0, self.seen.progress_moved_at or 0.0)
        return True if last and now - last <= within_s else None

    async def stop(self) -> None:
        """Cancel a canary in flight (its connection is closed, so the server aborts it)."""
        if self._canary is not None and not self._canary.done():
            self._canary.cancel()
            await asyncio.gather(self._canary, return_exceptions=True)

    # ------------------------------------------------------------------------------------------------------

    async def _health(self) -> None:
        seen, started = self.seen, self.senses.clock()
        try:
            timeout = aiohttp.ClientTimeout(total=HEALTH_TIMEOUT_S)
            async with self.senses.newcomer.get(f"{self.target.url}/health", timeout=timeout) as answer:
                await answer.content.read(4096)
                seen.reachable, seen.refused, seen.health_status = True, False, answer.status
        except TimeoutError:
            seen.reachable, seen.refused, seen.health_status = False, False, None
        except (aiohttp.ClientError, OSError) as error:
            seen.reachable, seen.refused, seen.health_status = False, is_refused(error), None
        seen.health_seconds = self.senses.clock() - started

    async def _load(self) -> None:
        if self._has_load is False or not self.seen.reachable:
            return
        try:
            timeout = aiohttp.ClientTimeout(total=HEALTH_TIMEOUT_S)
            async with self.senses.http.get(f"{self.target.url}/load", timeout=timeout) as answer:
                if answer.status != 200:
                    self._has_load = False
                    return
                load = (await answer.json(content_type=None))["server_load"]
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError):
            return
        # Without --enable-server-load-tracking it is 0 for ever, so only a number above 0 ever says something.
        self._has_load = True
        self.seen.server_load = int(load) if isinstance(load, int | float) else None

    def _maybe_canary(self) -> None:
        seen, now = self.seen, self.senses.clock()
        self._set_back(now)
        if not self.target.canary or not seen.reachable or (self._canary and not self._canary.done()):
            return
        flat = self._flat(now)
        if flat is None or flat < FLAT_BEFORE_CANARY_S:
            if flat is not None:
                seen.canary_unanswered_since = None
            return
        if seen.canary_started is not None and now - seen.canary_started < self.canary_interval_s:
            return
        seen.canary_started = now
        self._canary = asyncio.create_task(self._ask(now), name=f"canary {self.target.name}")

    async def _ask(self, started: float) -> None:
        answer = await self.senses.canary(self.target, CANARY_DEADLINE_S)
        if answer.ok:
            self.seen.canary_seconds = answer.seconds
            self.seen.canary_ended = self.senses.clock()
            self.seen.canary_unanswered_since = None
        elif answer.asked and self.seen.canary_unanswered_since is None:
            self.seen.canary_unanswered_since = started

    def _set_back(self, now: float) -> None:
        """After the clock was set back, everything was seen as long ago as before: nobody is blind until it catches up.
        A round tells of a moment some seconds past; that is no step."""
        seen = self.seen
        gap = 0.0 if seen.clock is None else now - seen.clock
        if gap < -SET_BACK_S:
            for name in ("progress_moved_at", "progress_seen_at", "canary_started", "canary_ended",
                         "canary_unanswered_since"):  # fmt: skip
                at = getattr(seen, name)
                setattr(seen, name, None if at is None else at + gap)
        seen.clock = now

    def _stuck(self, now: float) -> float | None:
        seen = self.seen
        if not self.target.canary or seen.canary_started is None:
            return None
        since = seen.canary_unanswered_since
        if since is None and self._canary is not None and not self._canary.done():
            since = seen.canary_started
        return max(0.0, now - since) if since is not None else 0.0

    def _flat(self, now: float) -> float | None:
        seen = self.seen
        if seen.progress_moved_at is None or seen.progress_seen_at is None:
            return None
        # Only as far as we have looked: a Prometheus that went silent must not make a server look frozen.
        return max(0.0, min(now, seen.progress_seen_at) - seen.progress_moved_at)


def is_refused(error: BaseException) -> bool:
    """Whether a connection error means that nobody listens."""
    inner = getattr(error, "os_error", error)
    return isinstance(inner, ConnectionRefusedError) or getattr(inner, "errno", None) == errno.ECONNREFUSED


def samples_of(probes: Iterable[Probe], now: float) -> tuple[Sample, ...]:
    """What all probes know now."""
    return tuple(sample for probe in probes for sample in probe.samples(now))


def merge(probes: Iterable[Probe], now: float, asked: Iterable[str] = ()) -> dict[str, tuple[Sample, ...]]:
    """Signal name -> samples of all probes, as answers for `evaluate`.

    A signal of `asked` that no probe knows anything of is answered with nothing: who was asked has not fallen silent.
    """
    out: dict[str, list[Sample]] = {name: [] for name in asked}
    for probe in probes:
        for sample in probe.samples(now):
            out.setdefault(sample.signal, []).append(sample)
    return {name: tuple(samples) for name, samples in out.items()}


def _number(value: bool | None) -> float | None:
    return None if value is None else float(value)
