"""What does the flow get of the configuration? The same at a start and at each reload."""

from __future__ import annotations

from typing import Any

import aiohttp

from responder.content import tongues
from responder.known_values import known_values
from responder.loaded import Loaded
from responder.rules import widened
from responder.where import runners


def configured(loaded: Loaded, http: aiohttp.ClientSession, scrape_interval_s: float) -> dict[str, Any]:
    """The fields of a `Kit` that follow from what an operator writes."""
    config = loaded.config
    return {
        "content": loaded.content,
        "targets": loaded.targets,
        "runners": runners(config, http),
        "secrets": known_values(config, loaded.targets),
        "signals": widened(loaded.content.signals, scrape_interval_s),
        "max_rung": config.capture.max_rung,
        "deadline_s": config.capture.deadline,
        "shell_allowed": config.capture.shell,
        "languages": tongues(config),
        "routes": tuple(part.route() for part in config.routes),
    }
