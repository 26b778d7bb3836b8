"""What is said when something was not there: a capture step, or a metric family of the server?

Each is left out in turn. Without a family the signals that cannot be computed any more have no series, alerts that read
them do not fire (an incident that nothing else opens is not counted), and the windows of metrics are read once more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.scoring.cases import Case, Change, again, is_right, reread, weighed
from responder.backtest.look import FROM_HISTORY
from responder.capture.metrics_window import COMPUTED_EXPR, PROGRESS_EXPR, SCRAPED_AT_EXPR
from responder.model import Content, Evidence, Hypothesis, Incident, Status
from responder.signals import FAMILIES

WINDOWS = frozenset({"metrics_window", "expected"})
"""Steps that keep a window of signals."""
EVERY = 4
"""Of the families each case leaves out every fourth, beginning with another one: re-reading windows takes its time."""
_METRIC = re.compile(r"\b(?:signal:\w+|vllm:\w+|DCGM_\w+|http_\w+|process_\w+|scrape_duration_seconds|up)\b")
_PART = re.compile(r"_(?:bucket|sum|count)$")
_OVER = frozenset(alias.metric for family in FAMILIES.values() for alias in family.names if alias.until)
"""Names that newer servers do not have: where the newer one is left out they do not stand in for it."""


@dataclass(frozen=True)
class Said:
    """The first cause of one case with one thing left out."""

    case: str
    without: str
    cause: str
    confirmed: bool
    right: bool

    @classmethod
    def of(cls, case: Case, without: str, ranked: Sequence[Hypothesis]) -> Said:
        """What the first of these hypotheses amounts to."""
        first = ranked[0]
        confirmed = first.status is Status.CONFIRMED
        return cls(case.name, without, first.cause, confirmed, is_right(first.cause, case.causes))


def counted(rows: Sequence[Said]) -> str:
    """`689 of 930 confirmed, 0 of them wrong`."""
    sure = [row for row in rows if row.confirmed]
    return f"{len(sure)} of {len(rows)} confirmed, {sum(not row.right for row in sure)} of them wrong"


def steps_left_out(cases: Sequence[Case], content: Content) -> Iterator[Said]:
    """Every step that brought something, in turn."""
    for case in cases:
        evidence = weighed(case)
        for step in sorted({item.step for item in evidence}):
            rest = [item for item in evidence if item.step != step]
            yield Said.of(case, step, again(case, content, rest))


def no_prometheus(cases: Sequence[Case], content: Content) -> Iterator[Said]:
    """Captures alone."""
    for case in cases:
        rest = [item for item in weighed(case) if item.step not in FROM_HISTORY]
        yield Said.of(case, "Prometheus", again(case, content, rest))


def families_left_out(cases: Sequence[Case], content: Content, every: int = EVERY) -> Iterator[Said]:
    """Every family that some signal needs, in turn, of each case every `every`th of them."""
    lost = lost_signals(content)
    terms = {rule.alert: {term.signal for term in rule.terms} for rule in content.rules}
    for number, case in enumerate(cases):
        read: dict[frozenset[str], Sequence[Evidence]] = {}
        for name in sorted(lost)[number % every :: every]:
            incident = _opened(case.report.incident, terms, lost[name])
            if incident is None:
                continue
            if lost[name] not in read:
                read[lost[name]] = reread(case, without_signals(lost[name]), WINDOWS)
            yield Said.of(case, name, again(case, content, read[lost[name]], incident))


def _opened(incident: Incident, terms: Mapping[str, Collection[str]], lost: frozenset[str]) -> Incident | None:
    """The incident with those symptoms that are still seen; None where none is."""
    left = tuple(s for s in incident.symptoms if not lost.intersection(terms.get(s.alert, ())))
    if not left:
        return None
    classes = [symptom.incident_class for symptom in left]
    named = incident.incident_class if incident.incident_class in classes else classes[0]
    return incident.model_copy(update={"symptoms": left, "incident_class": named})


def without_signals(lost: Collection[str]) -> Change:
    """Windows in which nobody recorded these."""

    def change(_: str, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        changed = dict(files)
        for name, data in files.items():
            window = json.loads(data) if name.endswith(".json") else None
            if isinstance(window, dict) and "signals" in window:
                for key in ("signals", "engines"):
                    window[key] = {signal: row for signal, row in window[key].items() if signal not in lost}
                changed[name] = json.dumps(window).encode()
        return changed

    return change


# ------------------------------------------------------------------------------------------- what needs which metric


def lost_signals(content: Content) -> dict[str, frozenset[str]]:
    """Family -> the signals that nothing computes without it. A family without such signals is not named."""
    exprs = {
        "prompt_computed_total": COMPUTED_EXPR,
        "scraped_at": SCRAPED_AT_EXPR,
        "progress_total": PROGRESS_EXPR,
        **{signal.name: signal.expr for signal in content.signals},
    }
    known = {alias.metric: name for name, family in FAMILIES.items() for alias in family.names}
    used = {_base(metric) for expr in exprs.values() for metric in _METRIC.findall(expr)}
    families: dict[str, set[str]] = {}
    for metric in used - _OVER:
        if not metric.startswith("signal:"):
            families.setdefault(known.get(metric, metric), set()).add(metric)
    never = {name for name, expr in exprs.items() if not _computable(expr, exprs, _OVER)}
    lost = {
        family: frozenset(name for name, expr in exprs.items() if not _computable(expr, exprs, _OVER | metrics)) - never
        for family, metrics in families.items()
    }
    return {family: signals for family, signals in lost.items() if signals}


def _computable(expr: str, exprs: Mapping[str, str], gone: Collection[str]) -> bool:
    """Of what `or` joins one part is enough; of all else every metric is needed."""
    ways = _alternatives(re.sub(r"#.*", "", expr))
    if len(ways) > 1:
        return any(_computable(way, exprs, gone) for way in ways)
    outside, inner = _unwrapped(ways[0])
    named = _METRIC.findall(re.sub(r'\{[^}]*\}|\[[^\]]*\]|"[^"]*"', "", outside))
    return all(_there(metric, exprs, gone) for metric in named) and all(_computable(one, exprs, gone) for one in inner)


def _there(metric: str, exprs: Mapping[str, str], gone: Collection[str]) -> bool:
    if metric.startswith("signal:"):
        return _computable(exprs[metric.removeprefix("signal:")], exprs, gone)
    return _base(metric) not in gone


def _base(metric: str) -> str:
    return _PART.sub("", metric)


def _alternatives(expr: str) -> list[str]:
    """Split at every `or` outside of brackets."""
    depth, parts = 0, [""]
    for piece in re.split(r"([(){}\[\]]|\sor\s)", expr):
        if piece.strip() == "or" and depth == 0:
            parts.append("")
            continue
        depth += len(re.findall(r"[({\[]", piece)) - len(re.findall(r"[)}\]]", piece))
        parts[-1] += piece
    return parts


def _unwrapped(expr: str) -> tuple[str, list[str]]:
    """What stands outside of round brackets, and what stands in each outermost pair."""
    depth, outside, inner = 0, "", list[str]()
    for letter in expr:
        if letter == ")":
            depth -= 1
        if depth == 0:
            outside += letter
        else:
            inner[-1] += letter
        if letter == "(":
            depth += 1
            if depth == 1:
                inner.append("")
    return outside, inner
