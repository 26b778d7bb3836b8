"""In which language does a command speak? That of its configuration, else that of the daemon whose data it reads."""

from __future__ import annotations

from pathlib import Path

import structlog

from responder.content import tongue
from responder.folder import write_atomic
from responder.words import CODES, ENGLISH, Language

log = structlog.get_logger()
FILE = "language"
MOST_BYTES = 20


def remember(data_dir: Path, code: str) -> None:
    """Leave word of the daemon's language for commands that are given its data directory alone."""
    try:
        if _said(data_dir) != code:
            write_atomic(data_dir / FILE, code.encode())
    except OSError as error:  # a full disk: then commands speak English, or as before
        log.warning("language.not_kept", reason=error.strerror)


def spoken_at(data_dir: Path) -> Language:
    """The language of the daemon that keeps its data there; English where none has said."""
    try:
        code = _said(data_dir)
    except OSError:
        return ENGLISH
    return tongue(code) if code in CODES else ENGLISH


def _said(data_dir: Path) -> str:
    path = data_dir / FILE
    return path.read_bytes()[:MOST_BYTES].decode("utf-8", "replace").strip() if path.is_file() else ""
