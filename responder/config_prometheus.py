"""Where do metrics come from, and what does whoever has them want to see with a query?"""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from responder.config_values import Duration, HttpUrl, Part, secret


class PrometheusPart(Part):
    """Where metrics come from; without a url a private Prometheus is started."""

    url: HttpUrl | None = None
    timeout: Duration = 4.0
    bearer_token: SecretStr | None = None
    bearer_token_file: Path | None = None
    headers: dict[str, SecretStr] = {}
    """With every query: `X-Scope-OrgID: tenant` for Mimir and others that serve several."""
    scrape_interval: Duration | None = None
    """Of the private Prometheus (default 2s); of a given one it is asked, this overrides the answer."""

    def sent(self) -> dict[str, str]:
        """All headers of a query. OSError, ValueError: a file that cannot be read."""
        token = secret(self.bearer_token, self.bearer_token_file)
        bearer = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
        return bearer | {name: value.get_secret_value() for name, value in self.headers.items()}
