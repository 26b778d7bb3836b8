"""promtool's notation of series: what it expands to, what is refused, and the OpenMetrics it becomes."""

from __future__ import annotations

import math

import pytest

from responder.authoring.series import name_of, openmetrics, values


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1 2 3", [1, 2, 3]),
        ("0+10x3", [0, 10, 20, 30]),
        ("5-1x2", [5, 4, 3]),
        ("7x2", [7, 7, 7]),
        ("1 _ 2", [1, None, 2]),
        ("_x3 4", [None, None, None, 4]),
        ("-1.5e3", [-1500.0]),
        ("stale 1", [None, 1]),
    ],
)
def test_notation(text: str, wanted: list[float | None]) -> None:
    """As in rule tests: `axN` repeats N more times."""
    assert values(text) == wanted


def test_not_a_number_is_a_sample() -> None:
    """NaN is scraped, a gap is not."""
    (value,) = values("NaN")
    assert value is not None
    assert math.isnan(value)


@pytest.mark.parametrize("text", ["1x", "a", "1+x3", "0x99999999"])
def test_refused(text: str) -> None:
    """With the word that is wrong, and a limit."""
    with pytest.raises(ValueError, match=r"is no value|more than"):
        values(text)


def test_names_and_labels() -> None:
    """With escapes; anything else is refused."""
    assert name_of('vllm:x{a="1",b="q\\"z"}') == ("vllm:x", {"a": "1", "b": 'q"z'})
    assert name_of("up") == ("up", {})
    for wrong in ("vllm x", "up{a=1}", 'up{a="1" b}'):
        with pytest.raises(ValueError, match=r"is no series|is not a list"):
            name_of(wrong)


def test_openmetrics_has_a_time_for_every_sample() -> None:
    """One block for each name, gaps left out, an end mark."""
    text = openmetrics([("b", {"i": 'x"y'}, [1.0, None, 3.0]), ("a", {}, [float("nan")])], 100.0, 5.0)
    assert text == (
        '# TYPE a unknown\na NaN 100.000\n# TYPE b unknown\nb{i="x\\"y"} 1.0 100.000\nb{i="x\\"y"} 3.0 110.000\n# EOF\n'
    )
