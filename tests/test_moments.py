"""A look between two spells of a fault says nothing of it; one in a spell, or of which nobody knows, counts as ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from responder import sentry as sentries
from responder.absence import Absent
from responder.claims import looks_of
from responder.harm import Tick, Window, served_in
from responder.model import Cost, Evidence, Fact, Outcome, Plan, Served
from responder.moments import BETWEEN_SPELLS, Level, as_usual, between_spells, in_spell, levels


def evidence(step: str, facts: dict[str, Any], momentary: bool = False, **update: Any) -> Evidence:
    found = tuple(Fact(name=name, value=value, step=step, momentary=momentary) for name, value in facts.items())
    return Evidence(
        id=step, step=step, rung=0, outcome=Outcome.OK, started_at=1.0, seconds=2.0, facts=found
    ).model_copy(update=update)


def window(itl: tuple[float, float] = (0.01, 0.1), ttft: tuple[float, float] = (0.05, 1.0)) -> Evidence:
    rows = {f"metrics.{name}_mean.{kind}": value for name, pair in (("itl", itl), ("ttft", ttft))
            for kind, value in zip(("baseline", "now"), pair, strict=True)}  # fmt: skip
    return evidence("metrics_window", rows)


def test_only_what_has_grown_can_tell_a_quiet_moment() -> None:
    """Where nobody waits longer than before there is no quiet stretch to be told from the fault."""
    assert levels([window(ttft=(0.05, 0.09))]) == {"itl_s": Level(0.01, 0.1)}
    assert levels([evidence("look", {"look.x": 1})]) == {}
    assert not as_usual(Served(itl_s=0.01, ttft_s=0.05), {})


def test_a_small_growth_leaves_little_room_for_quiet() -> None:
    """Half as slow again is quiet where the fault is tenfold; where it is twofold, no more than the middle is."""
    assert Level(0.01, 0.1).quiet == pytest.approx(0.015)
    assert Level(0.01, 0.02).quiet == pytest.approx(0.01414, rel=1e-3)


def test_a_look_counts_unless_everything_that_grew_was_seen_to_be_as_usual() -> None:
    """First tokens that nobody saw come, or one wait that is long, leave a look in force."""
    grown = levels([window()])
    assert as_usual(Served(itl_s=0.011, ttft_s=0.06), grown)
    assert not as_usual(Served(itl_s=0.011, ttft_s=0.3), grown)
    assert not as_usual(Served(itl_s=0.011), grown)
    assert not as_usual(None, grown)


def test_what_was_seen_between_two_spells_is_not_known_and_said_so() -> None:
    """Facts of a moment go, facts that last stay, and the report names the reason."""
    calm = Served(itl_s=0.01, ttft_s=0.05)
    looked = evidence("look", {"look.x": 1}, True, served=calm)
    lasting = evidence("config", {"config.y": 2}, served=calm)
    items = [window(), looked, lasting]
    assert between_spells(items) == {"look"}
    assert "look.x" not in looks_of(items)[0]
    assert looks_of(items)[0]["config.y"].value == 2
    assert Absent(items, Plan())._why("look") == BETWEEN_SPELLS
    in_it = looked.model_copy(update={"served": Served(itl_s=0.09, ttft_s=0.9)})
    assert "look.x" in looks_of([window(), in_it, lasting])[0]


def test_a_second_look_in_the_spell_counts() -> None:
    """The first one is dropped, the second is what is known."""
    first = evidence("look", {"look.x": 1}, True, served=Served(itl_s=0.01, ttft_s=0.05))
    second = evidence("look", {"look.x": 2}, True, served=Served(itl_s=0.1, ttft_s=1.0), id="look-2", started_at=9.0)
    looks = looks_of([window(), first, second])
    assert "look.x" not in looks[0]
    assert looks[1]["look.x"].value == 2


def test_what_a_capture_cost_tells_of_older_records() -> None:
    """They hold what users got while it ran only where it touched the server."""
    cost = Cost(itl_s=(0.1, 0.011, 0.1), ttft_s=(1.0, 0.06, 1.0))
    assert between_spells([window(), evidence("look", {"look.x": 1}, True, cost=cost)]) == {"look"}
    assert between_spells([window(), evidence("look", {"look.x": 1}, True)]) == frozenset()


def tick(at: float, tokens: float, itl_s: float, running: float = 4.0) -> Tick:
    return Tick(at, running, tokens, tokens, (0.0, 0.0), (itl_s, tokens))


def test_what_users_got_is_counted_over_the_look_and_to_the_nearest_counts() -> None:
    """From the count before it to the one after it, however short it was."""
    ticks = [tick(0, 0, 0.0), tick(1, 100, 1.0), tick(2, 200, 2.0), tick(3, 210, 12.0)]
    assert served_in(ticks, Window(1.2, 1.3)) == Served(itl_s=0.01, tokens_per_s=100.0)
    assert served_in(ticks, Window(2.1, 2.9)).itl_s == 1.0
    assert served_in([], Window(2.1, 2.9)) == Served()


def test_a_spell_is_long_waits_or_no_tokens_for_those_who_wait() -> None:
    """No token and nobody inside is an idle server."""
    grown = levels([window()])
    assert in_spell(Served(itl_s=0.08, tokens_per_s=9.0), grown, 4.0)
    assert in_spell(Served(tokens_per_s=0.0), grown, 4.0)
    assert not in_spell(Served(tokens_per_s=0.0), grown, 0.0)
    assert not in_spell(Served(itl_s=0.011, ttft_s=0.05, tokens_per_s=90.0), grown, 4.0)


class Watch:
    """A sentry whose counts are written by the test."""

    def __init__(self, *ticks: Tick) -> None:
        self.ticks, self.gone = list(ticks), ""

    def clock(self) -> float:
        return self.ticks[-1].at


async def test_the_next_spell_is_waited_for_and_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends when the fault shows, when there is something else to do, when nobody is there, and at its limit."""
    monkeypatch.setattr(sentries, "SPELL_LOOK_S", 0.001)
    grown, other = levels([window()]), False

    async def begins(watch: Watch) -> bool:
        return await sentries.spell_begins(watch, grown, lambda: other)  # type: ignore[arg-type]

    quiet = Watch(tick(0, 0, 0.0), tick(1, 100, 1.0))
    waiting = asyncio.create_task(begins(quiet))
    await asyncio.sleep(0)
    assert not waiting.done()
    quiet.ticks.append(tick(2, 110, 3.0))
    assert await waiting
    dead = Watch(*quiet.ticks[:2])
    dead.gone = "the server went away (refused)"
    assert not await begins(dead)
    other = True
    assert not await begins(quiet)
    other = False
    monkeypatch.setattr(sentries, "SPELL_WITHIN_S", 0.01)
    assert not await begins(Watch(tick(0, 0, 0.0), tick(1, 100, 1.0)))
