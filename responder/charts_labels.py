"""Where may a word stand in a chart so that it covers neither another word nor the line it speaks of?

Pure: rectangles in points from the lower left of the picture, as (left, bottom, right, top).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Box = tuple[float, float, float, float]
Point = tuple[float, float]
BETWEEN = 2.0
"""Between two words, at least."""
STRIDE = 1.5
"""How finely a line is followed."""


def overlap(one: Box, other: Box, apart: float = 0.0) -> bool:
    """Whether two boxes share ground, or are nearer to each other than this."""
    return (
        one[0] < other[2] + apart
        and other[0] < one[2] + apart
        and one[1] < other[3] + apart
        and other[1] < one[3] + apart
    )


@dataclass
class Room:
    """What stands in a chart already."""

    frame: Box
    """Where words may stand at all."""
    lines: list[Point] = field(default_factory=list)
    """Points along the drawn lines, close together."""
    words: list[Box] = field(default_factory=list)

    def follow(self, corners: Sequence[Point]) -> None:
        """Keep words off this line."""
        for (x0, y0), (x1, y1) in pairwise(corners):
            steps = max(1, int(max(abs(x1 - x0), abs(y1 - y0)) / STRIDE))
            self.lines += [(x0 + (x1 - x0) * n / steps, y0 + (y1 - y0) * n / steps) for n in range(steps + 1)]

    def free(self, box: Box) -> bool:
        """Whether a box lies within the frame and on no other word."""
        inside = (
            self.frame[0] <= box[0]
            and self.frame[1] <= box[1]
            and box[2] <= self.frame[2]
            and box[3] <= self.frame[3]
        )  # fmt: skip
        return inside and not any(overlap(box, other, BETWEEN) for other in self.words)

    def take(self, candidates: Iterable[Box], needed: bool = False) -> Box | None:
        """The candidate that covers least of the lines, the earlier of equals, and takes its place.

        None when all lie on words or outside; if the word is `needed`, the first candidate then.
        """
        listed = list(candidates)
        fitting = [box for box in listed if self.free(box)]
        chosen = min(fitting, key=self._covered) if fitting else listed[0] if needed else None
        if chosen is not None:
            self.words.append(chosen)
        return chosen

    def _covered(self, box: Box) -> int:
        return sum(box[0] - 1 <= x <= box[2] + 1 and box[1] - 1 <= y <= box[3] + 1 for x, y in self.lines)


def apart(wanted: Sequence[float], heights: Sequence[float], lowest: float, highest: float) -> list[float]:
    """Middles of labels beside a line's end, near where they are wanted and never on each other; in rising order.

    `wanted` rises. Labels that would leave at the top push the ones below down.
    """
    middles: list[float] = []
    floor = lowest
    for middle, height in zip(wanted, heights, strict=True):
        middles.append(max(middle, floor + height / 2))
        floor = middles[-1] + height / 2
    ceiling = highest
    for n in reversed(range(len(middles))):
        middles[n] = min(middles[n], ceiling - heights[n] / 2)
        ceiling = middles[n] - heights[n] / 2
    return middles
