"""What does a rule compare, and over which windows? Reading PromQL no deeper than that.

A rule whose expression is a conjunction of `signal op number` is evaluated here, term by term, under three-valued logic
and with thresholds per target; any other shape is left to Prometheus as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import cast

from responder.model import Comparison, Operator, Rule, Signal

SIGNAL = "signal:"
WRITTEN_FOR_S = 5.0
"""The scrape interval that ranges in the rule files are written for."""
SCRAPES = 4
"""A range longer than this many scrapes is long enough for any rate."""
NEWS = "_grown"
"""Signals that end so say how many times the server's own last hour it is."""

QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`[^`]*`"
"""A string in PromQL, as a regular expression."""
_COMMENT = re.compile(rf"({QUOTED})|#[^\n]*")
_RANGE = re.compile(rf"({QUOTED})|\[\s*((?:\d+(?:ms|[smhdwy]))+)\s*(?=[\]:])")
_PIECE = re.compile(r"(\d+)(ms|[smhdwy])")
_SIGNAL = re.compile(rf"({QUOTED})|(?<![\w:]){SIGNAL}([a-z][a-z0-9_]*)(?![\w:])")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_TERM = re.compile(
    rf"(?:{SIGNAL}(?P<signal>[a-z][a-z0-9_]*)|(?P<probe>responder_[a-z0-9_]+))"
    rf"\s*(?P<op>>=|<=|==|!=|>|<)\s*(?P<number>{_NUMBER})"
)
_NEWS = re.compile(rf"\s*\band\s+{SIGNAL}[a-z0-9_]+{NEWS}\s*(?:>=|<=|==|!=|>|<)\s*{_NUMBER}")
_AND = re.compile(r"\s*\band\b(?:\s*\b(?:on|ignoring)\s*\([\w\s,]*\))?\s*")


def parse_expr(expr: str) -> tuple[Comparison, ...]:
    """The terms of `signal:a > 2 and on (instance) responder_b >= 3`; nothing at all for any other shape."""
    text = _COMMENT.sub(lambda got: got[1] or "", expr).strip()
    terms = []
    at = 0
    while True:
        got = _term(text, at)
        if got is None:
            return ()
        term, at = got
        terms.append(term)
        if at == len(text):
            return tuple(terms)
        joint = _AND.match(text, at)
        if joint is None:
            return ()
        at = joint.end()


def _term(text: str, at: int) -> tuple[Comparison, int] | None:
    """One comparison at a position, in any number of parentheses, and where it ends."""
    opened = 0
    while (space := re.match(r"\s*\(\s*", text[at:])) is not None:
        opened, at = opened + 1, at + space.end()
    got = _TERM.match(text, at)
    if got is None:
        return None
    end = got.end()
    for _ in range(opened):
        closing = re.match(r"\s*\)", text[end:])
        if closing is None:
            return None
        end += closing.end()
    if end < len(text) and not re.match(r"\s", text[end]) and text[end] != ")":
        return None
    end += len(text[end:]) - len(text[end:].lstrip())
    name = got["signal"] or got["probe"]
    term = Comparison(signal=name, op=cast("Operator", got["op"]), number=float(got["number"]))
    return term, end


def limited(expr: str, first: Comparison, number: float) -> str:
    """The expression with a limit of the site's own: `number` in its first comparison, and no term that asks whether
    that is news. `first`: that comparison as written."""
    pattern = rf"({re.escape(first.signal)}\s*{re.escape(first.op)}\s*){_NUMBER}"
    return _NEWS.sub("", re.sub(pattern, rf"\g<1>{number:g}", expr, count=1))


def widen(expr: str, scrape_interval_s: float) -> str:
    """The expression with its ranges fitted to a scrape interval.

    Ranges are written for a scrape every 5 s and grow in proportion, up to four scrapes; a range that is that long
    already stays, so `[1h]` means an hour. A 10-s range is two scrapes and stays two scrapes.
    """

    def fitted(got: re.Match[str]) -> str:
        if got[1]:
            return got[1]
        written = _seconds(got[2])
        wanted = max(written, min(SCRAPES * scrape_interval_s, written * scrape_interval_s / WRITTEN_FOR_S))
        return f"[{got[2]}" if wanted == written else f"[{_duration(wanted)}"

    return _RANGE.sub(fitted, expr)


def ranges(expr: str) -> list[float]:
    """Seconds of every range in an expression."""
    return [_seconds(got[2]) for got in _RANGE.finditer(expr) if not got[1]]


def _seconds(written: str) -> float:
    return sum(int(count) * _UNIT_S[unit] for count, unit in _PIECE.findall(written))


def _duration(seconds: float) -> str:
    """In PromQL: whole seconds where possible, else milliseconds."""
    return f"{round(seconds)}s" if seconds == round(seconds) else f"{round(seconds * 1000)}ms"


def expand(expr: str, signals: Mapping[str, str]) -> str:
    """The expression with every `signal:name` replaced by that signal's own PromQL, so that it can be asked of a
    Prometheus that records nothing. Names not in `signals` stay. ValueError for a signal that needs itself."""
    return _expanded(expr, signals, ())


def queries(rules: Iterable[Rule], signals: Iterable[Signal], always: Iterable[str]) -> dict[str, str]:
    """What to ask Prometheus so that these rules can be evaluated: name of the signal (or the whole expression of a
    rule of another shape) -> PromQL that needs nothing recorded."""
    recorded = {signal.name: signal.expr for signal in signals}
    wanted = {name: recorded[name] for name in always if name in recorded}
    for rule in rules:
        wanted.update({t.signal: recorded[t.signal] for t in rule.terms if t.signal in recorded})
        if not rule.terms:
            wanted[rule.expr] = rule.expr
    return {name: expand(expr, recorded) for name, expr in wanted.items()}


def _expanded(expr: str, signals: Mapping[str, str], inside: tuple[str, ...]) -> str:
    def inlined(got: re.Match[str]) -> str:
        name = got[2]
        if got[1] or name not in signals:
            return got[0]
        if name in inside:
            raise ValueError(f"signal:{name} is defined by itself: {' -> '.join((*inside, name))}")
        return f"({_expanded(signals[name], signals, (*inside, name)).strip()})"

    return _SIGNAL.sub(inlined, _COMMENT.sub(lambda got: got[1] or "", expr))


def widened(signals: Iterable[Signal], scrape_interval_s: float) -> dict[str, str]:
    """Signal -> its whole expression, for a Prometheus that scrapes so often."""
    recorded = {signal.name: signal.expr for signal in signals}
    return {name: widen(expand(expr, recorded), scrape_interval_s) for name, expr in recorded.items()}
