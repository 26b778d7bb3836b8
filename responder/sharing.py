"""Is this responder alone, or one of several that share a database? As configured, and paid for only then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from responder.config import Config
from responder.model import Target
from responder.store_db import StoreRefused

if TYPE_CHECKING:
    from responder.fleet import Fleet


def fleet_of(config: Config, targets: Callable[[], Mapping[str, Target]]) -> Fleet | None:
    """Our part among several replicas; None when the configuration names no database that could be shared."""
    url = config.database_url()
    if url is None:
        return None
    try:
        # Only who shares a database needs the library, and pays for its memory.
        from responder.fleet import Fleet
    except ImportError as error:
        raise StoreRefused(
            f"`database` needs more packages ({error}): pip install 'vllm-responder[postgres]'"
        ) from None
    return Fleet(url, config, targets)
