"""How is one signal drawn so that nobody needs a legend? Runs in the child process only: it loads matplotlib."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import dates, rcParams  # noqa: E402 - the backend must be chosen first
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.font_manager import fontManager  # noqa: E402
from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: E402
from matplotlib.transforms import offset_copy  # noqa: E402

from responder.charts_shapes import bars, ranks  # noqa: E402
from responder.report_words import (  # noqa: E402
    BYTE_UNITS,
    SECOND_UNITS,
    SHARE_UNITS,
    TIMES_UNITS,
    UNIT_WORDS,
    limit,
    measured,
)
from responder.words import ENGLISH, language, say, speaking  # noqa: E402

# Colours are placeholders in the SVG: each becomes a CSS variable that knows light and dark.
INK, FAINT, LINE, LIMIT, BAND, CAPTURE = "#111213", "#717273", "#1a5fb1", "#b91c1d", "#c9cacb", "#b45310"
PAPER = "#fefeff"
MORE_LINES = (LINE, "#0f766f", "#7c3aee", "#a21cb0")
DARK = {
    INK: "#e8e8ea", FAINT: "#9a9ca1", LINE: "#7db3f5", LIMIT: "#ff7b72", BAND: "#4b4e55", CAPTURE: "#f0a05a",
    PAPER: "#17181b", "#0f766f": "#4fd1c5", "#7c3aee": "#b79bff", "#a21cb0": "#f08bf5",
}  # fmt: skip
KNOWN_UNITS = SHARE_UNITS | TIMES_UNITS | SECOND_UNITS | BYTE_UNITS | set(UNIT_WORDS)
COLOURS = {"ink": INK, "faint": FAINT, "line": LINE, "limit": LIMIT, "paper": PAPER}
WIDTH_IN, HEIGHT_IN, PNG_DPI = 5.0, 2.6, 180


FELL_BACK = "in-english"
"""A file beside the charts: they are in English for want of a font."""
SHAPES = {"ranks": ranks, "bars": bars}
FONTS = {
    "zh": ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
           "PingFang SC", "Microsoft YaHei", "SimHei", "Droid Sans Fallback"),
}  # fmt: skip
"""Fonts with a language's characters, where DejaVu has none."""


def main() -> None:
    """{language, charts: {language: […]}} on stdin; NAME.svg and NAME.png into the folder of the first argument."""
    os.nice(10)
    folder = Path(sys.argv[1])
    rcParams.update({
        "text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "responder", "font.size": 11,
        "font.family": ["DejaVu Sans"], "axes.spines.top": False, "axes.spines.right": False,
    })  # fmt: skip
    wanted = json.load(sys.stdin)
    code = wanted["language"]
    fonts = [name for name in FONTS.get(code, ()) if name in {font.name for font in fontManager.ttflist}]
    if code in FONTS and not fonts:
        code = ENGLISH.code  # a page of boxes instead of characters says less than a foreign word
    rcParams["font.family"] = [*fonts, "DejaVu Sans"]
    if code != wanted["language"]:
        (folder / FELL_BACK).touch()
    with speaking(language(code)):
        draw(wanted["charts"][code], folder)


def draw(charts: list[dict[str, Any]], folder: Path) -> None:
    """Every chart as SVG and PNG."""
    for chart in charts:
        figure = SHAPES[chart["kind"]](chart, COLOURS) if chart["kind"] in SHAPES else picture(chart)
        raw = io.BytesIO()
        figure.savefig(raw, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
        (folder / f"{chart['name']}.svg").write_text(inline(raw.getvalue().decode(), chart["name"], chart["title"]))
        raw = io.BytesIO()
        figure.savefig(raw, format="png", dpi=PNG_DPI, facecolor="white", metadata={"Software": None})
        (folder / f"{chart['name']}.png").write_bytes(raw.getvalue())


def picture(chart: dict[str, Any]) -> Figure:
    """One signal over time, everything labelled where it is."""
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    axes = figure.add_subplot()
    low, high = _span(chart)
    axes.set_xlim(low, low + (high - low) * 1.17)
    axes.set_ylim(0, _top(chart))
    _usual(axes, chart, low, high)
    _lines(axes, chart)
    _limit(axes, chart, low, high)
    _moments(axes, chart, low, high)
    _captures(axes, chart, low, high)
    _frame(axes, chart, high - low)
    return figure


def _spoken(unit: str) -> str:
    """The unit as written beside a number; counted things stand in the title already."""
    return "" if re.fullmatch(r"[a-z]{3,}", unit) and unit not in KNOWN_UNITS else unit


def _at(seconds: float) -> float:
    return float(dates.date2num(datetime.fromtimestamp(seconds, UTC)))  # type: ignore[no-untyped-call]


def _known(chart: dict[str, Any]) -> list[float]:
    return [value for line in chart["lines"] for _, value in line["points"] if value is not None]


def _span(chart: dict[str, Any]) -> tuple[float, float]:
    # What was before the server's first value is no stretch of nothing to look at.
    times = [at for line in chart["lines"] for at, value in line["points"] if value is not None]
    times += [chart["onset"], chart["alert"]]
    return _at(min(times)), _at(max(max(times), min(times) + 10))


def _top(chart: dict[str, Any]) -> float:
    """Room above the highest thing drawn, for the labels of the moments."""
    return max([*_known(chart), chart["threshold"] or 0.0, (chart["band"] or [0, 0])[1]]) * 1.32 or 1.0


def _usual(axes: Axes, chart: dict[str, Any], low: float, high: float) -> None:
    if not chart["band"]:
        return
    bottom, top = chart["band"]
    thin = axes.get_ylim()[1] * 0.012
    axes.fill_between([low, high], bottom - thin, top + thin, color=BAND, alpha=0.45, linewidth=0)
    axes.annotate(say("chart.usual"), (low, top + thin), (3, 2), textcoords="offset points", color=FAINT, fontsize=9.5)


def _lines(axes: Axes, chart: dict[str, Any]) -> None:
    """The lines, each with its last value beside it; labels that would meet are moved apart."""
    named = len(chart["lines"]) > 1
    ends: list[tuple[float, float, str, str]] = []
    for line, colour in zip(chart["lines"], MORE_LINES, strict=False):
        times = [_at(at) for at, _ in line["points"]]
        values = [float("nan") if value is None else value for _, value in line["points"]]
        axes.plot(times, values, color=colour, linewidth=1.8, solid_capstyle="round", zorder=3)
        last = max(index for index, (_, value) in enumerate(line["points"]) if value is not None)
        words = measured(values[last], _spoken(chart["unit"]))
        words = f"{line['label']}: {words}" if named else words
        if last < len(values) - 2:
            words = say("chart.no_data", words=words)
        axes.plot(times[last], values[last], "o", color=colour, markersize=4, zorder=4)
        ends.append((values[last], times[last], words, colour))
    beside = offset_copy(axes.transData, axes.get_figure(root=True), 6, 0, "points")
    gap = axes.get_ylim()[1] * 0.085
    lowest = float("-inf")
    for value, time, words, colour in sorted(ends):
        lowest = max(value, lowest + gap)
        axes.annotate(
            words, (time, value), (time, lowest), textcoords=beside,
            color=colour, va="center", fontweight="bold", fontsize=10.5, zorder=5,
        )  # fmt: skip


def _limit(axes: Axes, chart: dict[str, Any], low: float, high: float) -> None:
    if chart["threshold"] is None:
        return
    level = [chart["threshold"]] * 2
    # Beside the word for the usual band where the two would lie on each other.
    near = chart["band"] and abs(chart["threshold"] - chart["band"][1]) < axes.get_ylim()[1] * 0.09
    aside = low + (high - low) * 0.2 if near else low
    axes.plot([low, high], level, color=LIMIT, linewidth=1.2, linestyle=(0, (5, 3)), zorder=2)
    words = say("chart.limit", value=limit(chart["threshold"], _spoken(chart["unit"])))
    axes.annotate(
        words, (aside, chart["threshold"]), (3, 3),
        textcoords="offset points", color=LIMIT, fontsize=10,
    )  # fmt: skip


def _moments(axes: Axes, chart: dict[str, Any], low: float, high: float) -> None:
    """Onset to the left of its line, alert to the right of its own: they are often seconds apart."""
    top = axes.get_ylim()[1]
    for key, colour, left in (("onset", FAINT, True), ("alert", INK, False), ("resolved", FAINT, True)):
        if chart[key] is None or not low <= _at(chart[key]) <= high:
            continue
        at = _at(chart[key])
        # Near the left edge there is no room to the left; a second row keeps the labels apart.
        cramped = (at - low) < 0.2 * (high - low)
        aside, row = ("right", 0) if left and not cramped else ("left", 0)
        if key == "resolved" or (left and cramped):
            row = 1
        axes.axvline(at, color=colour, linewidth=1.1, linestyle=":" if left else "-", zorder=1)
        words = say(f"chart.{key}", at=f"{datetime.fromtimestamp(chart[key], UTC):%H:%M:%S}")
        axes.annotate(
            words, (at, top), (-4 if aside == "right" else 4, -2 - 13 * row), textcoords="offset points", ha=aside,
            va="top", color=colour, fontsize=9.5, zorder=6,
            bbox={"facecolor": PAPER, "alpha": 0.85, "linewidth": 0, "pad": 0.6},
        )  # fmt: skip


def _captures(axes: Axes, chart: dict[str, Any], low: float, high: float) -> None:
    """A faint column for each capture that touched the server, named once above the data."""
    windows = [(_at(a), max(_at(b), _at(a) + (high - low) * 0.005)) for a, b, _ in chart["captures"] if _at(a) <= high]
    for start, end in windows:
        axes.axvspan(start, end, 0, 0.83, color=CAPTURE, alpha=0.3, linewidth=0, zorder=0)
    if windows:
        first, last = windows[0][0], max(end for _, end in windows)
        # Near the right edge the last values stand: the name goes to the other side.
        late = last - low > 0.7 * (high - low)
        axes.annotate(
            say("chart.captures"), (first if late else last, axes.get_ylim()[1] * 0.83), (-3 if late else 3, -4),
            textcoords="offset points", ha="right" if late else "left", va="center", color=CAPTURE, fontsize=9.5,
            zorder=7,
        )  # fmt: skip


def _frame(axes: Axes, chart: dict[str, Any], days: float) -> None:
    unit = chart["unit"]
    axes.set_title(chart["title"], loc="left", fontsize=12, fontweight="bold", color=INK)
    tick_unit = "" if "/" in unit and not unit.startswith("/") else _spoken(unit)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: measured(round(value, 9), tick_unit)))
    locator = dates.AutoDateLocator(tz=UTC, minticks=3, maxticks=6 if days > 5 / 1440 else 4)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M" if days > 5 / 1440 else "%H:%M:%S", tz=UTC))  # type: ignore[no-untyped-call]
    axes.annotate(
        "UTC", (1, 0), (2, -6), xycoords="axes fraction", textcoords="offset points", ha="left", va="top",
        color=FAINT, fontsize=9.5,
    )  # fmt: skip
    axes.tick_params(colors=FAINT, labelsize=10, length=3)
    axes.grid(axis="y", color=BAND, linewidth=0.6, alpha=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_color(BAND)


def inline(svg: str, name: str, title: str) -> str:
    """An SVG that may stand inside a page: no prolog, ids of its own, colours that follow light and dark."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    prefix = "c-" + re.sub(r"[^A-Za-z0-9]", "-", name) + "-"
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = svg.replace("url(#", f"url(#{prefix}").replace('href="#', f'href="#{prefix}')
    for number, colour in enumerate(DARK):
        svg = svg.replace(colour, f"var(--rc{number})")
    light = ";".join(f"--rc{number}:{colour}" for number, colour in enumerate(DARK))
    dark = ";".join(f"--rc{number}:{colour}" for number, colour in enumerate(DARK.values()))
    style = (
        f"<style>.rchart{{{light}}}.rchart text{{font-family:system-ui,sans-serif!important}}"
        f"@media screen and (prefers-color-scheme:dark){{.rchart{{{dark}}}}}</style>"
    )
    words = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    head = re.sub(r' (?:width|height)="[^"]*"', "", svg[: svg.index(">")])
    return f'{head} class="rchart" role="img" aria-label="{words}">{style}{svg[svg.index(">") + 1 :]}'
