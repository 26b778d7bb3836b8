"""How are boxes and bars drawn? Who waits for whom, and shares by name. Runs in the child process of the charts."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

Colours = dict[str, str]
BOX_W, BOX_H = 1.9, 1.12
COLUMN, ROW = 2.35, 1.3
LETTERS = 22
"""That fit into a box beside each other."""
MOST_ROWS = 4
COLUMNS = {"clients": 0.0, "api_server": 1.0, "engine": 2.0, "worker": 3.0}


def ranks(chart: dict[str, Any], colours: Colours) -> Figure:
    """Boxes in columns from clients to workers; an arrow points at whom somebody waits for."""
    boxes = chart["boxes"]
    tallest = max(sum(box["role"] == role for box in boxes) for role in COLUMNS) or 1
    width, height = 3 * COLUMN + BOX_W + 0.65, tallest * ROW + 0.75
    figure = Figure(figsize=(width * 0.78, height * 0.78))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-0.1, width - 0.1)
    axes.set_ylim(-height + 0.65, 0.75)
    axes.axis("off")
    axes.text(0, 0.5, chart["title"], fontsize=12, fontweight="bold", color=colours["ink"], va="center")
    places = {-1: _place("clients", 0, 1, tallest)}
    for role in ("api_server", "engine", "worker"):
        members = [n for n, box in enumerate(boxes) if box["role"] == role]
        places |= {n: _place(role, order, len(members), tallest) for order, n in enumerate(members)}
    for start, end, loud in chart["edges"]:
        _arrow(axes, places[start], places[end], colours["limit"] if loud else colours["faint"], loud)
    _draw_box(axes, places[-1], chart["clients"], [], "fine", colours)
    for number, box in enumerate(boxes):
        name = box["name"] + (f"  {box['pid']}" if box["pid"] else "")
        _draw_box(axes, places[number], name, box["lines"], box["tone"], colours)
    axes.text(0, -height + 0.82, f"\N{RIGHTWARDS ARROW} {chart['waits']}", fontsize=9.5, color=colours["faint"])
    if chart["more"]:
        axes.text(width - 0.6, -height + 0.82, chart["more"], fontsize=9.5, color=colours["faint"], ha="right")
    return figure


def _place(role: str, order: int, count: int, tallest: int) -> tuple[float, float]:
    """The box's left edge and middle."""
    return COLUMNS[role] * COLUMN, -(order + (tallest - count) / 2) * ROW - 0.35


def _draw_box(
    axes: Axes, at: tuple[float, float], name: str, lines: list[str], tone: str, colours: Colours
) -> None:  # fmt: skip
    x, y = at
    loud = tone != "fine"
    edge = colours["limit"] if loud else colours["faint"]
    axes.add_patch(
        FancyBboxPatch(
            (x, y - BOX_H / 2),
            BOX_W,
            BOX_H,
            boxstyle="round,pad=0,rounding_size=0.08",
            zorder=3,
            facecolor=colours["paper"],
            edgecolor=edge,
            linewidth=2.2 if loud else 1.1,
        )  # fmt: skip
    )
    rows = [(name[:24], 9.6, "bold", colours["ink"])]
    for number, line in enumerate(lines):
        colour = edge if loud and number == 0 else colours["faint"]
        rows += [(part, 8.4, "normal", colour) for part in _wrapped(line)]
    rows = rows[:MOST_ROWS]
    step = 0.25
    top = y + step * (len(rows) - 1) / 2
    for number, (words, size, weight, colour) in enumerate(rows):
        axes.text(x + 0.12, top - number * step, words, fontsize=size, fontweight=weight, color=colour, va="center",
                  zorder=4)  # fmt: skip


def _wrapped(words: str) -> list[str]:
    """Lines that fit into a box; characters of East Asia are twice as wide."""
    wide = sum(ord(char) > 0x2E80 for char in words) > len(words) / 2
    return wrap(words, LETTERS // 2 if wide else LETTERS)[:2]


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, loud: bool) -> None:
    if start[0] == end[0]:  # one worker waits for another: around the right side
        first, last = (start[0] + BOX_W, start[1]), (end[0] + BOX_W, end[1])
        bend = "arc3,rad=-0.5" if start[1] > end[1] else "arc3,rad=0.5"
    else:
        first, last, bend = (start[0] + BOX_W, start[1]), (end[0], end[1]), "arc3,rad=0"
    axes.add_patch(
        FancyArrowPatch(
            first,
            last,
            arrowstyle="-|>",
            mutation_scale=13,
            color=colour,
            connectionstyle=bend,
            linewidth=2.2 if loud else 1.1,
            zorder=2,
            shrinkA=1,
            shrinkB=1,
        )  # fmt: skip
    )


def bars(chart: dict[str, Any], colours: Colours) -> Figure:
    """Horizontal bars, each with its name and share beside it."""
    rows = chart["rows"]
    figure = Figure(figsize=(5.0, 0.9 + 0.3 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    places = [float(-n) for n in range(len(rows))]
    axes.barh(places, [value for _, value, _ in rows], color=colours["line"], height=0.62)
    for place, (_, value, words) in zip(places, rows, strict=True):
        axes.annotate(words, (value, place), (5, 0), textcoords="offset points", va="center", fontsize=10,
                      color=colours["ink"])  # fmt: skip
    axes.set_yticks(places, [name for name, _, _ in rows])
    axes.set_xlim(0, max(value for _, value, _ in rows) * 1.2)
    axes.set_xticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(colors=colours["faint"], labelsize=10, length=0)
    axes.set_title(chart["title"], loc="left", fontsize=12, fontweight="bold", color=colours["ink"])
    if chart["under"]:
        axes.set_xlabel(chart["under"], loc="left", color=colours["faint"], fontsize=9.5)
    return figure
