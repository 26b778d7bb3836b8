"""How do charts become files: SVG for the page, PNG for chats? Runs in the child process only: it loads matplotlib."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import rcParams  # noqa: E402 - the backend must be chosen first
from matplotlib.font_manager import fontManager  # noqa: E402

from responder.charts_curves import curve  # noqa: E402
from responder.charts_shapes import bars, ranks  # noqa: E402
from responder.words import ENGLISH, language, speaking  # noqa: E402

# Colours are placeholders in the SVG: each becomes a CSS variable that knows light and dark.
INK, FAINT, LINE, LIMIT, BAND, CAPTURE = "#111213", "#717273", "#1a5fb1", "#b91c1d", "#c9cacb", "#b45310"
PAPER = "#fefeff"
LINE_2, LINE_3, LINE_4 = "#0f766f", "#7c3aee", "#a21cb0"
DARK = {
    INK: "#e8e8ea", FAINT: "#9a9ca1", LINE: "#7db3f5", LIMIT: "#ff7b72", BAND: "#4b4e55", CAPTURE: "#f0a05a",
    PAPER: "#17181b", LINE_2: "#4fd1c5", LINE_3: "#b79bff", LINE_4: "#f08bf5",
}  # fmt: skip
COLOURS = {
    "ink": INK, "faint": FAINT, "line": LINE, "line2": LINE_2, "line3": LINE_3, "line4": LINE_4, "limit": LIMIT,
    "band": BAND, "capture": CAPTURE, "paper": PAPER,
}  # fmt: skip
PNG_DPI = 200
FELL_BACK = "in-english"
"""A file beside the charts: they are in English for want of a font."""
SHAPES = {"curves": curve, "ranks": ranks, "bars": bars}
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
    # The widest letters first, as a browser may have them: what has room here has room there.
    rcParams["font.family"] = ["DejaVu Sans", *fonts]
    if code != wanted["language"]:
        (folder / FELL_BACK).touch()
    with speaking(language(code)):
        draw(wanted["charts"][code], folder)


def draw(charts: list[dict[str, Any]], folder: Path) -> None:
    """Every chart as SVG and PNG."""
    for chart in charts:
        figure = SHAPES[chart["kind"]](chart, COLOURS)
        raw = io.BytesIO()
        figure.savefig(raw, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
        (folder / f"{chart['name']}.svg").write_text(inline(raw.getvalue().decode(), chart["name"], chart["title"]))
        raw = io.BytesIO()
        figure.savefig(raw, format="png", dpi=PNG_DPI, facecolor="white", metadata={"Software": None})
        (folder / f"{chart['name']}.png").write_bytes(raw.getvalue())


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
