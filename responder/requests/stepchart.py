"""What do single steps look like over time? A plain SVG, one row per signal, nothing but lines. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from responder.model import Series

STYLE = (
    ".engine-steps{--paper:#fff;--ink:#111213;--faint:#5c6370;--line:#1a5fb1}"
    "@media screen and (prefers-color-scheme:dark)"
    "{.engine-steps{--paper:#17181b;--ink:#e8e8ea;--faint:#a2a7b0;--line:#7db3f5}}"
    ".engine-steps .paper{fill:var(--paper)}.engine-steps .ink{fill:var(--ink)}"
    ".engine-steps .faint{fill:var(--faint)}.engine-steps .axis{stroke:var(--faint)}"
    ".engine-steps .line{fill:none;stroke:var(--line);stroke-width:1}"
)
"""Light and dark, as the page it stands in."""
WIDTH, ROW, LEFT, RIGHT, GAP, HEAD = 1100, 110, 70, 10, 26, 10


def draw(lines: Sequence[Series]) -> str:
    """An SVG of these series under each other, over the same time."""
    rows = [line for line in lines if any(value is not None for _, value in line.points)]
    times = [at for line in rows for at, _ in line.points]
    height = HEAD + len(rows) * (ROW + GAP) + 20
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12" class="engine-steps" role="img">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" class="paper"/>',
    ]
    if times:
        since, until = min(times), max(max(times), min(times) + 1e-3)
        for number, line in enumerate(rows):
            out += _row(line, HEAD + number * (ROW + GAP), since, until)
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            at = datetime.fromtimestamp(since + share * (until - since), UTC).strftime("%H:%M:%S")
            x = LEFT + share * (WIDTH - LEFT - RIGHT)
            anchor = "start" if share == 0 else "end" if share == 1 else "middle"
            out.append(f'<text x="{x:.0f}" y="{height - 6}" text-anchor="{anchor}" class="faint">{at}</text>')
    return "\n".join([*out, "</svg>\n"])


def _row(line: Series, top: float, since: float, until: float) -> list[str]:
    values = [value for _, value in line.points if value is not None]
    highest = max(max(values), 1e-9)
    bottom = top + 16 + ROW - 16

    def place(at: float, value: float) -> str:
        x = LEFT + (at - since) / (until - since) * (WIDTH - LEFT - RIGHT)
        return f"{x:.1f},{bottom - value / highest * (ROW - 20):.1f}"

    stretches: list[list[str]] = [[]]
    for at, value in line.points:
        if value is None:
            stretches.append([])
        else:
            stretches[-1].append(place(at, value))
    unit = f" {line.unit}" if line.unit else ""
    return [
        f'<text x="{LEFT}" y="{top + 12}" class="ink">{escape(line.label)}</text>',
        f'<text x="{LEFT - 6}" y="{bottom - ROW + 30}" text-anchor="end" class="faint">{highest:.3g}{unit}</text>',
        f'<line x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}" class="axis"/>',
        *(f'<polyline points="{" ".join(part)}" class="line"/>' for part in stretches if part),
    ]
