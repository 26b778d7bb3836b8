"""Upkeep: of very many targets each has its turn."""

from __future__ import annotations

from responder.upkeep import Turns


def test_everybody_has_a_turn_before_anybody_has_two() -> None:
    """Going on where the last round ended, and from the start again."""
    turns = Turns()
    names = ["a", "b", "c", "d", "e"]
    assert turns.next(names, 2) == ["a", "b"]
    assert turns.next(names, 2) == ["c", "d"]
    assert turns.next(names, 2) == ["e", "a"]


def test_a_list_that_changes_loses_nobody() -> None:
    """Who has gone is left out; who has come has a turn like all others."""
    turns = Turns()
    assert turns.next(["a", "b", "c"], 2) == ["a", "b"]
    assert turns.next(["a", "bb", "d"], 2) == ["bb", "d"]
    assert turns.next([], 2) == []
    assert turns.next(["a"], 5) == ["a"]
