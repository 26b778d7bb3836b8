"""How does an operator write a duration, a size, an address, a secret? Errors say what to write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)?$")
UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
UNIT_B = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
LONGEST_S, LARGEST_B = 3660 * 86400.0, 1 << 50
LETTERS = 60
"""No duration, size or address of sense is longer: what is, is shown shortened and not looked at any further."""


def seconds(value: object) -> object:
    """`30s`, `1h30m` or a plain number of seconds."""
    if not isinstance(value, str):
        return value
    parts = DURATION.findall(value) if len(value) <= LETTERS else []
    if not parts or "".join(n + u for n, u in parts) != value.replace(" ", ""):
        raise ValueError(f"{value[:LETTERS]!r} is not a duration; write for example 30s, 5m or 1h30m")
    return sum(float(n) * UNIT_S[u] for n, u in parts)


def size(value: object) -> object:
    """`5GiB` or a plain number of bytes."""
    if not isinstance(value, str):
        return value
    got = SIZE.match(value.strip()) if len(value) <= LETTERS else None
    if not got:
        raise ValueError(f"{value[:LETTERS]!r} is not a size; write for example 500MiB or 5GiB")
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


OF_THE_API = re.compile(r"/(v1(/.*)?|metrics|health|ping|load|version)$")
"""Paths that begin behind a server's own address; what stands before them may be a reverse proxy's."""


def server_url(value: str) -> str:
    """The address of a vLLM server: what /health, /metrics and /v1/completions come behind."""
    url = http_url(value)
    if found := OF_THE_API.search(urlsplit(url).path):
        base = url[: url.rindex(found[0])]
        raise ValueError(f"{value!r} ends with `{found[0]}`, which we put behind it ourselves; write {base}")
    return url


Duration = Annotated[float, BeforeValidator(seconds), Field(gt=0, le=LONGEST_S)]
Size = Annotated[int, BeforeValidator(size), Field(gt=0, le=LARGEST_B)]
HttpUrl = Annotated[str, AfterValidator(http_url)]
ServerUrl = Annotated[str, AfterValidator(server_url)]


class Part(BaseModel):
    """Base of every section: immutable, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def host_port(value: str) -> str:
    """host:port."""
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{value!r} is not host:port; write for example 0.0.0.0:4317")
    return value


HostPort = Annotated[str, AfterValidator(host_port)]


def secret(value: SecretStr | None, file: Path | None) -> SecretStr | None:
    """The secret, given as it is or as the file that holds it. ValueError for both; OSError as open() raises it."""
    if value is not None and file is not None:
        raise ValueError(f"give the secret itself or {file}, not both")
    if file is not None:
        return SecretStr(file.read_text().strip())
    return value
