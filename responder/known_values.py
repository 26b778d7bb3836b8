"""Which values do we know that must never reach the disk? Every secret of the configuration and of our environment."""

from __future__ import annotations

import os
from collections.abc import Mapping

from responder.config import Config, secret
from responder.model import Target
from responder.notify import known_secrets


def known_values(config: Config, targets: Mapping[str, Target]) -> tuple[str, ...]:
    """Sorted, without those too short to be told from ordinary text."""
    values = [s.get_secret_value() for s in config.redact]
    values += known_secrets(config.receivers)
    values += config.shared_secrets()
    values += [s.get_secret_value() for s in config.prometheus.headers.values()]
    values += [t.api_key.get_secret_value() for t in targets.values() if t.api_key]
    for part in (secret(config.http.token, config.http.token_file),
                 secret(config.prometheus.bearer_token, config.prometheus.bearer_token_file)):  # fmt: skip
        values += [part.get_secret_value()] if part else []
    values += [v for k, v in os.environ.items() if k in ("HF_TOKEN", "VLLM_API_KEY", "OPENAI_API_KEY") and v]
    return tuple(sorted({v for v in values if len(v) >= 4}))
