"""Does a report say anything that its own evidence denies, or that nobody can act on?"""

from __future__ import annotations

from responder.report import to_markdown
from tests.replayed import replayed


def first_screen(name: str) -> str:
    """The five answers of a recorded incident."""
    return to_markdown(replayed(name)).partition("\n## Evidence")[0]


def test_a_pause_that_was_there_before_is_not_told_as_the_responders() -> None:
    """The worker hung before the canary was sent; its 8 s without a token are no pause of ours, also in old records."""
    report = replayed("h100_worker_hang_busy")
    recorded = next(item for item in report.evidence if item.step == "canary")
    assert recorded.pause_seconds > 5
    assert "paused the server" not in to_markdown(report)


def test_a_canary_without_an_answer_is_not_told_as_ok() -> None:
    """That the capture ran is one thing, that no token came back the other; both stand in timeline and captures."""
    text = to_markdown(replayed("h100_worker_hang_busy"))
    assert "canary (rung 1, look): done, 8 s, 255 B; no token came back within 8 s" in text
    assert "| `canary` | 1 | done | 8 s, 255 B | no token came back within 8 s |" in text
    assert "| ok |" not in text


def test_the_load_of_a_silent_server_is_what_it_said_last() -> None:
    """Nobody knows how much a frozen front end held meanwhile; `at most` is said of what was watched."""
    assert "Requests before it stopped answering: 0 running" in first_screen("cpu_frontend_stopped")
    assert "At most at a time: 16 running" in first_screen("cpu_prefix_collapse")
