"""What may a configuration say? Every key with its default and what it does, for the reference page.

The words are the docstrings of the fields; TEXTS has those of fields whose name says most of it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple, get_args

from pydantic import BaseModel

from responder.config import Config

TEXTS = {
    "apiVersion": "`responder/v1`",
    "prometheus": "where metrics come from",
    "prometheus.url": "of an existing Prometheus; left out, a private one is started",
    "prometheus.timeout": "of one query",
    "prometheus.bearer_token": "if it asks for one; better in a file",
    "prometheus.bearer_token_file": "the same, in a file",
    "targets": "the vLLM servers that are watched",
    "targets.url": "its address, without `/v1` or `/metrics`; a reverse proxy's prefix stays",
    "targets.name": "in reports and commands; default: host:port",
    "targets.match": "labels of its series in Prometheus; default: `instance: host:port`",
    "targets.model": "its model, which its replicas share; by default what its metrics say",
    "targets.thresholds": "alert -> number in the place of its first threshold; `ALERT.for` -> seconds it must hold",
    "targets.expect": "what this server is to deliver; without it little traffic is no incident",
    "targets.expect.generation_tokens_per_second": "less than half of it, while the engine idles, is an incident",
    "targets.expect.requests_per_second": "the same of finished requests",
    "targets.api_key": "if the server asks for one; better in a file",
    "targets.api_key_file": "the same, in a file",
    "targets.log_file": "found by itself where vLLM runs on this host and logs into a file",
    "targets.recorder": "where the step recorder writes; default: as vLLM was told, or `/dev/shm/responder-recorder`",
    "targets.where.ssh": "over SSH",
    "targets.where.ssh.host": "name or address",
    "targets.where.ssh.user": "who logs in",
    "targets.where.ssh.key_file": "the private key",
    "targets.where.ssh.known_hosts": "the host's key must stand in this file",
    "targets.where.ssh.port": "of the SSH server",
    "targets.where.pod": "inside a Kubernetes pod",
    "targets.where.pod.namespace": "of the pod",
    "targets.where.pod.name": "of the pod",
    "targets.where.pod.container": "which of its containers; default: the API server's choice",
    "targets.where.pod.api": "address of the API server",
    "targets.where.pod.token_file": "the service account's token",
    "targets.where.pod.ca_file": "the certificate authority of the API server",
    "targets.labels": "your own, for routes and silences",
    "targets.capture": "the keys of `capture` below that are others for this server",
    "receivers": "name -> who is told, and how: [receivers.md](receivers.md)",
    "routes.hours": "when this route holds; left out, always",
    "routes.hours.days": "of the week",
    "routes.hours.from": "`HH:MM`",
    "routes.hours.to": "`HH:MM`; earlier than `from`: over midnight",
    "routes.hours.zone": "time zone of both",
    "routes.receivers": "names of `receivers`",
    "routes.continue": "whether the routes after it are asked as well",
    "playbooks": "directories or files with playbooks, causes and tests of yours; the same id replaces a shipped one",
    "disable_alerts": "names of alerts that are never raised",
    "overrides.alerts": "by name of the alert",
    "overrides.alerts.for": "how long it must hold",
    "overrides.alerts.severity": "`info`, `warning` or `critical`",
    "overrides.alerts.disabled": "never raised",
    "overrides.causes": "by id of the cause",
    "overrides.causes.prior": "how often it is the cause, before anything was looked at",
    "overrides.causes.disabled": "never considered",
    "overrides.playbooks": "by id of the playbook",
    "overrides.playbooks.disabled": "never used",
    "data_dir": "where incidents, messages and memory are kept; from the working directory",
    "artifacts": "where replicas and agents leave files for each other: [fleet.md](fleet.md)",
    "artifacts.folder": "a folder that all of them mount",
    "artifacts.s3": "a bucket of an S3-compatible store",
    "artifacts.s3.bucket": "its name; it must exist",
    "artifacts.s3.prefix": "what all names begin with",
    "artifacts.s3.endpoint": "address of the store; default: AWS",
    "artifacts.s3.region": "default: `us-east-1`",
    "artifacts.s3.access_key": "left out, both keys come from the environment or the machine's role",
    "artifacts.s3.secret_key": "better in a file",
    "artifacts.s3.secret_key_file": "the same, in a file",
    "agent": "how far `responder agent` goes on its node",
    "http": "the daemon's own page, metrics and intake of alerts",
    "http.listen": "anything but loopback needs a token",
    "http.token": "whoever has it may do everything; better in a file",
    "http.token_file": "the same, in a file",
    "http.viewer_token_file": "the same, in a file",
    "http.proxy": "a reverse proxy that has signed people in: [web.md](web.md)",
    "http.proxy.header": "in which it names them",
    "capture": "what captures may cost: [captures.md](captures.md)",
    "capture.pause_per_day": "measured pauses of one server and its host",
    "capture.heavy_per_hour": "captures of rung 2 and up, of one server and its host",
    "capture.last_replica": "whether rung 2 may touch a server without another healthy replica of its model",
    "capture.approve": "steps a person must approve whatever their rung",
    "capture.approval_expiry": "after that the question is over: the step is skipped, and the report says so",
    "capture.cpu_load": "load per core above which nothing is profiled",
    "requests": "request traces, of vLLM started with `--otlp-traces-endpoint`",
    "requests.keep": "requests at most",
    "requests.age": "how long they are kept",
    "requests.tempo": "address of a Grafana Tempo to ask",
    "requests.jaeger": "address of a Jaeger to ask",
    "requests.jaeger_service": "vLLM's name there",
    "canaries": "pinned prompts: [wrong-output.md](wrong-output.md)",
    "canaries.interval": "between two rounds of them",
    "silences": "maintenance windows; `responder silence add` makes them without a reload",
    "silences.match": "fields as in `routes`, all of which must fit",
    "silences.starts_at": "a time with its zone, as `2026-12-01T22:00:00Z`",
    "silences.ends_at": "the same",
    "silences.comment": "why",
    "retention": "how much is kept of incidents that are over",
    "retention.age": "of their folders",
    "retention.size": "of all folders together; open incidents are never removed",
    "heartbeat.url": "of a dead man's switch",
    "heartbeat.interval": "between two calls",
}


class Setting(NamedTuple):
    """One key of a configuration."""

    path: str
    default: object
    says: str


def settings() -> Iterator[Setting]:
    """Every key, parents before children, in the order of the configuration's own classes."""
    yield from _walk(Config, "", ())


def missing() -> list[str]:
    """Keys that nobody has described, and texts of keys there are not (any more)."""
    known = [setting.path for setting in settings()]
    return [s.path for s in settings() if not s.says] + [path for path in TEXTS if path not in known]


def _walk(model: type[BaseModel], base: str, above: tuple[type[BaseModel], ...]) -> Iterator[Setting]:
    written = _docstrings(model)
    for name, field in model.model_fields.items():
        path = f"{base}{field.alias or name}"
        inner = [part for part in _models(field.annotation) if part not in above]
        default = None if field.is_required() or inner else field.get_default(call_default_factory=True)
        yield Setting(path, "needed" if field.is_required() else default, written.get(name) or TEXTS.get(path, ""))
        if path != "receivers" and path != "targets.capture":  # described on a page of their own, and below
            for part in inner:
                yield from _walk(part, f"{path}.", (*above, model))


def _models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Field -> the string below it, of the class and its bases."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if not issubclass(one, BaseModel) or one is BaseModel:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, after in zip(body.body, body.body[1:], strict=False):
            if (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
                    and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)):  # fmt: skip
                found[field.target.id] = inspect.cleandoc(str(after.value.value)).replace("\n", " ")
    return found


def rows() -> Iterable[tuple[str, str, str]]:
    """(key, default, what it says) for a table."""
    for path, default, says in settings():
        empty = default is None or default in ("", (), {}, [])
        shown = "" if empty else "needed" if default == "needed" else f"`{_plain(path, default)}`"
        yield f"`{path}`", shown, says


def _plain(path: str, default: object) -> str:
    if path.startswith("routes.hours.") and isinstance(default, int):
        return f"{default // 60:02d}:{default % 60:02d}"
    if path == "retention.size" and isinstance(default, int):
        return f"{default >> 30}GiB"
    if path == "retention.age" and isinstance(default, float):
        return f"{default / 86400:g}d"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return f"[{', '.join(map(str, default))}]"
    return f"{default:g}" if isinstance(default, float) else str(default)
