"""What a round asks Prometheus: what is cheap of all servers, what is dear where it matters, and each in turn."""

from __future__ import annotations

from typing import Any, cast

import pytest

from responder.answers import Asking
from responder.metrics import Labels, PrometheusSilent
from responder.model import Content, Signal, Target
from responder.telemetry import Telemetry
from tests.test_evaluate import rule

TARGETS = tuple(Target(name=n, url=f"http://{n}", match={"instance": n}) for n in "abc")
DEAR = "rate(vllm:x[1h])"
OTHER = "rate(vllm:y[1h])"


class Store:
    """A Prometheus that has the cheap signal `w` of each server, and notes what it is asked."""

    def __init__(self) -> None:
        self.waiting = dict.fromkeys("abc", 0.0)
        self.asked: list[str] = []
        self.silent = False

    async def instant(self, expr: str) -> list[tuple[Labels, float, float | None]]:
        self.asked.append(expr)
        if self.silent:
            raise PrometheusSilent("down")
        values = self.waiting if expr == "w" else dict.fromkeys("abc", 1.0) if expr == "up" else {}
        return [({"instance": name}, 100.0, value) for name, value in values.items()]


class Kit:
    """Asks of three servers by two rules with a dear term each."""

    def __init__(self) -> None:
        self.store, self.telemetry = Store(), Telemetry()
        self.asking = Asking(cast("Any", self.store), self.telemetry, 5.0)
        signals = (("up", "up"), ("waiting", "w"), ("dear", DEAR), ("other", OTHER))
        self.content = Content(
            rules=(
                rule("signal:waiting > 5 and signal:dear > 2"),
                rule("signal:waiting > 9 and signal:other > 2", alert="Y"),
            ),
            signals=tuple(Signal(name=name, expr=expr) for name, expr in signals),
        )

    async def round(self, *held: tuple[str, str]) -> set[str]:
        """What was asked."""
        self.store.asked.clear()
        await self.asking.ask(self.content, TARGETS, held)
        return set(self.store.asked)

    def absent(self) -> float | None:
        """Of `dear`, by our own metrics."""
        return self.telemetry.registry.get_sample_value("responder_signal_absent", {"signal": "dear", "target": "a"})


@pytest.fixture
def kit() -> Kit:
    return Kit()


async def test_a_dear_signal_is_asked_about_whom_it_can_matter_to(kit: Kit) -> None:
    """Two of three servers wait; the dear signal of the other rule is asked in turn, about everybody."""
    kit.store.waiting |= {"a": 6.0, "c": 7.0}
    await kit.round()
    assert await kit.round() == {"up", "w", 'rate(vllm:x{instance=~"a|c"}[1h])', OTHER}


async def test_in_turn_each_is_asked_about_everybody(kit: Kit) -> None:
    """Otherwise nobody would notice that a metric of a rule that is never true has another name now."""
    assert [await kit.round() - {"up", "w"} for _ in range(3)] == [{DEAR}, {OTHER}, {DEAR}]


async def test_what_was_not_asked_about_everybody_is_not_called_absent(kit: Kit) -> None:
    """Our own metrics keep what was found when it was the signal's turn."""
    targets = {t.name: t for t in TARGETS}
    told = []
    for _ in range(2):
        answers = await kit.asking.ask(kit.content, TARGETS)
        await kit.asking.count(kit.content, answers, targets)
        told.append(kit.absent())
    assert told == [1.0, 1.0]
    kit = Kit()
    kit.asking._turn = 0
    await kit.asking.count(kit.content, await kit.asking.ask(kit.content, TARGETS), targets)
    assert kit.absent() is None


async def test_a_rule_that_holds_is_asked_in_full(kit: Kit) -> None:
    """Of the server of which it holds, though its cheap term holds no more."""
    await kit.round()
    assert 'rate(vllm:x{instance="b"}[1h])' in await kit.round(("X", "b"))


async def test_a_silent_prometheus_is_told_as_silent(kit: Kit) -> None:
    """What was not asked for does not make it look as if some had been answered."""
    kit.store.silent = True
    await kit.round()
    assert kit.telemetry.registry.get_sample_value("responder_prometheus_up") == 0.0
    assert kit.telemetry.registry.get_sample_value("responder_evaluations_total", {"result": "silent"}) == 1.0
