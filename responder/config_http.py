"""Who may reach our own HTTP server, and as whom?"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic import model_validator as validates

from responder.config_values import Part, secret

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def network(value: str) -> str:
    """An address or a network."""
    try:
        ipaddress.ip_network(value)
    except ValueError:
        raise ValueError(f"{value!r} is no address or network; write for example 10.0.0.7 or 10.0.0.0/24") from None
    return value


class ProxyPart(Part):
    """A reverse proxy in front that has signed people in: it says who they are, and only it is believed."""

    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,60}$")] = "X-Forwarded-User"
    peers: Annotated[tuple[Annotated[str, AfterValidator(network)], ...], Field(min_length=1)]
    """Addresses or networks of the proxy; the header of anybody else is ignored."""
    operators: tuple[str, ...] = ()
    """Who may also act: names as the proxy gives them, or `*` for everybody; the others may look."""


class HttpPart(Part):
    """Our own HTTP server."""

    listen: str = "127.0.0.1:9119"
    token: SecretStr | None = None
    token_file: Path | None = None
    viewer_token: SecretStr | None = None
    """Whoever has this one may look, but change nothing."""
    viewer_token_file: Path | None = None
    proxy: ProxyPart | None = None

    @validates(mode="after")
    def _check(self) -> HttpPart:
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"listen: {self.listen!r} is not host:port; write for example 127.0.0.1:9119")
        if host.strip("[]") not in LOOPBACK and not (self.token or self.token_file or self.proxy):
            raise ValueError("listen: anything but loopback needs `token`, `token_file` or `proxy`")
        if (self.viewer_token or self.viewer_token_file) and not (self.token or self.token_file or self.proxy):
            raise ValueError("viewer_token: without `token` everybody may act anyway; give `token` too")
        return self

    def tokens(self) -> dict[str, str | None]:
        """`token` and `viewer_token`, read. ValueError for an empty one or twice the same; OSError for a file."""
        found = {
            "token": secret(self.token, self.token_file),
            "viewer_token": secret(self.viewer_token, self.viewer_token_file),
        }
        plain = {name: kept.get_secret_value() if kept is not None else None for name, kept in found.items()}
        for name, value in plain.items():
            if value is not None and not value.strip():
                raise ValueError(f"http: {name} is empty: write one, for example with `openssl rand -hex 24`")
        if plain["token"] is not None and plain["token"] == plain["viewer_token"]:
            raise ValueError("http: token and viewer_token are the same: viewers could act")
        return plain

    @property
    def address(self) -> tuple[str, int]:
        """(host, port)."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)
