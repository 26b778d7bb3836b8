"""The reference page names everything there is, and is the one the code makes."""

from __future__ import annotations

from pathlib import Path

from responder.authoring.reference import page
from responder.capture import STEPS
from responder.config import Config
from responder.content import load

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_page_in_the_repository_is_current() -> None:
    """`make reference` makes it anew."""
    assert (ROOT / "docs" / "reference.md").read_text() == page(STEPS, load(Config(), STEPS))


def test_every_step_and_alert_is_on_it() -> None:
    """Nothing is hidden from an author."""
    content = load(Config(), STEPS)
    text = page(STEPS, content)
    for name in (*STEPS, *(rule.alert for rule in content.rules)):
        assert f"`{name}`" in text
