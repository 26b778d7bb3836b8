"""What does a speedscope recording show, and as a flame graph? Pure: bytes in, shares and one SVG out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape

WIDTH, ROW, MAX_DEPTH, MIN_PX = 1200.0, 16, 80, 0.6


@dataclass
class Box:
    """A function in one place of the tree, with all that was seen below it."""

    name: str
    weight: float = 0.0
    below: dict[str, Box] = field(default_factory=dict)


@dataclass(frozen=True)
class Flames:
    """A recording: the merged tree, and how much of it each function was innermost of."""

    root: Box
    innermost: tuple[tuple[str, float], ...]
    """(function, share), largest first."""
    samples: int
    threads: int


def read_speedscope(raw: bytes) -> Flames | None:
    """The recording, all threads merged; None when it is no speedscope file or holds no sample."""
    try:
        told = json.loads(raw)
        names = [_name(frame) for frame in told["shared"]["frames"]]
        profiles = [profile for profile in told["profiles"] if profile.get("samples")]
        root, innermost, count = Box("all"), dict[str, float](), 0
        for profile in profiles:
            for stack, weight in zip(profile["samples"], profile["weights"], strict=True):
                _add(root, [names[at] for at in stack], float(weight))
                count += 1
                if stack:
                    innermost[names[stack[-1]]] = innermost.get(names[stack[-1]], 0.0) + float(weight)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, AttributeError):
        return None
    if not count or root.weight <= 0:
        return None
    shares = sorted(
        ((name, weight / root.weight) for name, weight in innermost.items()), key=lambda it: (-it[1], it[0])
    )
    return Flames(root, tuple(shares), count, len(profiles))


def _name(frame: dict[str, object]) -> str:
    where = f" ({frame['file']}:{frame['line']})" if frame.get("file") and frame.get("line") else ""
    return f"{frame['name']}{where}"


def _add(root: Box, stack: list[str], weight: float) -> None:
    root.weight += weight
    here = root
    for name in stack[:MAX_DEPTH]:
        here = here.below.setdefault(name, Box(name))
        here.weight += weight


def share_of(flames: Flames, *words: str) -> float:
    """Share of samples with a frame that holds one of the words, anywhere on the stack."""

    def inside(box: Box) -> float:
        if any(word in box.name for word in words):
            return box.weight
        return sum(inside(child) for child in box.below.values())

    return sum(inside(box) for box in flames.root.below.values()) / flames.root.weight


def svg(flames: Flames, title: str) -> bytes:
    """The flame graph, widest first; boxes narrower than a pixel are left out. No scripts: a report may embed it."""
    boxes = list(_boxes(flames.root, 0.0, 0))
    depth = max((level for _, _, _, level in boxes), default=0)
    height = (depth + 1) * ROW + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height}" font-family="monospace" '
        f'font-size="11"><title>{escape(title)}</title><text x="4" y="16" font-size="13">{escape(title)}</text>'
    ]
    for box, x, width, level in boxes:
        y = 28 + level * ROW
        share = box.weight / flames.root.weight
        words = f"{box.name} - {share:.1%}"
        fill = f"hsl({20 + sum(map(ord, box.name)) % 40},80%,70%)"
        parts.append(f'<g><title>{escape(words)}</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" '
                     f'height="{ROW - 1}" fill="{fill}"/>')  # fmt: skip
        room = int(width / 6.8)
        if room >= 4:
            text = box.name if len(box.name) <= room else box.name[: room - 1] + "…"
            parts.append(f'<text x="{x + 2:.1f}" y="{y + 11}">{escape(text)}</text>')
        parts.append("</g>")
    return ("".join(parts) + "</svg>").encode()


def _boxes(root: Box, left: float, level: int) -> Iterator[tuple[Box, float, float, int]]:
    """(box, x, width, level), depth first; without recursion: stacks of C++ may be deep."""
    todo = [(root, left, level)]
    while todo:
        box, x, depth = todo.pop()
        width = box.weight / root.weight * WIDTH
        if width < MIN_PX:
            continue
        yield box, x, width, depth
        for child in sorted(box.below.values(), key=lambda it: (-it.weight, it.name)):
            todo.append((child, x, depth + 1))
            x += child.weight / root.weight * WIDTH
