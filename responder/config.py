"""What may an operator write? One YAML file; unknown keys are errors; flag > environment > file > default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PrivateAttr, SecretStr, ValidationError
from pydantic import model_validator as validates

from responder.config_http import HttpPart
from responder.config_overrides import OverridesPart
from responder.config_places import Locate as Locate
from responder.config_places import Places, cut, path_of
from responder.config_prometheus import PrometheusPart
from responder.config_shared import AgentPart, ArtifactsPart
from responder.config_values import Duration, HostPort, HttpUrl, Part, ServerUrl, Size
from responder.config_values import http_url as http_url
from responder.config_values import seconds as seconds
from responder.config_values import secret as secret
from responder.config_values import size as size
from responder.located import Source
from responder.model import CapturePolicy, Expectation, Problem, Silence, Target
from responder.routing import RoutePart
from responder.validation import in_words
from responder.words import CODES


def known_language(value: str) -> str:
    """The code of a language there are words for."""
    if value not in CODES:
        raise ValueError(f"no language {value!r}; there are {', '.join(CODES)}")
    return value


Spoken = Annotated[str, AfterValidator(known_language)]


OF_ROUTES = ", where it says when somebody is told; captures and approvals have no hours"
ROUNDS = 8
"""Of leaving mistakes out: what is right alone may be wrong together."""


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

    url: ServerUrl
    name: str | None = None
    match: dict[str, str] = Field(default_factory=dict)
    model: str | None = None
    thresholds: dict[str, float] = Field(default_factory=dict)
    expect: Expectation | None = None
    api_key: SecretStr | None = None
    api_key_file: Path | None = None
    canary: bool | None = None
    """Whether requests of our own may be sent to it. Left out: yes, unless its `max_rung` is 0."""
    log_file: str | None = None
    recorder: str | None = None
    where: WherePart | Literal["local"] = "local"
    """Where its captures run: this host (or its PID namespace), over SSH, or inside its pod."""
    node: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$")] | None = None
    """The node it runs on: its captures are done by `responder agent --node NAME` there. Needs `database`."""
    labels: dict[str, str] = Field(default_factory=dict)
    capture: TargetCapturePart | None = None


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
    """0: no contact with the engine: no request of our own is sent either, unless a target says `canary: true`. 1: also
    non-blocking stacks and a canary. 2: also what disturbs the server for less than a second, as far as the budgets go.
    Everything else asks a person."""
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


class HeartbeatPart(Part):
    """A dead man's switch: a service that raises the alarm when we no longer call."""

    url: HttpUrl
    interval: Duration = 60.0


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
    routes: tuple[RoutePart, ...] = ()
    """Who is told of what; without routes, and where none matches, every receiver is told."""
    rules: tuple[Path, ...] = ()
    """Directories or files beside the shipped rules; an alert of the same name replaces the shipped one."""
    playbooks: tuple[Path, ...] = ()
    translations: tuple[Path, ...] = ()
    """Files `CODE.yaml`, or folders of them, with what your own rules, playbooks and causes say in another language."""
    disable_alerts: tuple[str, ...] = ()
    overrides: OverridesPart = OverridesPart()
    """Thresholds, `for`, severities, priors and switches by id."""
    data_dir: Path = Path("responder-data")
    database: SecretStr | None = None
    """postgresql://user:password@host/name, for several replicas and capture agents; default: a file in data_dir."""
    database_file: Path | None = None
    """The same, in a file."""
    lease: Annotated[float, BeforeValidator(seconds), Field(ge=2.0, le=300.0)] = 12.0
    """With several replicas: after this time without a word of a replica the others take over its targets."""
    artifacts: ArtifactsPart | None = None
    agent: AgentPart = AgentPart()
    evaluation_interval: Duration | None = None
    """Default: the scrape interval, at most 2s."""
    http: HttpPart = HttpPart()
    capture: CapturePart = CapturePart()
    requests: RequestsPart = RequestsPart()
    canaries: CanariesPart = CanariesPart()
    silences: tuple[SilencePart, ...] = ()
    retention: RetentionPart = RetentionPart()
    heartbeat: HeartbeatPart | None = None
    """Called with GET as long as the loop runs and the store can be written."""
    redact: tuple[SecretStr, ...] = ()
    """More values that must never reach the disk."""
    hold_down: Duration = 30.0
    """A symptom must be gone this long before its incident is resolved."""

    @validates(mode="after")
    def _shared(self) -> Config:
        if self.database and self.database_file:
            raise ValueError("give `database` itself or `database_file`, not both")
        url = self.database.get_secret_value() if self.database else "postgresql:"
        if not url.startswith(("postgresql:", "postgres:")):
            raise ValueError("database: not a PostgreSQL URL; write for example postgresql://responder@db/responder")
        for part in self.targets:
            if part.node and (self.database is None and self.database_file is None or self.artifacts is None):
                raise ValueError(f"targets: {part.url} has a `node`: that needs `database` and `artifacts`")
            if part.node and part.where != "local":
                raise ValueError(f"targets: {part.url} has `node` and `where`: give one of them")
        return self

    _places: Places = PrivateAttr(default_factory=Places)

    @property
    def places(self) -> Places:
        """Where in its file it says what."""
        return self._places

    def come_from(self, places: Places) -> None:
        """Say once where it was read."""
        self._places = places

    def database_url(self) -> str | None:
        """URL of the shared PostgreSQL; None: the file in data_dir. OSError when its file cannot be read."""
        got = secret(self.database, self.database_file)
        return got.get_secret_value() if got else None

    def shared_secrets(self) -> list[str]:
        """What must never reach the disk of what is shared: the database's password, the artifacts' key."""
        words = [urlsplit(url).password or "" for url in [self.database_url()] if url]
        s3 = self.artifacts.s3 if self.artifacts else None
        key = secret(s3.secret_key, s3.secret_key_file) if s3 else None
        return [*words, *([key.get_secret_value()] if key else [])]

    def watched(self) -> tuple[Target, ...]:
        """The targets as the flow knows them, secrets read. ValueError when two share a name."""
        out: dict[str, Target] = {}
        for part in self.targets:
            netloc = urlsplit(part.url).netloc
            name = part.name or netloc
            if name in out:
                raise ValueError(f"two targets are named {name!r}: give one of them another `name`")
            policy = self._policy(part.capture)
            out[name] = Target(
                name=name,
                url=part.url,
                match=part.match or {"instance": netloc},
                model=part.model,
                thresholds=part.thresholds,
                expect=part.expect,
                api_key=secret(part.api_key, part.api_key_file),
                canary=policy.max_rung > 0 if part.canary is None else part.canary,
                log_file=part.log_file,
                recorder=part.recorder,
                labels=part.labels,
                capture=policy,
                node=part.node or "",
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


def parse(
    tree: Mapping[str, Any], file: str, locate: Locate, source: Source | None = None
) -> tuple[Config | None, tuple[Problem, ...]]:
    """A loaded YAML tree as configuration, or every problem in it with line and column; with `source` also the line."""
    places = Places(file, locate, source)
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        return None, tuple(_problem(places, detail) for detail in error.errors())
    config.come_from(places)
    wrong: list[Problem] = []
    for section, read in (("targets", config.watched), ("http", config.http.tokens)):
        try:
            read()
        except (ValueError, OSError) as error:
            says = f"{error.filename} cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
            wrong.append(places.problem((section,), says))
    wrong += _route_problems(config, places)
    return (None, tuple(wrong)) if wrong else (config, ())


def salvaged(tree: Mapping[str, Any], file: str, locate: Locate, source: Source | None = None) -> Config:
    """What is left without the mistakes, so that whatever it points at can be checked in the same go."""
    good, config = deepcopy(dict(tree)), Config()
    for _ in range(ROUNDS):
        try:
            config = Config.model_validate(good)
            break
        except ValidationError as error:
            for detail in reversed(error.errors()):  # later items of a list first: numbers stay right
                path = path_of(detail)
                cut(good, path[:-1] if detail["type"] == "missing" else path)
    config.come_from(Places(file, locate, source))
    return config


def _route_problems(config: Config, places: Places) -> Iterator[Problem]:
    """A route to a receiver that does not exist tells nobody, silently."""
    for number, route in enumerate(config.routes):
        for index, name in enumerate(route.receivers):
            if name not in config.receivers:
                known = ", ".join(sorted(config.receivers)) or "there is none; add it under `receivers:`"
                what = f"routes.{number}.receivers: no receiver {name!r}"
                yield places.problem(("routes", number, "receivers", index), what, known)


def _problem(places: Places, detail: Any) -> Problem:
    path = path_of(detail)
    where = ".".join(str(part) for part in path)
    if detail["type"] == "extra_forbidden":
        return places.problem(path, f"unknown key `{where}`", _near(path) or "remove it", key=True)
    what = in_words(detail)
    if detail["type"] == "missing":
        return places.problem(path[:-1], f"`{where}` is missing")
    return places.problem(path, f"{where}: {what}" if where else what)


def _near(path: tuple[str | int, ...]) -> str:
    import difflib

    key, parts = str(path[-1]), Config.model_fields
    if where := [f"`{name}`" for name in parts if name != path[0] and key in _keys(parts[name].annotation)]:
        return f"`{key}` is a key of {', '.join(where)}" + (OF_ROUTES if key == "hours" else "")
    close = difflib.get_close_matches(key, sorted(_keys(Config)), n=1)
    return f"did you mean `{close[0]}`?" if close else ""


def _keys(part: Any) -> set[str]:
    """Every key that may stand anywhere in a section."""
    if isinstance(part, type) and issubclass(part, BaseModel):
        own = {field.alias or name for name, field in part.model_fields.items()}
        return own.union(*(_keys(field.annotation) for field in part.model_fields.values()))
    return set().union(*(_keys(inner) for inner in get_args(part)))
