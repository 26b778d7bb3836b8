"""Are the decisive signals drawn, safely and apart from the daemon, and does a failure stay without consequence?"""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from responder import charts
from responder.model import Comparison, Rule, Series, Severity
from responder.report_html import drawing
from tests.hostile import HOSTILE
from tests.sample_report import DONE, ONSET, hostile, sample

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One font list for all drawings here."""
    return tmp_path_factory.mktemp("matplotlib")


def flat(signal: str, points: list[tuple[float, float | None]], **more) -> Series:
    """A series with its signal as label."""
    return Series(signal=signal, label=signal, points=tuple(points), **more)


def test_what_opened_the_incident_is_drawn_first():
    """Signals with a limit, then those of the leading cause's findings, six at most."""
    assert charts.decisive(sample()) == [
        "kv_usage", "ttft_p99", "waiting", "preemption_rate", "running", "prefix_hit_rate"
    ]  # fmt: skip


def test_without_symptom_signals_something_is_drawn():
    """A hang seen by probes alone still shows the traffic; failing that, whatever there is."""
    names = [f"s{n}" for n in range(5)] + ["generation_rate", "running"]
    few = tuple(flat(name, [(ONSET, 1), (ONSET + 5, 2)]) for name in names)
    assert charts.decisive(sample("first", series=few)) == ["running", "generation_rate"]
    assert charts.decisive(sample("first", series=few[:5])) == ["s0", "s1", "s2", "s3"]


def test_a_symptom_lends_its_limit_to_its_signal():
    """The first term of its rule; the limit is the target's own, and its signal comes first."""
    rule = Rule(
        alert="VLLMQueueGrowing", incident_class="high_ttft", severity=Severity.WARNING, expr="",
        terms=(Comparison(signal="waiting", op=">", number=50),),
    )  # fmt: skip
    bare = tuple(series.model_copy(update={"threshold": None}) for series in sample().series)
    limited = charts.with_limits(bare, sample().incident.symptoms, [rule])
    assert (limited[0].signal, limited[0].threshold) == ("waiting", 20)
    assert [series.threshold for series in limited[1:]] == [None] * (len(bare) - 1)


def test_engines_are_shown_when_they_can_differ():
    """One engine says the same twice; many are a thicket."""

    def labels(*rows: str) -> list[str]:
        points = ((ONSET, 1.0), (ONSET + 5, 2.0))
        series = tuple(Series(signal="running", label=row, points=points) for row in rows)
        return [line["label"] for line in charts.specs(sample(series=series))[0]["lines"]]

    assert labels("", "engine 0") == ["all"]
    assert labels("", "engine 0", "engine 1") == ["all", "engine 0", "engine 1"]
    assert labels("", *(f"engine {n}" for n in range(8))) == ["all"]


def test_the_usual_band_needs_a_baseline():
    """Percentiles of the ten minutes before the onset, or nothing."""
    points = [(ONSET - 500 + 10 * n, float(n % 5)) for n in range(40)]
    low, high = charts.band(flat("a", points), ONSET)
    assert 0 <= low < high <= 4
    assert charts.band(flat("a", points[-2:]), ONSET) is None


def test_long_series_keep_their_peaks_and_gaps():
    """A one-sample spike in an hour of seconds is still there."""
    points: list[tuple[float, float | None]] = [(ONSET + n, 1.0) for n in range(5000)]
    points[2501] = (ONSET + 2501, 9.0)
    points[4000:4100] = [(ONSET + n, None) for n in range(4000, 4100)]
    [spec] = charts.specs(sample(series=(flat("a", points),)))
    values = [value for _, value in spec["lines"][0]["points"]]
    assert len(values) <= charts.MOST_POINTS
    assert 9.0 in values
    assert None in values


async def test_six_charts_are_drawn_and_safe_to_inline(tmp_path, cache):
    """SVG and PNG of each; ids are its own, nothing in it acts, every chart is described."""
    drawn = await charts.draw(sample(), tmp_path / "charts", 60, cache)
    assert len(drawn) == 6
    ids: set[str] = set()
    for name, svg in drawn.items():
        assert drawing(svg)
        root = ElementTree.fromstring(svg)
        own = {element.get("id") for element in root.iter() if element.get("id")}
        assert not own & ids
        ids |= own
        assert root.get("aria-label")
        assert (tmp_path / "charts" / f"{name}.png").read_bytes().startswith(PNG)
    everything = "".join(drawn.values())
    for words in ("onset 03:12:40", "alert 03:13:04", "limit 95 %", "usual", "captures"):
        assert words in everything
    assert sorted(p.suffix for p in (tmp_path / "charts").iterdir()) == [".png"] * 6 + [".svg"] * 6


async def test_the_same_report_draws_the_same_svg(tmp_path, cache):
    """Nothing random and no date in it."""
    one = sample(series=sample().series[:1])
    first = await charts.draw(one, tmp_path / "a", 60, cache)
    assert first == await charts.draw(one, tmp_path / "b", 60, cache) != {}


@pytest.mark.parametrize("text", [HOSTILE[0], HOSTILE[1], HOSTILE[7], HOSTILE[10], HOSTILE[11]])
async def test_hostile_labels_are_drawn_as_text(tmp_path, cache, text):
    """No element, no formula, no path comes of a label."""
    drawn = await charts.draw(hostile(text), tmp_path / "charts", 60, cache)
    assert len(drawn) == 1
    assert all(drawing(svg) for svg in drawn.values())
    assert sorted(p.parent for p in tmp_path.rglob("*.svg")) == [tmp_path / "charts"]


async def test_a_new_revision_replaces_the_old_charts(tmp_path, cache):
    """What is in the folder is what the report shows."""
    folder = tmp_path / "charts"
    old = await charts.draw(sample(series=(flat("old", [(ONSET, 1), (DONE, 2)]),)), folder, 60, cache)
    new = await charts.draw(sample(series=(flat("new", [(ONSET, 1), (DONE, 2)]),)), folder, 60, cache)
    assert (list(old), list(new)) == (["1-old"], ["1-new"])
    assert sorted(p.name for p in folder.iterdir()) == ["1-new.png", "1-new.svg"]


async def test_a_drawing_that_hangs_is_ended(tmp_path, monkeypatch):
    """At the deadline there are no charts, no child and no rubbish."""
    (tmp_path / "matplotlib.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(charts, "PACKAGE", f"{tmp_path}:{charts.PACKAGE}")
    assert await charts.draw(sample(), tmp_path / "charts", 3) == {}
    assert list((tmp_path / "charts").iterdir()) == []


async def test_charts_of_an_earlier_revision_are_not_passed_off(tmp_path, cache, monkeypatch):
    """When drawing fails nothing is returned, though older files lie there."""
    folder = tmp_path / "charts"
    assert await charts.draw(sample(), folder, 60, cache)
    (tmp_path / "matplotlib.py").write_text("raise RuntimeError('no fonts')\n")
    monkeypatch.setattr(charts, "PACKAGE", f"{tmp_path}:{charts.PACKAGE}")
    assert await charts.draw(sample(), folder, 60, cache) == {}


async def test_a_folder_that_cannot_be_written_draws_nothing(tmp_path):
    """A full or read-only disk costs the charts only."""
    (tmp_path / "charts").write_text("in the way")
    assert await charts.draw(sample(), tmp_path / "charts", 60) == {}


def test_the_daemon_never_loads_matplotlib():
    """Importing our side of it brings none of it in."""
    code = "import sys, responder.charts, responder.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
