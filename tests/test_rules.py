"""Reading PromQL: which expressions are conjunctions of comparisons, and what happens to their ranges."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.model import Comparison
from responder.rules import expand, limited, parse_expr, widen


@pytest.mark.parametrize(
    ("expr", "terms"),
    [
        ("signal:ttft_p99 > 2", [("ttft_p99", ">", 2)]),
        ("signal:a > 2 and signal:b_samples >= 20", [("a", ">", 2), ("b_samples", ">=", 20)]),
        ("signal:a>2and on(instance)signal:b<=-1.5e-3", None),
        ("signal:a>2 and on(instance)signal:b<=-1.5e-3", [("a", ">", 2), ("b", "<=", -0.0015)]),
        ("signal:a > 2\nand on (instance, job)\n  responder_x == 0\n", [("a", ">", 2), ("responder_x", "==", 0)]),
        ("(signal:a > .5) and ignoring (engine) ((signal:b != 1))", [("a", ">", 0.5), ("b", "!=", 1)]),
        ("signal:a > 2 # more than two\n and signal:b < 3", [("a", ">", 2), ("b", "<", 3)]),
        ("signal:a > 2 or signal:b > 3", None),
        ("signal:a > 2 unless signal:b > 3", None),
        ("signal:a > bool 2", None),
        ("signal:a > signal:b", None),
        ("signal:a{engine=\"0\"} > 2", None),
        ("signal:a offset 5m > 2", None),
        ("2 < signal:a", None),
        ("rate(signal:a[5m]) > 2", None),
        ("vllm:num_requests_waiting > 5", None),
        ("signal:a > 2 and on (instance) group_left signal:b > 1", None),
        ("(signal:a > 2 and signal:b > 3)", None),
        ("(signal:a > 2", None),
        ("signal:a > 2)", None),
        ("signal:a > 2 and", None),
        ("signal:a > 2 + 1", None),
        ("signal:a > 2h", None),
        ("signal:A > 2", None),
        ("xsignal:a > 2", None),
        ("", None),
    ],
)  # fmt: skip
def test_parse(expr: str, terms: list[tuple[str, str, float]] | None) -> None:
    """Anything that is not surely a conjunction of comparisons is left to Prometheus as a whole."""
    wanted = tuple(Comparison(signal=s, op=o, number=n) for s, o, n in terms or [])  # type: ignore[arg-type]
    assert parse_expr(expr) == wanted


NAMES = st.from_regex(r"\A(signal:[a-z][a-z0-9_]{0,12}|responder_[a-z0-9_]{1,12})\Z")
TERMS = st.tuples(NAMES, st.sampled_from([">", ">=", "<", "<=", "==", "!="]), st.floats(-1e9, 1e9, width=32))
JOINTS = st.sampled_from([" and ", "\nand ", " and on (instance) ", " and ignoring (engine, job) "])


@given(st.lists(TERMS, min_size=1, max_size=5), st.lists(JOINTS, min_size=4, max_size=4))
def test_every_conjunction_written_is_read(terms: list[tuple[str, str, float]], joints: list[str]) -> None:
    """Whatever the names, operators, numbers, and matching clauses."""
    text = ""
    for (name, op, number), joint in zip(terms, ["", *joints], strict=False):
        text += f"{joint}{name} {op} {number!r}"
    got = parse_expr(text)
    assert [(t.signal, t.op, t.number) for t in got] == [(n.removeprefix("signal:"), o, v) for n, o, v in terms]


@given(st.text(alphabet="signal:ab_ >=<and()[]0123.#\"'on\n", max_size=60))
def test_reading_noise_raises_nothing(text: str) -> None:
    """What is no expression has no terms; Prometheus will say what is wrong with it."""
    assert isinstance(parse_expr(text), tuple)
    assert isinstance(widen(text, 15.0), str)


@pytest.mark.parametrize(
    ("expr", "scrape", "fitted"),
    [
        ("rate(x[20s])", 1, "rate(x[20s])"),
        ("rate(x[20s])", 5, "rate(x[20s])"),
        ("rate(x[20s])", 15, "rate(x[60s])"),
        ("rate(x[10s])", 5, "rate(x[10s])"),
        ("rate(x[10s])", 15, "rate(x[30s])"),
        ("rate(x[1m])", 10, "rate(x[1m])"),
        ("rate(x[1m])", 30, "rate(x[120s])"),
        ("rate(x[1h] offset 1m)", 60, "rate(x[1h] offset 1m)"),
        ("rate(x[10s])", 7.5, "rate(x[15s])"),
        ("rate(x[10s])", 5.25, "rate(x[10500ms])"),
        ("max_over_time(rate(x[10s])[30s:5s])", 15, "max_over_time(rate(x[30s])[60s:5s])"),
        ("rate(x{le=~\"[10s]\"}[ 10s ])", 15, "rate(x{le=~\"[10s]\"}[30s])"),
        ("rate(x[1m30s])", 60, "rate(x[240s])"),
        ("rate(x['[10s]'])", 15, "rate(x['[10s]'])"),
    ],
)  # fmt: skip
def test_widen(expr: str, scrape: float, fitted: str) -> None:
    """Ranges are written for 5 s and keep their number of scrapes, up to four; text in quotes is text."""
    assert widen(expr, scrape) == fitted


@given(st.integers(1, 7200), st.floats(0.5, 120))
def test_widening_never_narrows(seconds: int, scrape: float) -> None:
    """And a range that was four scrapes long at 5 s is at least four scrapes long at any interval."""
    got = re.fullmatch(r"rate\(x\[(\d+)(s|ms)\]\)", widen(f"rate(x[{seconds}s])", scrape))
    assert got is not None
    length = int(got[1]) * (1 if got[2] == "s" else 0.001)
    assert length >= seconds
    if seconds >= 20:
        assert length >= min(seconds, 4 * scrape) - 0.001
        assert length >= 4 * scrape - 0.001 or length == seconds


def test_expand() -> None:
    """Nested signals become their own expressions, text in quotes stays, unknown names stay."""
    signals = {"a": "rate(x[10s])  # why\n", "b": "signal:a + signal:a", "c": "signal:c"}
    assert expand('signal:b / y{z="signal:a"}', signals) == '((rate(x[10s])) + (rate(x[10s]))) / y{z="signal:a"}'
    assert expand("signal:unknown + signal:ab", signals) == "signal:unknown + signal:ab"
    with pytest.raises(ValueError, match="defined by itself"):
        expand("signal:c", signals)


def test_a_limit_of_the_sites_own_replaces_the_number_and_all_that_asks_for_news() -> None:
    """For a backtest, which asks Prometheus where a rule may hold."""
    expr = "signal:a > 2.5\nand signal:a_grown >= 2 and signal:a_samples >= 20"
    assert limited(expr, parse_expr(expr)[0], 1.5) == "signal:a > 1.5 and signal:a_samples >= 20"
