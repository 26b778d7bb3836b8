"""What is a capture step? Two functions and an honest declaration.

`fetch` goes into the world and brings bytes; `read` is pure and turns those bytes into facts, so a stored incident
folder is a test case: the same bytes give the same facts. Bytes are redacted between the two.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp
from pydantic import BaseModel, ConfigDict

from responder.canaries.pins import Pinned
from responder.model import Fact, Incident, Inventory, Obligation, Outcome, Symptom, Target


class NoParams(BaseModel):
    """A step without parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class FactSpec:
    """A fact a step may deliver. `name` may hold one `{signal}` placeholder for facts made once per signal."""

    name: str
    unit: str
    says: str


@dataclass(frozen=True)
class Command:
    """How a command ended: exit code (None: killed at the deadline), output (cut at the cap)."""

    code: int | None
    stdout: bytes
    stderr: bytes
    seconds: float
    truncated: bool = False


class Runner(Protocol):
    """Where captures run: this host; later also over SSH or inside a pod."""

    async def run(self, argv: Sequence[str], *, timeout: float, max_bytes: int = 1 << 20) -> Command:
        """Run argv (never a shell); kill its whole process tree at the deadline. FileNotFoundError if missing."""

    async def read(self, path: str, *, max_bytes: int, tail: bool = False) -> bytes:
        """Read a file's head (or tail); OSError as open() raises it."""


class RangeQuery(Protocol):
    """Prometheus range query of PromQL: list of (labels, [(unix seconds, value or None for NaN)])."""

    async def __call__(
        self, expr: str, start: float, end: float, step: float
    ) -> list[tuple[dict[str, str], list[tuple[float, float | None]]]]: ...


class DutyRefused(Exception):
    """Nothing may be begun on this server now; the message says why."""


class Duties(Protocol):
    """What must be ended is written down before it is begun (`obligations.py`)."""

    async def owe(self, target: Target, step: str, *, incident: str, within_s: float, repeat_safe: bool) -> Obligation:
        """Owe an end within so many seconds. DutyRefused when this server is owed one already."""

    def settle(self, obligation: str) -> Awaitable[Obligation]:
        """End it, whoever goes away meanwhile."""

    async def void(self, obligation: str, why: str) -> None:
        """Nothing was begun after all."""


class RequestRows(Protocol):
    """Stored rows of a server's finished requests in a window; LookupError says in words why there are none."""

    async def __call__(self, target: Target, inventory: Inventory | None, since: float, until: float) -> bytes: ...


@dataclass(frozen=True)
class Scene:
    """All that a fetch may use. Everything it does must respect `deadline_s` (its own timeout is enforced outside)."""

    target: Target
    inventory: Inventory | None
    now: float
    """Unix seconds when the step started."""
    onset_at: float
    opened_at: float
    http: aiohttp.ClientSession
    """Has no default timeout: pass one with every request."""
    runner: Runner
    range_query: RangeQuery | None
    """None when there is no Prometheus."""
    signals: Mapping[str, str] = field(default_factory=dict)
    """Signal name -> PromQL, windows already fitted to the scrape interval."""
    siblings: tuple[Target, ...] = ()
    """Other configured targets."""
    scrape_interval_s: float = 5.0
    requests: RequestRows | None = None
    """None when request traces are not switched on."""
    shell_allowed: bool = False
    """Whether the operator lets `command` steps run shells."""
    pinned: Callable[[str], Pinned] | None = None
    """Target name -> its recorded canaries; None outside the daemon."""
    duties: Duties | None = None
    """None where nothing may be begun that must be ended."""
    incident: str = ""
    remembered: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Target name -> what the daemon learned of it in healthy times: kind -> JSON."""
    disturbed: tuple[tuple[float, float], ...] = ()
    """Since when and until when captures of this incident disturbed the server."""
    kept: dict[str, bytes] = field(default_factory=dict)
    """Files so far: what is left of a step that is ended early is evidence, too."""


@dataclass(frozen=True)
class Fetched:
    """What a fetch brought: named raw files, or the reason there are none."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    outcome: Outcome = Outcome.OK
    reason: str = ""
    pause_seconds: float = 0.0
    disturbed: tuple[float, float] | None = None
    """Since when and until when (unix seconds) it touched the server; None: all the time."""


NOT_ALLOWED = (
    "canary requests are switched off for this target (`canary: false`, or `max_rung: 0` without `canary: true`)"
)
"""Why a step that sends requests of its own did not."""


def skipped(reason: str) -> Fetched:
    """The step cannot run here; `reason` says what is missing and what to add."""
    return Fetched(outcome=Outcome.SKIPPED, reason=reason)


@dataclass(frozen=True)
class Brief:
    """What a read may know besides the bytes; all of it is stored in the incident folder."""

    target: str
    now: float
    onset_at: float
    opened_at: float
    symptoms: tuple[Symptom, ...] = ()
    signals: tuple[str, ...] = ()
    scrape_interval_s: float = 5.0

    @classmethod
    def of(cls, incident: Incident, now: float, signals: Iterable[str], scrape_interval_s: float) -> Brief:
        """What a read of `now` may know of an incident."""
        return cls(
            target=incident.target, now=now, onset_at=incident.onset_at, opened_at=incident.opened_at,
            symptoms=incident.symptoms, signals=tuple(sorted(signals)), scrape_interval_s=scrape_interval_s,
        )  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A capture step as the plan sees it."""

    name: str
    rung: int
    says: str
    """What it does to the server and what it brings, one sentence for the report and `responder doctor`."""
    fetch: Callable[[Scene, BaseModel], Awaitable[Fetched]]
    read: Callable[[Mapping[str, bytes], Brief], Iterable[Fact]]
    facts: tuple[FactSpec, ...]
    timeout_s: float
    max_bytes: int
    worst_pause_s: float = 0.0
    """Declared worst-case pause of the server; 0 for rung 0."""
    needs: tuple[str, ...] = ()
    """Words for doctor: 'same host', 'py-spy', 'NVML'."""
    params: type[BaseModel] = NoParams
    momentary: Collection[str] = ()
    """Names of its facts that are true of the seconds in which it looked and of no other; `*`: all."""
    memory_bytes: int = 0
    """What it may take of the server's host memory."""
    ready: Callable[[Scene], Awaitable[str]] | None = None
    """Asked by `responder doctor` and before an approval: '' when it could run now, else what is missing and what to
    add. Touches the engine no more than rung 0 does."""
