"""How does a trace look? Small SVG pictures from the views; colours come from the page's style and follow its theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Protocol

from responder.traces.kernels import CATEGORIES, short
from responder.traces.numbers import ms, percent

if TYPE_CHECKING:
    from responder.traces.views import Category, Gaps, Layers

WIDTH = 1000
MAX_BARS = 600

_PALETTE = {
    "attention": "c1", "kv_cache": "c7", "gemm": "c2", "moe": "c6", "mamba": "c6", "norm_activation": "c3",
    "rope": "c7", "quantization": "c7", "sampling": "c5", "embedding": "c7", "elementwise": "c7", "bookkeeping": "c7",
    "collective": "c4", "memcpy_h2d": "c8", "memcpy_d2h": "c8", "memcpy_d2d": "c8", "memset": "c8", "other": "c9",
}  # fmt: skip


class Bar(Protocol):
    """A step as far as it is drawn: the trace engine's, or a report's."""

    @property
    def index(self) -> int:
        """Its number in the trace."""

    @property
    def kind(self) -> str:
        """prefill, decode, mixed, empty, other."""

    @property
    def ms(self) -> float:
        """To the next step's start."""

    @property
    def gpu_ms(self) -> float:
        """The GPU busy with its work."""


def colour(category: str) -> str:
    """Style class of a category."""
    return _PALETTE.get(category, "c9")


def _svg(height: int, inside: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label, quote=True)}" '
        f'preserveAspectRatio="none" style="height:{height}px">{"".join(inside)}</svg>'
    )


def step_timeline(rows: Sequence[Bar], slow: Mapping[int, str]) -> str:
    """One bar per step: height its duration, colour its kind, the GPU-busy part solid. `slow`: index -> words."""
    if not rows:
        return ""
    shown = _thin(rows)
    height, top = 180, 12
    longest = max(row.ms for row in shown) or 1.0
    usual = sorted(row.ms for row in shown)[len(shown) // 2] or longest
    # a linear scale would flatten every usual step beside one of thirty times their length
    scale = (height - top) / _root(longest)
    parts = []
    pitch = WIDTH / len(shown)
    wide = max(pitch * 0.8, 0.5)
    for place, row in enumerate(shown):
        tall = max(_root(row.ms) * scale, 1.0)
        busy = min(row.gpu_ms / row.ms, 1.0) if row.ms else 0.0
        x, y = place * pitch, height - tall
        words = slow.get(row.index) or f"step {row.index} ({row.kind}): {ms(row.ms)} ms, GPU {ms(row.gpu_ms)} ms"
        mark = " slow" if row.index in slow else ""
        parts.append(
            f'<g class="step {row.kind}{mark}"><title>{escape(words)}</title>'
            f'<rect class="whole" x="{x:.2f}" y="{y:.2f}" width="{wide:.2f}" height="{tall:.2f}"/>'
            f'<rect class="gpu" x="{x:.2f}" y="{height - tall * busy:.2f}" width="{wide:.2f}" '
            f'height="{tall * busy:.2f}"/></g>'
        )
    line = height - _root(usual) * scale
    parts.append(f'<line class="usual" x1="0" x2="{WIDTH}" y1="{line:.2f}" y2="{line:.2f}"/>')
    return _svg(height, parts, f"{len(rows)} steps, median {ms(usual)} ms, longest {ms(longest)} ms")


def _root(value: float) -> float:
    return float(max(value, 0.0) ** 0.5)


def _thin(rows: Sequence[Bar]) -> list[Bar]:
    """At most MAX_BARS bars; each stands for the slowest step of its stretch."""
    if len(rows) <= MAX_BARS:
        return list(rows)
    every = -(-len(rows) // MAX_BARS)
    return [max(rows[at : at + every], key=lambda row: row.ms) for at in range(0, len(rows), every)]


def bars(rows: Sequence[tuple[str, float, str, str]], label: str) -> str:
    """Labelled horizontal bars: (name, value, words, style class)."""
    largest = max((value for _, value, _, _ in rows), default=0.0) or 1.0
    lines = [
        f'<div class="bar"><span class="name" title="{escape(name, quote=True)}">{escape(name)}</span>'
        f'<span class="track"><span class="fill {style}" style="width:{100 * value / largest:.2f}%"></span></span>'
        f'<span class="value">{escape(words)}</span></div>'
        for name, value, words, style in rows
    ]
    return f'<div class="bars" role="img" aria-label="{escape(label, quote=True)}">{"".join(lines)}</div>'


def category_bars(rows: Sequence[Category]) -> str:
    """Time by kind of work."""
    return bars(
        [
            (
                CATEGORIES.get(row.name, row.name),
                row.wall_ms,
                f"{ms(row.wall_ms)} ms · {percent(row.share)}",
                colour(row.name),
            )
            for row in rows
            if row.wall_ms > 0
        ],
        "time by kind of work",
    )


def gap_bars(gaps: Gaps) -> str:
    """Idle time by what the CPU did."""
    return bars(
        [(row.cause, row.ms, f"{ms(row.ms)} ms · {percent(row.share)}", "idle") for row in gaps.causes],
        "idle time by what the CPU did",
    )


def layer_bars(layers: Layers) -> str:
    """One column per layer, attention below, MLP above; those unlike their siblings marked."""
    height = 120
    largest = max((row.total_us for row in layers.layers), default=0.0) or 1.0
    pitch = WIDTH / max(len(layers.layers), 1)
    parts = []
    for place, row in enumerate(layers.layers):
        tall = row.total_us / largest * (height - 4)
        wide = pitch * 0.8
        low = (row.attention_us or 0.0) / largest * (height - 4)
        x = place * pitch
        words = f"layer {row.index}: {ms(row.total_us)} us, attention {ms(row.attention_us)}, MLP {ms(row.mlp_us)}"
        mark = " slow" if row.index in layers.unlike else ""
        parts.append(
            f'<g class="layer{mark}"><title>{escape(words)}</title>'
            f'<rect class="mlp" x="{x:.2f}" y="{height - tall:.2f}" width="{wide:.2f}" height="{tall:.2f}"/>'
            f'<rect class="attention" x="{x:.2f}" y="{height - low:.2f}" width="{wide:.2f}" height="{low:.2f}"/></g>'
        )
    return _svg(height, parts, layers.says)


def name(kernel: str) -> str:
    """A kernel's short name for a cell, the whole one on hover."""
    return f'<span title="{escape(kernel, quote=True)}">{escape(short(kernel, 70))}</span>'
