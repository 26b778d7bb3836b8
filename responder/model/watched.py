"""What is watched? A server as its operator names it, and what is known of it from when it was well."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from responder.model.noun import Noun


class Expectation(Noun):
    """What somebody asked this server to deliver; without it low throughput is no incident."""

    generation_tokens_per_second: float | None = None
    requests_per_second: float | None = None


class CapturePolicy(Noun):
    """How far captures of one server may go without asking anybody; durations in seconds."""

    max_rung: int = 1
    pause: float = 4.0
    """All captures of one incident together may pause the server for so long."""
    pause_per_day: float = 30.0
    heavy_per_hour: int = 5
    """Captures of rung 2 and up; this and the one above count the server and its whole host."""
    abort_after: float = 4.0
    last_replica: bool = False
    """Whether rung 2 may run on a server without another healthy replica of its model."""
    approve: tuple[str, ...] = ()
    """Steps a person must approve, whatever their rung."""
    approval_expiry: float = 900.0
    cpu_load: float = 1.5
    """Load per core over which nothing is profiled: on a busy host the end of a profile has taken minutes."""


class Target(Noun):
    """One vLLM server (one API endpoint), as an operator names it."""

    name: str
    """Unique; the host:port of `url` unless the operator named it."""
    url: str
    """Base URL, no trailing slash: http://host:8000."""
    match: dict[str, str] = Field(default_factory=dict)
    """Prometheus labels that select this server's series; {"instance": "host:port"} unless configured."""
    model: str | None = None
    thresholds: dict[str, float] = Field(default_factory=dict)
    """Alert name -> threshold for this target, instead of the number in the rule."""
    expect: Expectation | None = None
    api_key: SecretStr | None = None
    canary: bool = True
    """Whether requests of our own may be sent: what its owner said, else whether `capture.max_rung` is above 0."""
    log_file: str | None = None
    """Where the server's log is; discovered from the process when it runs on this host and this is unset."""
    recorder: str | None = None
    """Folder of the step recorder's ring files; discovered from the process when this is unset."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Free labels of the operator (team, tier), for routing and silences."""
    capture: CapturePolicy | None = None
    node: str = ""
    """Node whose agent does the captures; empty: the responder itself does."""


class ProcessInfo(Noun):
    """One process of a server, as last seen alive."""

    pid: int
    ppid: int
    started_at: float
    """Process start, unix seconds: a recycled pid has another one."""
    role: Literal["launcher", "api_server", "engine_core", "worker", "coordinator", "other"]
    name: str
    """Title or short name: `VLLM::Worker_TP1`."""
    rank: int | None = None


class Inventory(Noun):
    """What the daemon knows of a server from the time it was healthy; it must survive the server's death."""

    at: float
    local: bool
    """Whether the server's processes are visible from here (same host or shared PID namespace)."""
    via: str = ""
    """How commands reach the server's host when it is another one: `ssh gpu-1`, `pod ns/name`; empty: not at all."""
    processes: tuple[ProcessInfo, ...] = ()
    command: tuple[str, ...] = ()
    """argv of the API server, secrets masked."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Allow-listed VLLM_/NCCL_/CUDA_/TORCH_ variables of the API server."""
    log_file: str | None = None
    version: str | None = None
    why_not: str = ""
    """Why processes or log could not be found, in words."""

    @property
    def reachable(self) -> bool:
        """Whether commands run where the server runs."""
        return self.local or bool(self.via)
