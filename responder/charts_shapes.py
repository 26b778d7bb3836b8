"""How are boxes and bars drawn? Who waits for whom, and shares by name. Runs in the child process of the charts."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

Colours = dict[str, str]
WIDTH = 312.0
"""Of the whole picture, in points, as of every chart: a phone shows it whole."""
CHANNEL = 30.0
"""Between the two columns: here the arrows run."""
SIDE = 2.0
BOX_W = (WIDTH - CHANNEL) / 2 - SIDE
LINE_H, PADDING = 13.0, 12.0
BETWEEN_ROWS, BETWEEN_ROLES = 8.0, 26.0
HEAD, FOOT = 24.0, 20.0
LETTERS = 23
"""That fit into a box beside each other."""
MOST_ROWS = 4
ROLES = ("api_server", "engine", "worker")
NAME, WORDS = 10.0, 9.0

Box = tuple[float, float, float, float]
"""Left, bottom, right, top, in points."""


def ranks(chart: dict[str, Any], colours: Colours) -> Figure:
    """From clients above to workers below, two beside each other; an arrow points at whom somebody waits for."""
    boxes = chart["boxes"]
    texts = {-1: [chart["clients"]]} | {n: _texts(box) for n, box in enumerate(boxes)}
    groups = [[-1], *([n for n, box in enumerate(boxes) if box["role"] == role] for role in ROLES)]
    places, tall = _places([group for group in groups if group], texts)
    height = tall + HEAD + FOOT
    figure = Figure(figsize=(WIDTH / 72, height / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(-tall - FOOT, HEAD)
    axes.axis("off")
    axes.text(SIDE, HEAD / 2 + 2, chart["title"], fontsize=12, fontweight="bold", color=colours["ink"], va="center")
    for start, end, loud in chart["edges"]:
        _arrow(axes, places[start], places[end], colours["limit"] if loud else colours["faint"], loud)
    for number, place in places.items():
        tone = boxes[number]["tone"] if number >= 0 else "fine"
        _draw_box(axes, place, texts[number], tone, colours)
    foot = -tall - FOOT / 2
    axes.text(SIDE, foot, f"\N{RIGHTWARDS ARROW} {chart['waits']}", fontsize=9.5, color=colours["faint"], va="center")
    if chart["more"]:
        axes.text(WIDTH - SIDE, foot, chart["more"], fontsize=9.5, color=colours["faint"], ha="right", va="center")
    return figure


def _texts(box: dict[str, Any]) -> list[str]:
    """The lines in a box: its name, then what is known of it."""
    name = (box["name"] + (f"  {box['pid']}" if box["pid"] else ""))[:LETTERS]
    return [name, *(part for line in box["lines"] for part in _wrapped(line))][:MOST_ROWS]


def _places(groups: list[list[int]], texts: dict[int, list[str]]) -> tuple[dict[int, Box], float]:
    """Where each box stands, and how far down they reach: one alone in the middle, several in two columns."""
    places: dict[int, Box] = {}
    top = 0.0
    for group in groups:
        for first in range(0, len(group), 2):
            row = group[first : first + 2]
            high = max(len(texts[n]) for n in row) * LINE_H + PADDING
            for column, number in enumerate(row):
                left = (WIDTH - BOX_W) / 2 if len(group) == 1 else SIDE + column * (BOX_W + CHANNEL)
                places[number] = (left, top - high, left + BOX_W, top)
            top -= high + BETWEEN_ROWS
        top -= BETWEEN_ROLES - BETWEEN_ROWS
    return places, -(top + BETWEEN_ROLES)


def _draw_box(axes: Axes, at: Box, texts: list[str], tone: str, colours: Colours) -> None:
    left, bottom, right, top = at
    loud = tone != "fine"
    edge = colours["limit"] if loud else colours["faint"]
    frame = FancyBboxPatch(
        (left, bottom), right - left, top - bottom, boxstyle="round,pad=0,rounding_size=5", zorder=3,
        facecolor=colours["paper"], edgecolor=edge, linewidth=2.2 if loud else 1.1,
    )  # fmt: skip
    axes.add_patch(frame)
    first = (top + bottom) / 2 + LINE_H * (len(texts) - 1) / 2
    for number, words in enumerate(texts):
        colour = colours["ink"] if number == 0 else edge if loud and number == 1 else colours["faint"]
        axes.text(left + 8, first - number * LINE_H, words, fontsize=WORDS if number else NAME, color=colour,
                  fontweight="normal" if number else "bold", va="center", zorder=4)  # fmt: skip


def _wrapped(words: str) -> list[str]:
    """Lines that fit into a box; characters of East Asia are twice as wide."""
    wide = sum(ord(char) > 0x2E80 for char in words) > len(words) / 2
    return wrap(words, LETTERS // 2 if wide else LETTERS)[:2]


def _arrow(axes: Axes, start: Box, end: Box, colour: str, loud: bool) -> None:
    first, last = _anchor(start, end), _anchor(end, start)
    # One worker waits for another below it: the arrow bows into the channel between the columns.
    bend = "arc3,rad=0.35" if start[0] == end[0] and first[0] == last[0] != WIDTH / 2 else "arc3,rad=0"
    if start[1] > end[1]:
        bend = bend.replace("=0.35", "=0.35" if start[0] > WIDTH / 2 else "=-0.35")
    axes.add_patch(
        FancyArrowPatch(first, last, arrowstyle="-|>", mutation_scale=11, color=colour, connectionstyle=bend,
                        linewidth=2.2 if loud else 1.1, zorder=2, shrinkA=1, shrinkB=1)
    )  # fmt: skip


def _anchor(of: Box, toward: Box) -> tuple[float, float]:
    """Where an arrow to or from another box meets this one: above, below, or at the side of the channel."""
    middle, level = (of[0] + of[2]) / 2, (of[1] + of[3]) / 2
    apart = of[1] - toward[3] if toward[3] <= of[1] else toward[1] - of[3] if toward[1] >= of[3] else 0.0
    alone = middle == WIDTH / 2
    if alone or 0 < apart <= BETWEEN_ROLES and (toward[0] + toward[2]) / 2 == WIDTH / 2:
        return (middle, of[1] if toward[3] <= of[1] else of[3])
    return (of[2] if middle < WIDTH / 2 else of[0], level)


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
