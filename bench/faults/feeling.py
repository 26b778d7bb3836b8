"""Did the clients feel it? A fault that moved nothing that users see is no test of anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.faults.scenario import Feels
from tests.live.harness.load import Call, felt

SHARES = ("unanswered", "errors", "aborted", "answers_changed")
"""Measures that are shares of the calls of the fault itself; the others are ratios to the usual time."""


@dataclass(frozen=True)
class Measured:
    """One measure with what was asked of it."""

    wanted: Feels
    usual: float | None
    value: float | None
    """Of the fault: the share, or the measure itself."""
    holds: bool


def judge(
    wanted: Sequence[Feels], usual: Sequence[Call], usual_s: float, during: Sequence[Call], began: float, ended: float,
    answers_changed: bool | None,
) -> list[Measured]:  # fmt: skip
    """Every wanted measure, from the calls that began before the fault and inside it."""
    before = felt(usual, usual_s)
    inside = felt(during, ended - began)
    # An answer that came only after the fault is as good as none while it held.
    late = sum(1 for call in during if call.ttft is None or call.at + call.ttft > ended)
    shares = {
        "unanswered": late / len(during) if during else None,
        "errors": inside.errors / len(during) if during else None,
        "aborted": inside.aborted / len(during) if during else None,
        "answers_changed": None if answers_changed is None else float(answers_changed),
    }
    return [
        _one(
            want,
            getattr(before, want.measure, None),
            shares.get(want.measure, getattr(inside, want.measure, None)),
            nobody_came=not during,
        )  # fmt: skip
        for want in wanted
    ]


def _one(wanted: Feels, usual: float | None, value: float | None, *, nobody_came: bool) -> Measured:
    found = value
    if wanted.measure not in SHARES:
        found = value / usual if value is not None and usual else None
        if value is None and wanted.measure == "ttft_p99":
            found = float("inf")  # nobody got a first token at all
    holds = found is not None and (wanted.at_least is None or found >= wanted.at_least)
    holds = holds and (wanted.at_most is None or (found is not None and found <= wanted.at_most))
    if wanted.at_most_s is not None:
        holds = nobody_came or (value is not None and value <= wanted.at_most_s)
    return Measured(wanted, None if wanted.measure in SHARES else usual, value, holds)


def words(measured: Sequence[Measured]) -> str:
    """One phrase per measure, for people."""
    out = []
    for item in measured:
        usual = "" if item.usual is None else f" (usual {item.usual:.3g})"
        value = "none" if item.value is None else f"{item.value:.3g}"
        wrong = " NOT FELT" if item.wanted.at_most_s is None else " OVER THE LIMIT"
        out.append(f"{item.wanted.measure} {value}{usual}{'' if item.holds else wrong}")
    return ", ".join(out)
