"""What may an operator write? One YAML file; unknown keys are errors; flag > environment > file > default."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic import model_validator as validates

from responder.model import CapturePolicy, Expectation, Problem, Silence, Target
from responder.words import CODES

DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)?$")
UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
UNIT_B = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def seconds(value: object) -> object:
    """`30s`, `1h30m` or a plain number of seconds."""
    if not isinstance(value, str):
        return value
    parts = DURATION.findall(value)
    if not parts or "".join(n + u for n, u in parts) != value.replace(" ", ""):
        raise ValueError(f"{value!r} is not a duration; write for example 30s, 5m or 1h30m")
    return sum(float(n) * UNIT_S[u] for n, u in parts)


def size(value: object) -> object:
    """`5GiB` or a plain number of bytes."""
    if not isinstance(value, str):
        return value
    got = SIZE.match(value.strip())
    if not got:
        raise ValueError(f"{value!r} is not a size; write for example 500MiB or 5GiB")
    return int(float(got[1]) * UNIT_B[got[2]])


def http_url(value: str) -> str:
    """An absolute http(s) URL without trailing slash and without credentials."""
    url = urlsplit(value)
    try:
        port_ok = url.port is None or url.port > 0
    except ValueError:
        port_ok = False
    if url.scheme not in ("http", "https") or not url.hostname or not port_ok:
        raise ValueError(f"{value!r} is not a URL; write for example http://127.0.0.1:8000")
    if url.username or url.password:
        raise ValueError("no user or password in a URL: use a secret option or a *_file option")
    return value.rstrip("/")


def known_language(value: str) -> str:
    """The code of a language there are words for."""
    if value not in CODES:
        raise ValueError(f"no language {value!r}; there are {', '.join(CODES)}")
    return value


Spoken = Annotated[str, AfterValidator(known_language)]
Duration = Annotated[float, BeforeValidator(seconds), Field(gt=0)]
Size = Annotated[int, BeforeValidator(size), Field(gt=0)]
HttpUrl = Annotated[str, AfterValidator(http_url)]


class Part(BaseModel):
    """Base of every section: immutable, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PrometheusPart(Part):
    """Where metrics come from; without a url a private Prometheus is started."""

    url: HttpUrl | None = None
    timeout: Duration = 4.0
    bearer_token: SecretStr | None = None
    bearer_token_file: Path | None = None
    scrape_interval: Duration | None = None
    """Of the private Prometheus (default 2s); of a given one it is asked, this overrides the answer."""


class SshPart(Part):
    """Another host over SSH, with keys and known hosts of its own; no agent, no ~/.ssh/config."""

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]+$")]
    user: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    key_file: Path
    known_hosts: Path
    port: Annotated[int, Field(gt=0, lt=65536)] = 22


class PodPart(Part):
    """A Kubernetes pod over the API server's exec; by default with the service account of our own pod."""

    namespace: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    name: Annotated[str, Field(pattern=r"^[a-z0-9.-]+$")]
    container: str | None = None
    api: HttpUrl = "https://kubernetes.default.svc"
    token_file: Path | None = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    ca_file: Path | None = Path("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")


class WherePart(Part):
    """Where captures of a target run when it is not on this host: `ssh:` or `pod:`."""

    ssh: SshPart | None = None
    pod: PodPart | None = None

    @validates(mode="after")
    def _one(self) -> WherePart:
        if (self.ssh is None) == (self.pod is None):
            raise ValueError("where: give either `ssh:` or `pod:`; leave `where` out for this host")
        return self


class TargetPart(Part):
    """One vLLM server."""

    url: HttpUrl
    name: str | None = None
    match: dict[str, str] = Field(default_factory=dict)
    model: str | None = None
    thresholds: dict[str, float] = Field(default_factory=dict)
    expect: Expectation | None = None
    api_key: SecretStr | None = None
    api_key_file: Path | None = None
    canary: bool = True
    log_file: str | None = None
    recorder: str | None = None
    where: WherePart | Literal["local"] = "local"
    """Where its captures run: this host (or its PID namespace), over SSH, or inside its pod."""
    labels: dict[str, str] = Field(default_factory=dict)
    capture: TargetCapturePart | None = None


class HttpPart(Part):
    """Our own HTTP server."""

    listen: str = "127.0.0.1:9119"
    token: SecretStr | None = None
    token_file: Path | None = None

    @validates(mode="after")
    def _check(self) -> HttpPart:
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"listen: {self.listen!r} is not host:port; write for example 127.0.0.1:9119")
        if host.strip("[]") not in LOOPBACK and not (self.token or self.token_file):
            raise ValueError("listen: anything but loopback needs `token` or `token_file`")
        return self

    @property
    def address(self) -> tuple[str, int]:
        """(host, port)."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


def host_port(value: str) -> str:
    """host:port."""
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{value!r} is not host:port; write for example 0.0.0.0:4317")
    return value


HostPort = Annotated[str, AfterValidator(host_port)]


class RequestsPart(Part):
    """Request traces: an OTLP receiver of our own, an existing tracing back end, or both. Off by default."""

    grpc: HostPort | None = None
    """Where vLLM's default exporter sends to: 0.0.0.0:4317."""
    http: HostPort | None = None
    """The same over HTTP with protobuf: 0.0.0.0:4318, path /v1/traces."""
    forward: HttpUrl | None = None
    """A collector that gets everything as well; …/v1/traces is HTTP, anything else gRPC."""
    keep: Annotated[int, Field(ge=1000, le=100_000)] = 100_000
    age: Duration = 1800.0
    tenant: tuple[str, ...] = ()
    """Span attributes that say whose a request is."""
    tempo: HttpUrl | None = None
    jaeger: HttpUrl | None = None
    jaeger_service: str | None = None


class CapturePart(Part):
    """How far captures may go without asking anybody."""

    max_rung: Literal[0, 1, 2] = 1
    """0: no contact with the engine. 1: also non-blocking stacks and a canary. 2: also what disturbs the server for
    less than a second, as far as the budgets go. Everything else asks a person."""
    pause: Duration = 4.0
    """Of the server, by all captures of one incident."""
    pause_per_day: Duration = 30.0
    heavy_per_hour: Annotated[int, Field(ge=0, le=60)] = 5
    abort_after: Duration = 4.0
    """A capture during which the server gives nothing to anybody for so long is ended."""
    last_replica: bool = False
    approve: tuple[str, ...] = ()
    approval_expiry: Duration = 900.0
    cpu_load: Annotated[float, Field(gt=0)] = 1.5
    deadline: Duration = 45.0
    """All captures of one incident together."""
    shell: bool = False
    """Whether `command` steps of playbooks may run shells; programs by themselves they may always run."""
    canary_interval: Duration = 10.0
    """At most one canary per target in this time, and only while its token counters stand still."""


class CanariesPart(Part):
    """Pinned canaries. Nothing is asked of a target until `responder canary record` has recorded its good answers."""

    interval: Annotated[float, BeforeValidator(seconds), Field(ge=5.0)] = 60.0


class TargetCapturePart(Part):
    """The same for one target; what is not given is as for all."""

    max_rung: Literal[0, 1, 2] | None = None
    pause: Duration | None = None
    pause_per_day: Duration | None = None
    heavy_per_hour: Annotated[int, Field(ge=0, le=60)] | None = None
    abort_after: Duration | None = None
    last_replica: bool | None = None
    approve: tuple[str, ...] | None = None
    approval_expiry: Duration | None = None
    cpu_load: Annotated[float, Field(gt=0)] | None = None


class SilencePart(Part):
    """A maintenance window."""

    match: dict[str, str]
    starts_at: datetime
    ends_at: datetime
    comment: str = ""


class RetentionPart(Part):
    """How long incident folders stay; open incidents are never removed."""

    age: Duration = 30 * 86400.0
    size: Size = 5 << 30


class Config(Part):
    """Everything an operator may write."""

    apiVersion: Literal["responder/v1"] = "responder/v1"  # noqa: N815 - the field's convention
    prometheus: PrometheusPart = PrometheusPart()
    targets: tuple[TargetPart, ...] = ()
    receivers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    language: Spoken = "en"
    """Of reports and messages; a receiver may have its own. There is one file per language in `responder/words/`."""
    rules: tuple[Path, ...] = ()
    """Directories or files beside the shipped rules; an alert of the same name replaces the shipped one."""
    playbooks: tuple[Path, ...] = ()
    disable_alerts: tuple[str, ...] = ()
    data_dir: Path = Path("responder-data")
    evaluation_interval: Duration | None = None
    """Default: the scrape interval, at most 5s."""
    http: HttpPart = HttpPart()
    capture: CapturePart = CapturePart()
    requests: RequestsPart = RequestsPart()
    canaries: CanariesPart = CanariesPart()
    silences: tuple[SilencePart, ...] = ()
    retention: RetentionPart = RetentionPart()
    redact: tuple[SecretStr, ...] = ()
    """More values that must never reach the disk."""
    hold_down: Duration = 30.0
    """A symptom must be gone this long before its incident is resolved."""

    def watched(self) -> tuple[Target, ...]:
        """The targets as the flow knows them, secrets read. ValueError when two share a name."""
        out: dict[str, Target] = {}
        for part in self.targets:
            netloc = urlsplit(part.url).netloc
            name = part.name or netloc
            if name in out:
                raise ValueError(f"two targets are named {name!r}: give one of them another `name`")
            out[name] = Target(
                name=name,
                url=part.url,
                match=part.match or {"instance": netloc},
                model=part.model,
                thresholds=part.thresholds,
                expect=part.expect,
                api_key=secret(part.api_key, part.api_key_file),
                canary=part.canary,
                log_file=part.log_file,
                recorder=part.recorder,
                labels=part.labels,
                capture=self._policy(part.capture),
            )
        return tuple(out.values())

    def _policy(self, own: TargetCapturePart | None) -> CapturePolicy:
        whole = {name: getattr(self.capture, name) for name in CapturePolicy.model_fields}
        return CapturePolicy(**{**whole, **(own.model_dump(exclude_none=True) if own else {})})

    def windows(self) -> tuple[Silence, ...]:
        """The configured maintenance silences."""
        return tuple(
            Silence(
                id=f"config-{index}",
                match=part.match,
                starts_at=part.starts_at.timestamp(),
                ends_at=part.ends_at.timestamp(),
                comment=part.comment,
            )
            for index, part in enumerate(self.silences)
        )


def secret(value: SecretStr | None, file: Path | None) -> SecretStr | None:
    """The secret, given as it is or as the file that holds it. ValueError for both; OSError as open() raises it."""
    if value is not None and file is not None:
        raise ValueError(f"give the secret itself or {file}, not both")
    if file is not None:
        return SecretStr(file.read_text().strip())
    return value


Locate = Callable[[tuple[str | int, ...]], tuple[int, int]]


def parse(tree: Mapping[str, Any], file: str, locate: Locate) -> tuple[Config | None, tuple[Problem, ...]]:
    """A loaded YAML tree as configuration, or every problem in it with line and column."""
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        return None, tuple(_problem(file, locate, detail) for detail in error.errors())
    try:
        config.watched()
    except (ValueError, OSError) as error:
        line, column = locate(("targets",))
        return None, (Problem(file=file, line=line, column=column, what=str(error)),)
    return config, ()


def _problem(file: str, locate: Locate, detail: Any) -> Problem:
    path = tuple(part for part in detail["loc"] if isinstance(part, str | int))
    line, column = locate(path)
    where = ".".join(str(part) for part in path)
    if detail["type"] == "extra_forbidden":
        return Problem(
            file=file, line=line, column=column, what=f"unknown key `{where}`", instead=_near(path) or "remove it"
        )
    what = str(detail["msg"]).removeprefix("Value error, ")
    return Problem(file=file, line=line, column=column, what=f"{where}: {what}" if where else what)


def _near(path: tuple[str | int, ...]) -> str:
    import difflib

    parts: list[type[BaseModel]] = [
        Config, PrometheusPart, TargetPart, HttpPart, CapturePart, TargetCapturePart, CanariesPart,
        RequestsPart, SilencePart, RetentionPart, Expectation,
    ]  # fmt: skip
    names = sorted({name for part in parts for name in part.model_fields})
    close = difflib.get_close_matches(str(path[-1]), names, n=1)
    return f"did you mean `{close[0]}`?" if close else ""
