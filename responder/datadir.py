"""Is this the data directory of a daemon? A command that writes into another one would change nothing, silently."""

from __future__ import annotations

from pathlib import Path

DEFAULT = Path("responder-data")
SILENCES = "silences"


def made_ours(root: Path) -> None:
    """Said by the daemon when it starts: what is put in here, somebody reads."""
    (root / SILENCES).mkdir(parents=True, exist_ok=True)


def why_not_read(root: Path) -> str:
    """Why nothing can be read of a daemon here, or ''."""
    known = any((root / name).exists() for name in ("responder.db", "incidents", "approvals", SILENCES))
    return "" if known else _words(root)


def why_not_written(root: Path) -> str:
    """Why nobody would read what is written here, or ''. A capture by hand makes a store, too: that is no daemon."""
    return "" if (root / SILENCES).is_dir() else _words(root)


def _words(root: Path) -> str:
    return f"no daemon has ever used {root.absolute()}: give the daemon's --data-dir"
