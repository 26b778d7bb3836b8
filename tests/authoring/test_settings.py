"""The reference of the configuration: every key is there, with words and its default."""

from __future__ import annotations

from responder.authoring.settings import missing, rows, settings


def test_every_key_is_described_and_no_text_is_of_a_key_there_is_not() -> None:
    """A new key fails here until somebody has said what it does."""
    assert missing() == []
    assert len({setting.path for setting in settings()}) == len(list(settings()))


def test_defaults_are_shown_as_they_would_be_written() -> None:
    """Times of a day, days and GiB, not minutes, seconds and bytes."""
    shown = {key: default for key, default, _ in rows()}
    assert shown["`routes.hours.to`"] == "`24:00`"
    assert shown["`retention.age`"] == "`30d`"
    assert shown["`retention.size`"] == "`5GiB`"
    assert shown["`capture.last_replica`"] == "`false`"
    assert shown["`targets.url`"] == "needed"
