"""Dear questions are asked about whom they can matter to, and leaving out the others changes no symptom."""

from __future__ import annotations

import gzip
import json
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.scoring.histories import prometheus
from responder.capture import STEPS
from responder.config import Config
from responder.content import load
from responder.evaluate import observe
from responder.holding import States, advance, as_ever
from responder.model import Rule, Sample, Target
from responder.rules import widened
from responder.sparing import LONGEST, Undecided, about, stage
from tests.test_evaluate import A, B, answers, rule, sample

HISTORY = Path(__file__).parent / "data" / "histories" / "h200_visitor_4s.om.gz"
DEAR = ("d", "d_samples", "d_grown")


def whom(one: Rule, *samples: Sample, held: tuple[tuple[str, str], ...] = (), **more: None) -> set[str]:
    """About whom `d` must be asked of two servers."""
    return set(Undecided([one], answers(*samples, **more), [A, B], held).of(DEAR)["d"])


def b(signal: str, value: float | None) -> Sample:
    """A sample of the second server."""
    return sample(signal, value, instance="b:8000")


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("rate(vllm:a[1m])", 0),
        ("vllm:a offset 1h", 0),
        ("rate(vllm:a[1h])", 1),
        ("max_over_time(vllm:a[9m])", 0),
        ("max_over_time(vllm:a[10m])", 1),
        ("+".join(["rate(vllm:a[1h])"] * 5), 2),
        ("max_over_time(rate(vllm:a[1m])[1h:1m])", 2),
        ("vllm:a{x='[1h]'}", 0),
    ],
)
def test_what_looks_back_for_long_is_dear(expr: str, expected: int) -> None:
    """And what does so many times, or once for each step of a subquery, is asked last."""
    assert stage(expr) == expected


def test_only_those_that_pass_what_is_cheap_are_asked_about() -> None:
    """A server within the cheap limit needs no comparison with its past."""
    one = rule("signal:a > 2 and signal:d > 3")
    assert whom(one, sample("a", 3), b("a", 1)) == {"a"}
    assert whom(one, sample("a", 1), b("a", 2)) == set()


def test_what_is_unknown_makes_no_rule_true() -> None:
    """No sample, NaN, a guard that is not met, nobody who answered: the rule is at most unknown."""
    one = rule("signal:a > 2 and signal:d > 3 and signal:a_samples >= 20")
    assert whom(one, sample("a", 3), sample("a_samples", 50), b("a", 3)) == {"a"}
    assert whom(one, sample("a", 3), sample("a_samples", 5)) == set()
    assert whom(one, sample("a", None), sample("a_samples", 50)) == set()
    assert whom(one, sample("a_samples", 50), a=None) == set()


def test_what_was_not_asked_yet_decides_nothing() -> None:
    """Nor does news, which a limit that is passed as ever does without, nor what the probes or the expectation tell."""
    for open_term in ("signal:later > 1", "signal:a_grown > 9", "responder_x > 1", "signal:generation_share < 0.5"):
        assert whom(rule(f"{open_term} and signal:d > 3"), sample("a_grown", 1)) == {"a", "b"}


def test_a_rule_that_holds_asks_everything() -> None:
    """There *no* ends an alert and *unknown* keeps it."""
    one = rule("signal:a > 2 and signal:d > 3")
    assert whom(one, sample("a", 1), b("a", 1), held=(("X", "b"), ("Y", "a"), ("X", "gone"))) == {"b"}


def test_an_owners_limit_is_asked_by() -> None:
    """The server's own number stands for the rule's, in both directions."""
    one = rule("signal:a > 2 and signal:d > 3")
    for limit, expected in ((0.5, {"a", "b"}), (9.0, {"a"})):
        target = B.model_copy(update={"thresholds": {"X": limit}})
        left = Undecided([one], answers(sample("a", 3), b("a", 1)), [A, target], ())
        assert left.of(["d"])["d"] == expected


def test_one_engine_of_several_is_enough() -> None:
    """Whoever has an engine that passes is asked about."""
    one = rule("signal:a > 2 and signal:d > 3")
    assert whom(one, sample("a", 1, engine="0"), sample("a", 3, engine="1")) == {"a"}


SIGNALS = ("a", "b", "a_samples", "b_grown", *DEAR)
VALUES = st.sampled_from([None, 0.0, 1.0, 2.0, 3.0, "absent"])
TERMS = st.lists(
    st.tuples(st.sampled_from(SIGNALS), st.sampled_from([">", "<="]), st.sampled_from([1, 2])),
    min_size=1, max_size=4, unique_by=lambda term: term[0],
)  # fmt: skip
ROUNDS = st.lists(
    st.fixed_dictionaries({(name, target): VALUES for name in SIGNALS for target in ("a:8000", "b:8000")}),
    min_size=1, max_size=6,
)  # fmt: skip


@given(st.lists(TERMS, min_size=1, max_size=3), ROUNDS, st.sampled_from([0.0, 2.0]))
@settings(max_examples=150, deadline=None)
def test_what_is_left_out_changes_nothing(
    written: list[list[tuple[str, str, int]]], rounds: list[dict[tuple[str, str], object]], for_s: float
) -> None:
    """Rounds over all answers and over the spared ones come to the same states, symptoms and limits passed as ever."""
    rules = [
        rule(" and ".join(f"signal:{name} {op} {n}" for name, op, n in terms), alert=f"R{k}", for_s=for_s)
        for k, terms in enumerate(written)
    ]
    targets = [A, B.model_copy(update={"match": {"instance": "b:8000"}})]
    whole = spared = States()
    for k, values in enumerate(rounds):
        now = 100.0 + k
        all_of = {
            name: tuple(
                sample(name, value, instance=at)  # type: ignore[arg-type]
                for (of, at), value in values.items()
                if of == name and value != "absent"
            )
            for name in SIGNALS
        }
        some = {name: rows for name, rows in all_of.items() if name not in DEAR}
        held = {(one.alert, one.target) for one in spared.held}
        left = Undecided(rules, some, targets, held)
        for dear in DEAR:
            names = left.of([dear])[dear]
            matches = {t.match["instance"] for t in targets if t.name in names}
            some[dear] = tuple(s for s in all_of[dear] if s.labels["instance"] in matches)
        seen = [observe(rules, given, targets, now) for given in (all_of, some)]
        names = [t.name for t in targets]
        (whole, loud), (spared, quiet) = (
            advance(before, one, now, rules, targets=names) for before, one in zip((whole, spared), seen, strict=True)
        )
        assert spared == whole
        assert loud == quiet
        of_whole, of_spared = (as_ever(one, whole) for one in seen)
        assert [o[:3] for o in of_whole] == [o[:3] for o in of_spared]


def test_every_selector_names_those_asked_about() -> None:
    """With and without labels of its own; what is quoted, and what is not vLLM's, stays."""
    got = about("rate(vllm:a[1h]) / vllm:b { le=\"1\" } or up * label_replace(x, 'y', 'vllm:c', '', '')", [A], [A, B])
    assert got == (
        'rate(vllm:a{instance="a:8000"}[1h]) / vllm:b{instance="a:8000", le="1" } '
        "or up * label_replace(x, 'y', 'vllm:c', '', '')"
    )


def test_several_servers_are_one_expression_that_means_their_names() -> None:
    """Dots and dashes are letters here."""
    c = Target(name="c", url="http://c", match={"instance": 'c-1.x"y'})
    got = about("vllm:a[1h]", [A, c], [A, B, c])
    assert got == r'vllm:a{instance=~"a:8000|c-1\\.x\"y"}[1h]'


@pytest.mark.parametrize(
    "expr",
    [
        "vllm:a / on () group_left () sum(vllm:a)",
        "sum(vllm:a[1h])",
        "vllm:a / ignoring (instance) vllm:b",
        "max by (job) (vllm:a)",
        "min without (instance) (vllm:a)",
        "vllm:a * scalar(vllm:b)",
        "quantile(0.5, vllm:a)",
        "sum(vllm:a) by (instance)",
    ],
)
def test_what_rests_on_other_servers_is_asked_about_all(expr: str) -> None:
    """Or what might: an aggregation is understood where its labels stand before what it aggregates."""
    assert about(expr, [A], [A, B]) == expr


def test_all_are_asked_about_where_the_names_would_be_too_long() -> None:
    """A query grows with every name in every selector; and whose labels differ cannot be named together."""
    many = [Target(name=str(n), url="http://x", match={"instance": f"host-{n}:8000"}) for n in range(900)]
    expr = "sum without (le) (rate(vllm:a[1h]))"
    assert len(about(expr, many[:100], many)) <= LONGEST
    assert about(expr, many[:800], many) == expr
    other = Target(name="o", url="http://o", match={"pod": "o"})
    assert about(expr, [A], [A, other]) == expr


def test_asked_about_some_a_server_says_what_it_says_among_all(tmp_path: Path) -> None:
    """Every dear signal that ships, in a real Prometheus with four H200 servers at once: the same values either way."""
    content = load(Config(), STEPS)
    dear = {name: expr for name, expr in widened(content.signals, 4.0).items() if stage(expr)}
    recorded = json.loads(HISTORY.with_name("h200_visitor_4s.json").read_text())["targets"]
    targets = [Target(name=name, url=f"http://{name}", match={"instance": name}) for name in recorded]
    moments = [1795744540.0, 1795744600.0]
    narrowed = compared = 0
    with prometheus(gzip.decompress(HISTORY.read_bytes()), tmp_path) as url:

        def ask(expr: str, at: float) -> dict[str, str]:
            words = urllib.parse.urlencode({"query": expr, "time": at}).encode()
            with urllib.request.urlopen(f"{url}/api/v1/query", words, timeout=30) as answer:
                rows = json.load(answer)["data"]["result"]
            return {json.dumps(row["metric"], sort_keys=True): row["value"][1] for row in rows}

        for at in moments:
            there = [t for t in targets if recorded[t.name]["from"] < at < recorded[t.name]["to"]]
            assert len(there) >= 2
            for name, expr in dear.items():
                some = there[:2]
                asked = about(expr, some, targets)
                narrowed += asked != expr
                names = {t.name for t in some}
                mine = {key: value for key, value in ask(expr, at).items() if json.loads(key).get("instance") in names}
                got = {key: v for key, v in ask(asked, at).items() if json.loads(key).get("instance") in names}
                assert got.keys() == mine.keys(), name
                assert all(float(got[key]) == pytest.approx(float(mine[key]), nan_ok=True) for key in mine), name
                compared += len(mine)
    assert narrowed > len(dear)
    assert compared > 60
