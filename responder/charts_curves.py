"""How is one signal over time drawn so that nobody needs a legend? Runs in the child process of the charts.

The plot is as wide in every chart, so that charts beside each other line up; right of the data there is room for its
last values, above it for the moments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from responder.charts_labels import Box, Room, apart
from responder.report_words import (
    BYTE_UNITS,
    SECOND_UNITS,
    SHARE_UNITS,
    TIMES_UNITS,
    UNIT_WORDS,
    limit,
    measured,
)
from responder.words import say, unit_word

Colours = dict[str, str]
KNOWN_UNITS = SHARE_UNITS | TIMES_UNITS | SECOND_UNITS | BYTE_UNITS | set(UNIT_WORDS)
WIDTH, HEIGHT = 312.0, 186.0
"""Of the whole picture, in points: so narrow that a phone shows its words in a size people read."""
LEFT, RIGHT, BELOW, ABOVE = 42.0, 2.0, 24.0, 22.0
"""Between the plot and the picture's edges."""
END_ROOM = 62.0
ROW = 13.0
"""Height of one row of words above the data."""
MOST_ROWS = 4
CLOCK_STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
SMALL, TICKS, VALUE = 9.5, 9.5, 10.5
SERIES = ("line", "line2", "line3", "line4")


class Plot:
    """One chart while it is drawn."""

    def __init__(self, chart: dict[str, Any], colours: Colours) -> None:
        self.chart, self.colours = chart, colours
        self.figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
        self._renderer = FigureCanvasAgg(self.figure).get_renderer()  # type: ignore[no-untyped-call]
        self.low, self.high = _span(chart)
        self.ends = list(self._last_values())
        widest = max((self.size(row, VALUE, True)[0] for *_, rows, _ in self.ends for row in rows), default=0.0)
        self.end_room = max(END_ROOM, widest + 12)
        counted = bool(chart["unit"]) and not spoken(chart["unit"])
        self.top_value = max([*_known(chart), chart["threshold"] or 0.0, (chart["band"] or [0, 0])[1]]) or 1.0
        if counted:
            self.top_value = max(1.0, self.top_value)  # a part of a request is none: the axis goes to one at least
        self.switch = not chart["unit"] and all(value in (0, 1) for value in _known(chart))
        steps = MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=self.switch or counted).tick_values(0, self.top_value)
        self.ticks = [at for at in steps if 0 <= at <= self.top_value * 1.02]
        self.tick_unit = "" if "/" in chart["unit"] and not chart["unit"].startswith("/") else spoken(chart["unit"])
        names = [self.tick(at) for at in self.ticks]
        self.left = max(LEFT, max(self.size(name, TICKS)[0] for name in names) + 10)
        self.width, self.height = WIDTH - self.left - RIGHT, HEIGHT - BELOW - ABOVE
        self.axes = self.figure.add_axes((self.left / WIDTH, BELOW / HEIGHT, self.width / WIDTH, self.height / HEIGHT))
        self.room = Room((self.left + 1, BELOW + 1, WIDTH - 1, HEIGHT - ABOVE))
        self.rows = 0

    def tick(self, value: float) -> str:
        """What stands beside a tick: never two of them rounded to the same."""
        if self.tick_unit in SHARE_UNITS:
            return measured(round(value * 100, 7), "%")
        return measured(round(value, 9), self.tick_unit)

    def size(self, words: str, size: float, bold: bool = False) -> tuple[float, float]:
        """Width and height of words, in points."""
        mark = self.figure.text(0, 0, words, fontsize=size, fontweight="bold" if bold else "normal")
        box = mark.get_window_extent(self._renderer)
        mark.remove()
        return box.width * 72 / self.figure.dpi, box.height * 72 / self.figure.dpi

    def x(self, at: float) -> float:
        """Where a time (matplotlib's days) lies, in points."""
        return self.left + (at - self.low) / (self.high - self.low) * (self.width - self.end_room)

    def y(self, value: float) -> float:
        """Where a value lies, in points."""
        return BELOW + value / self.top_value * (self.height - self.rows * ROW - 6)

    def write(self, words: str, box: Box, colour: str, size: float, bold: bool = False) -> None:
        """Words into their place; the lines behind them stay faintly seen."""
        self.figure.text(
            box[0] / WIDTH, (box[1] + box[3]) / 2 / HEIGHT, words, fontsize=size, color=colour, va="center_baseline",
            fontweight="bold" if bold else "normal", zorder=7,
            bbox={"facecolor": self.colours["paper"], "alpha": 0.8, "linewidth": 0, "pad": 0.4},
        )  # fmt: skip

    def _last_values(self) -> Iterator[tuple[float, float, list[str], str]]:
        """Of every line: last value, its time, the words beside it, colour; rising by value."""
        named = len(self.chart["lines"]) > 1
        out = []
        for line, colour in zip(self.chart["lines"], SERIES, strict=False):
            last = max(index for index, (_, value) in enumerate(line["points"]) if value is not None)
            at, value = line["points"][last]
            unit = self.chart["unit"]
            words = measured(value, "" if unit_above(self.chart) else spoken(unit))
            rows = [f"{line['label']}: {words}" if named else words]
            rows += [say("chart.no_data")] if last < len(line["points"]) - 2 else []
            out.append((value, day(at), rows, self.colours[colour]))
        yield from sorted(out)


def curve(chart: dict[str, Any], colours: Colours) -> Figure:
    """One signal over time, everything labelled where it is."""
    plot = Plot(chart, colours)
    moments = list(_moments(plot))
    axes = plot.axes
    axes.set_xlim(plot.low, plot.low + (plot.high - plot.low) * plot.width / (plot.width - plot.end_room))
    axes.set_ylim(0, plot.top_value * plot.height / (plot.height - plot.rows * ROW - 6))
    for at, style, colour in _marks(plot):
        axes.axvline(at, color=colour, linewidth=1.1, linestyle=style, zorder=1)
    for words, box, colour in moments:
        plot.write(words, box, colour, SMALL)
    _captures(plot)
    _draw_lines(plot)
    _last(plot)
    _level(plot)
    _frame(plot, plot.axes)
    return plot.figure


def unit_above(chart: dict[str, Any]) -> str:
    """The unit to be written behind the title, where neither the title nor the numbers say it; else nothing."""
    unit = chart["unit"]
    if "/" in unit and not unit.startswith("/"):
        return str(unit)
    if spoken(unit) or not unit:
        return ""
    # A measure word ("3 个请求") belongs to a number and falls away without one.
    word = unit_word(unit).lstrip("个次条 ")
    return "" if word.rstrip("s").lower() in chart["title"].lower() else word


def spoken(unit: str) -> str:
    """The unit as written beside a number; counted things stand in the title already."""
    return "" if re.fullmatch(r"[a-z]{3,}", unit) and unit not in KNOWN_UNITS else unit


def day(seconds: float) -> float:
    """Unix seconds as matplotlib counts time."""
    return float(dates.date2num(datetime.fromtimestamp(seconds, UTC)))  # type: ignore[no-untyped-call]


def _known(chart: dict[str, Any]) -> list[float]:
    return [value for line in chart["lines"] for _, value in line["points"] if value is not None]


def _span(chart: dict[str, Any]) -> tuple[float, float]:
    # What was before the server's first value is no stretch of nothing to look at.
    times = [at for line in chart["lines"] for at, value in line["points"] if value is not None]
    times += [chart["onset"], chart["alert"]]
    return day(min(times)), day(max(max(times), min(times) + 10))


def _marks(plot: Plot) -> Iterator[tuple[float, str, str]]:
    for key, style, colour in (("onset", ":", "faint"), ("alert", "-", "ink"), ("resolved", ":", "faint")):
        if plot.chart[key] is not None and plot.low <= day(plot.chart[key]) <= plot.high:
            yield day(plot.chart[key]), style, plot.colours[colour]


def _windows(plot: Plot) -> list[tuple[float, float]]:
    least = (plot.high - plot.low) * 0.005
    found = [(day(a), max(day(b), day(a) + least)) for a, b, _ in plot.chart["captures"] if day(a) <= plot.high]
    return [(start, min(end, plot.high)) for start, end in found]


def _moments(plot: Plot) -> Iterator[tuple[str, Box, str]]:
    """The words of the moments, in as few rows above the data as keep them apart; the rows are then reserved."""
    wanted: list[tuple[str, float, float, str, bool]] = []
    for key, colour in (("onset", "faint"), ("alert", "ink"), ("resolved", "faint")):
        if plot.chart[key] is not None and plot.low <= day(plot.chart[key]) <= plot.high:
            words = say(f"chart.{key}", at=f"{datetime.fromtimestamp(plot.chart[key], UTC):%H:%M:%S}")
            at = plot.x(day(plot.chart[key]))
            wanted.append((words, at, at, plot.colours[colour], key != "alert"))
    windows = _windows(plot)
    if windows:
        first, last = plot.x(windows[0][0]), plot.x(max(end for _, end in windows))
        wanted.append((say("chart.captures"), first, last, plot.colours["capture"], False))
    top = HEIGHT - ABOVE
    for at, *_ in _marks(plot):
        plot.room.follow([(plot.x(at), top - MOST_ROWS * ROW), (plot.x(at), top)])
    for words, first, last, colour, left_first in wanted:
        width = plot.size(words, SMALL)[0]
        sides = [last + 4, first - 4 - width]
        boxes = [
            (x, top - (row + 1) * ROW + 1, x + width, top - row * ROW - 1)
            for row in range(MOST_ROWS) for x in (reversed(sides) if left_first else sides)
        ]  # fmt: skip
        box = plot.room.take(boxes)
        if box is not None:
            plot.rows = max(plot.rows, round((top - box[3]) / ROW) + 1)
            yield words, box, colour


def _captures(plot: Plot) -> None:
    """A faint column for each capture that touched the server."""
    share = 1 - (plot.rows - 1) * ROW / plot.height
    for start, end in _windows(plot):
        plot.axes.axvspan(start, end, 0, share, color=plot.colours["capture"], alpha=0.3, linewidth=0, zorder=0)


def _draw_lines(plot: Plot) -> None:
    for line, name in zip(plot.chart["lines"], SERIES, strict=False):
        times = [day(at) for at, _ in line["points"]]
        values = [float("nan") if value is None else value for _, value in line["points"]]
        plot.axes.plot(times, values, color=plot.colours[name], linewidth=1.8, solid_capstyle="round", zorder=3)
        known = [(plot.x(day(at)), plot.y(value)) for at, value in line["points"] if value is not None]
        plot.room.follow(known)


def _last(plot: Plot) -> None:
    """The last value of each line beside it; those that would meet are moved apart."""
    step = ROW - 0.5
    heights = [step * len(rows) for *_, rows, _ in plot.ends]
    middles = apart([plot.y(value) for value, *_ in plot.ends], heights, BELOW + 1, HEIGHT - ABOVE - plot.rows * ROW)
    for (value, at, rows, colour), middle, height in zip(plot.ends, middles, heights, strict=True):
        plot.axes.plot(at, value, "o", color=colour, markersize=4, zorder=4)
        for number, words in enumerate(rows):
            bold = number == 0
            left, top = plot.x(at) + 7, middle + height / 2 - number * step
            box = (left, top - step, left + plot.size(words, VALUE if bold else SMALL, bold)[0], top)
            plot.room.words.append(box)
            plot.write(words, box, colour, VALUE if bold else SMALL, bold)


def _level(plot: Plot) -> None:
    """The usual band and the limit, each named where the line does not run."""
    axes, chart, colours = plot.axes, plot.chart, plot.colours
    if chart["threshold"] and not plot.switch:  # over nothing at all, or on and off: that is no level to be shown
        level = [chart["threshold"]] * 2
        axes.plot([plot.low, plot.high], level, color=colours["limit"], linewidth=1.2, linestyle=(0, (5, 3)), zorder=2)
        words = say("chart.limit", value=limit(chart["threshold"], spoken(chart["unit"])))
        _beside(plot, words, plot.y(chart["threshold"]), plot.y(chart["threshold"]), colours["limit"], plot.high)
    if chart["band"]:
        thin = plot.top_value * 0.015
        bottom, top = chart["band"][0] - thin, chart["band"][1] + thin
        axes.fill_between([plot.low, plot.high], bottom, top, color=colours["band"], alpha=0.45, linewidth=0)
        _beside(plot, say("chart.usual"), plot.y(bottom), plot.y(top), colours["faint"], day(chart["onset"]))


def _beside(plot: Plot, words: str, bottom: float, top: float, colour: str, end: float) -> None:
    """Words above or below what they name, or in it, from left to right until `end`; none where there is no room."""
    width, tall = plot.size(words, SMALL)[0], ROW - 2
    last = plot.x(end) - width
    across = [plot.left + 3 + n * 12 for n in range(int((last - plot.left - 3) / 12) + 1)]
    heights = [top + 2.5, bottom - tall - 2.5]
    heights += [(top + bottom - tall) / 2, top - tall - 2] if top - bottom > tall + 3 else []
    box = plot.room.take((x, y, x + width, y + tall) for y in heights for x in across)
    if box is not None:
        plot.write(words, box, colour, SMALL)


def _clock(plot: Plot) -> tuple[list[float], str]:
    """Round times so far apart that none touches the next, and how they are written."""
    seconds = (plot.high - plot.low) * 86400
    a_point = seconds / (plot.width - plot.end_room)
    for form in ("%H:%M:%S", "%H:%M"):
        wide = plot.size("00:00:00" if form.endswith("S") else "00:00", TICKS)[0] + 8
        step = next((step for step in CLOCK_STEPS if step >= a_point * wide), CLOCK_STEPS[-1])
        if step < 60 and form.endswith("S") or seconds <= 300 or form == "%H:%M":
            break
    start = math.ceil(plot.low * 86400 / step - 1e-6)
    end = math.floor(plot.high * 86400 / step + 1e-6)
    return [n * step / 86400 for n in range(start, end + 1)], form


def _frame(plot: Plot, axes: Axes) -> None:
    colours, chart = plot.colours, plot.chart
    unit = unit_above(chart)
    start = plot.left / WIDTH
    title = HEIGHT - ABOVE / 2 + 2
    name = plot.figure.text(start, title / HEIGHT, chart["title"], fontsize=12, fontweight="bold",
                            color=colours["ink"], va="center_baseline")  # fmt: skip
    if unit:
        wide = plot.size(name.get_text(), 12, True)[0]
        plot.figure.text(start + (wide + 6) / WIDTH, title / HEIGHT, unit, fontsize=TICKS, color=colours["faint"],
                         va="center_baseline")  # fmt: skip
    axes.yaxis.set_major_locator(FixedLocator(plot.ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plot.tick(value)))
    times, form = _clock(plot)
    axes.xaxis.set_major_locator(FixedLocator(times))
    axes.xaxis.set_major_formatter(dates.DateFormatter(form, tz=UTC))  # type: ignore[no-untyped-call]
    plot.figure.text((WIDTH - RIGHT - 2) / WIDTH, (BELOW - 6) / HEIGHT, "UTC", ha="right", va="top",
                     color=colours["faint"], fontsize=SMALL)  # fmt: skip
    axes.tick_params(colors=colours["faint"], labelsize=TICKS, length=3)
    axes.grid(axis="y", color=colours["band"], linewidth=0.6, alpha=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_color(colours["band"])
        spine.set_visible(side in ("left", "bottom"))
