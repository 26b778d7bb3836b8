"""What do the shipped content and the recorded incidents say? Read and replayed once for all tests; nothing in either
can be changed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from responder.capture import STEPS
from responder.config import Config
from responder.content import load
from responder.model import Content, Report
from responder.replay import replay

FOLDER = Path(__file__).parent / "incidents"
RECORDED = tuple(sorted(path.name for path in FOLDER.iterdir() if path.is_dir()))


@cache
def content() -> Content:
    """Rules, playbooks and causes as shipped."""
    return load(Config(), STEPS)


@cache
def replayed(name: str) -> Report:
    """A recorded incident by today's content."""
    return replay(FOLDER / name, STEPS, content())
