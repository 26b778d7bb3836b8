"""What can rules not see in this history: for want of metrics, or because scrapes are too far apart?"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from responder.evaluate import EXPECTED_SHARE
from responder.model import Content, Noun, Rule, Target
from responder.pace import sights
from responder.rules import WRITTEN_FOR_S
from responder.words import say

METRIC = re.compile(r"(?<![\w:\"])(?:vllm:\w+|(?:http|process)_\w+|DCGM_\w+|up)(?![\w:(=])")
LOOKS = 40
"""Moments, evenly over the history, at which a signal is looked for."""
Rows = Sequence[tuple[Mapping[str, str], Sequence[tuple[float, float | None]]]]
Ask = Callable[[str, str, float, float, float], Awaitable[Rows | None]]
"""(signal, PromQL, start, end, step) -> rows; None: nobody answered."""


class Blind(Noun):
    """What stays dark. Told before anything is said of incidents: none found is no proof where nothing could be."""

    shortest_s: dict[str, float] = {}
    """Alert -> seconds a fault has to last to be seen by it; only of scrapes slower than rules are written for."""
    missing: dict[str, tuple[str, ...]] = {}
    """Alert -> signals it needs of which no server of this history has a value."""
    missing_of: dict[str, dict[str, tuple[str, ...]]] = {}
    """Target -> the same, where others have them."""

    def words(self, interval_s: float) -> list[str]:
        """Lines for people, in the language spoken."""
        lines = []
        if self.shortest_s:
            first, *_, last = sorted(self.shortest_s.items(), key=lambda one: one[1])
            lines.append(say(
                "cli.past.shortest", interval=f"{interval_s:g}", written=f"{WRITTEN_FOR_S:g}", first=f"{first[1]:g}",
                quick=first[0], last=f"{last[1]:g}", slow=last[0], stop=f"{2 * interval_s:g}",
            ))  # fmt: skip
        if "VLLMTargetDown" in self.missing:
            lines.append(say("cli.past.no_up"))
        if self.missing:
            lines.append(say("cli.past.blind", rules=_rules(self.missing)))
        for target, missing in sorted(self.missing_of.items()):
            if missing:
                lines.append(say("cli.past.blind_of", target=target, rules=_rules(missing)))
        return lines


def _rules(missing: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{alert} ({', '.join(signals)})" for alert, signals in sorted(missing.items()))


async def blind(
    ask: Ask, content: Content, wanted: Mapping[str, str], targets: Sequence[Target], *, start: float, end: float,
    interval: float,
) -> Blind:  # fmt: skip
    """Ask for every signal that rules compare, at some moments of the history. wanted: signal -> PromQL, fitted."""
    rules = [rule for rule in content.rules if rule.severity.value != "info" and _of_scrapes(rule, wanted)]
    names = sorted({name for rule in rules for name in _of_scrapes(rule, wanted)})
    by = ", ".join(sorted({label for target in targets for label in target.match}))
    step = max(interval, (end - start) / LOOKS)

    async def who_has(exprs: Mapping[str, str]) -> dict[str, set[str]]:
        rows = await asyncio.gather(*(
            ask(name, f"count by ({by}) ({expr})", start, end, step) for name, expr in exprs.items()
        ))  # fmt: skip
        return {name: {target.name for target in targets if got is None or _has(got, target)}
                for name, got in zip(exprs, rows, strict=True)}  # fmt: skip

    there = await who_has({name: wanted[name] for name in names})
    # No series of what has not happened yet, as of refused requests, is no want of a metric.
    metrics = {
        name: sorted(set(METRIC.findall(wanted[name]))) for name, who in there.items() if len(who) < len(targets)
    }
    known = await who_has({metric: metric for of in metrics.values() for metric in of})
    for name, of in metrics.items():
        there[name] |= set.intersection(*(known[metric] for metric in of)) if of else set()
    nowhere = {name for name, who in there.items() if not who}
    return Blind(
        shortest_s={one.alert: one.needs_s for one in sights(content, interval)} if interval > WRITTEN_FOR_S else {},
        missing=_needing(rules, wanted, nowhere),
        missing_of={
            target.name: missing
            for target in targets
            if (missing := _needing(
                rules, wanted, {name for name, who in there.items() if target.name not in who} - nowhere
            ))
        },
    )  # fmt: skip


def _of_scrapes(rule: Rule, wanted: Mapping[str, str]) -> list[str]:
    """Signals of a rule that a history can hold; none of a rule that also needs what no history holds."""
    terms = [term.signal for term in rule.terms if term.signal != EXPECTED_SHARE]
    return terms if all(name in wanted for name in terms) else []


def _needing(rules: Iterable[Rule], wanted: Mapping[str, str], gone: set[str]) -> dict[str, tuple[str, ...]]:
    found = {
        rule.alert: tuple(dict.fromkeys(name for name in _of_scrapes(rule, wanted) if name in gone)) for rule in rules
    }
    return {alert: names for alert, names in found.items() if names}


def _has(rows: Rows, target: Target) -> bool:
    return any(all(labels.get(k) == v for k, v in target.match.items()) for labels, points in rows if points)
