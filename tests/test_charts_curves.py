"""Can the charts of recorded incidents be read, in every language?"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from responder import charts
from responder.charts_curves import curve, unit_above
from responder.charts_draw import COLOURS
from responder.charts_shapes import ranks
from responder.model import Report
from responder.words import CODES, language, speaking
from tests.replayed import content, replayed
from tests.sample_report import sample

INCIDENTS = ("h200_tp2_rank_stopped", "engine_crash_worker_killed", "cpu_kv_starvation", "cpu_spike",
             "wrong_nan_one_layer", "frontend_frozen_busy")  # fmt: skip
"""One of each look; the others were drawn once and looked at."""
Box = tuple[float, float, float, float]


def reported(name: str) -> Report:
    """As the daemon would draw it: with the limits of its alerts."""
    report = replayed(name)
    return report.model_copy(
        update={"series": charts.with_limits(report.series, report.incident.symptoms, content().rules)}
    )


def words_in(figure: Figure) -> list[tuple[str, Box]]:
    """Every text of a picture and the box it fills, in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    marks = [*figure.texts, *(mark for axes in figure.axes if not axes.axison for mark in axes.texts)]
    for axes in (axes for axes in figure.axes if axes.axison):
        marks += [*axes.texts, *(label for label in axes.get_xticklabels() + axes.get_yticklabels())]
    shown = [mark for mark in marks if mark.get_text()]
    return [(mark.get_text(), mark.get_tightbbox(renderer).extents) for mark in shown]  # type: ignore[no-untyped-call]


def met(figure: Figure) -> list[tuple[str, str]]:
    """Texts that lie on each other, and those that leave the picture (then beside an empty word)."""
    wide, tall = figure.bbox.width, figure.bbox.height
    found = words_in(figure)
    out = [
        (one, other) for (one, a), (other, b) in combinations(found, 2)
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]  # fmt: skip
    return out + [(words, "") for words, box in found if box[0] < 0 or box[1] < 0 or box[2] > wide or box[3] > tall]


def ticks(figure: Figure, axis: str) -> list[str]:
    return [label.get_text() for label in getattr(figure.axes[0], f"get_{axis}ticklabels")()]


@pytest.fixture(autouse=True)
def _fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rcParams, "font.family", ["DejaVu Sans"])
    monkeypatch.setitem(rcParams, "text.parse_math", False)


@pytest.mark.parametrize("name", INCIDENTS)
def test_no_word_lies_on_another_and_every_axis_can_be_read(name: str) -> None:
    """Labels of moments, limits, usual bands, last values, ticks; two ticks at least on each axis, none twice."""
    with speaking(language("en")):
        specs = charts.specs(reported(name))
        assert len(specs) >= charts.FEWEST_CHARTS
        for spec in specs:
            figure = (ranks if spec["kind"] == "ranks" else curve)(spec, COLOURS)
            assert met(figure) == [], spec["title"]
            if spec["kind"] == "curves":
                for axis in "xy":
                    names = ticks(figure, axis)
                    assert len(set(names)) == len(names) >= 2, (spec["title"], names)


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
@pytest.mark.parametrize("code", CODES)
def test_the_sample_in_every_language(code: str) -> None:
    """Open and resolved, with captures before and after the alert."""
    for stage in ("first", "resolved"):
        with speaking(language(code)):
            for spec in charts.specs(sample(stage)):
                assert met(curve(spec, COLOURS)) == [], (stage, spec["title"])


def spec(**more: Any) -> dict[str, Any]:
    points = [[float(at), float(at % 7)] for at in range(0, 120, 2)]
    return {
        "title": "Tokens generated", "unit": "tokens/s", "threshold": None, "band": None, "onset": 60.0,
        "alert": 70.0, "resolved": None, "captures": [], "lines": [{"label": "all", "points": points}],
    } | more  # fmt: skip


@pytest.mark.parametrize(
    ("title", "unit", "above"),
    [
        ("Tokens generated", "tokens/s", "tokens/s"),
        ("Requests running", "requests", ""),
        ("Answer length, mean", "tokens", "tokens"),
        ("KV cache in use", "share", ""),
        ("Preemptions", "/s", ""),
        ("TTFT p99", "s", ""),
        ("Engine asleep", "", ""),
    ],
)
def test_the_unit_stands_once(title: str, unit: str, above: str) -> None:
    """Behind the title, unless the title or the numbers say it."""
    assert unit_above(spec(title=title, unit=unit)) == above
    names = [words for words, _ in words_in(curve(spec(title=title, unit=unit), COLOURS))]
    assert (above in names) == bool(above)


def test_plots_line_up() -> None:
    """Charts beside each other have the same stretch of time in the same place."""
    one, other = (curve(spec(unit=unit), COLOURS).axes[0].get_position().bounds for unit in ("requests", "tokens/s"))
    assert one == pytest.approx(other)


def test_many_moments_at_once_stay_apart() -> None:
    """Everything within two seconds, at either edge of the chart."""
    for at in (1.0, 60.0, 118.0):
        captures = [[at + 0.2, at + 0.4, "a"], [at + 0.5, at + 1, "b"]]
        figure = curve(spec(onset=at, alert=at + 0.1, resolved=at + 1, captures=captures), COLOURS)
        assert met(figure) == [], at


def test_lines_that_end_together_are_told_apart() -> None:
    """Four engines with the same last value."""
    lines = [{"label": f"engine {n}", "points": [[0.0, 1.0], [60.0, 5.0]]} for n in range(4)]
    figure = curve(spec(lines=lines), COLOURS)
    assert met(figure) == []
    assert len([words for words, _ in words_in(figure) if words.startswith("engine")]) == 4


def test_many_workers_fit() -> None:
    """Eight ranks of which one stands, in a picture no wider than the others."""
    boxes = [{"role": "engine", "name": "EngineCore", "pid": "10", "tone": "fine", "lines": ["waits for the workers"]}]
    boxes += [
        {"role": "worker", "name": f"Worker_TP{n}", "pid": str(20 + n), "tone": "stopped" if n == 5 else "fine",
         "lines": ["waits for work on the GPU to end", f"GPU {n}: spinning"]}
        for n in range(8)
    ]  # fmt: skip
    edges = [[0, n, n == 6] for n in range(1, 9)] + [[n, 6, True] for n in (1, 2, 4)]
    figure = ranks({"title": "Who waits for whom", "clients": "clients", "waits": "waits for", "boxes": boxes,
                    "edges": edges, "more": "and 8 more workers"}, COLOURS)  # fmt: skip
    assert met(figure) == []
    assert figure.get_size_inches()[0] == curve(spec(), COLOURS).get_size_inches()[0]


def test_things_are_counted_in_whole_ones() -> None:
    """A mean of half a request is drawn below one, not on an axis of tenths."""
    half = [{"label": "all", "points": [[float(at), 0.5] for at in range(0, 120, 2)]}]
    figure = curve(spec(unit="requests", title="Requests waiting", lines=half), COLOURS)
    assert ticks(figure, "y") == ["0", "1"]
