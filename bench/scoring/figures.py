"""What do counted verdicts amount to? Intervals, macro-F1, calibration; plain arithmetic."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

Z95 = 1.959964


def wilson(right: int, of: int) -> tuple[float, float]:
    """95 % interval of a share; (0, 1) of nothing."""
    if of == 0:
        return 0.0, 1.0
    share, z2 = right / of, Z95 * Z95
    centre = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z95 * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    return max(0.0, centre - half), min(1.0, centre + half)


def share(right: int, of: int) -> str:
    """`0.92 [0.85, 0.96] 46/50`."""
    if of == 0:
        return "– (no case)"
    low, high = wilson(right, of)
    return f"{right / of:.2f} [{low:.2f}, {high:.2f}] {right}/{of}"


def poisson_upper(events: int) -> float:
    """One-sided 95 % upper bound of the mean of a Poisson count: 3.0 for none seen."""
    low, high = float(events), events + 10.0 + 5 * math.sqrt(events + 1)
    for _ in range(100):
        middle = (low + high) / 2
        seen = sum(math.exp(-middle + k * math.log(middle) - math.lgamma(k + 1)) for k in range(events + 1))
        low, high = (middle, high) if seen > 0.05 else (low, middle)
    return (low + high) / 2


def macro_f1(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Mean F1 over the true causes; pairs: (truth, said)."""
    truths = sorted({truth for truth, _ in pairs})
    if not truths:
        return None
    scores = []
    for cause in truths:
        hit = sum(truth == said == cause for truth, said in pairs)
        said_so = sum(said == cause for _, said in pairs)
        was_so = sum(truth == cause for truth, _ in pairs)
        scores.append(2 * hit / (said_so + was_so))
    return sum(scores) / len(scores)


def brier(sure: Sequence[tuple[float, bool]]) -> float | None:
    """Mean squared distance of the leading probability from what was so."""
    return sum((p - right) ** 2 for p, right in sure) / len(sure) if sure else None


def reliability(sure: Sequence[tuple[float, bool]], bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean probability, share right, count) of bins of equal mass."""
    ordered = sorted(sure, key=lambda said: said[0])  # not by outcome: ties would look dishonest
    out = []
    for number in range(bins):
        part = ordered[number * len(ordered) // bins : (number + 1) * len(ordered) // bins]
        if part:
            mean = sum(p for p, _ in part) / len(part)
            out.append((mean, sum(right for _, right in part) / len(part), len(part)))
    return out


def ece(sure: Sequence[tuple[float, bool]], bins: int = 10) -> float | None:
    """Expected calibration error over bins of equal mass; of a few cases it is noise, and the caller says how many."""
    if not sure:
        return None
    return sum(abs(p - right) * count for p, right, count in reliability(sure, bins)) / len(sure)


def ece_by_chance(sure: Sequence[tuple[float, bool]], bins: int = 10, draws: int = 2000) -> tuple[float, float] | None:
    """(mean, 95th percentile) of the ECE that so many verdicts with these probabilities have when every probability is
    exactly true: below the second is no evidence of dishonesty. None of nothing; the same numbers each time."""
    if not sure:
        return None
    dice = random.Random(len(sure))
    errors = sorted(ece([(p, dice.random() < p) for p, _ in sure], bins) or 0.0 for _ in range(draws))
    return sum(errors) / draws, errors[int(0.95 * draws)]


def calibration(sure: Sequence[tuple[float, bool]]) -> str:
    """The ECE with what chance alone would make of it."""
    error, chance = ece(sure), ece_by_chance(sure)
    if error is None or chance is None:
        return "–"
    return f"{error:.3f} of {len(sure)} (honest ones: {chance[0]:.3f}, up to {chance[1]:.3f})"


def quantile(values: Sequence[float], q: float) -> float | None:
    """Nearest rank."""
    return sorted(values)[min(len(values) - 1, int(q * len(values)))] if values else None


def draw(sure: Sequence[tuple[float, bool]], path: str) -> None:
    """The reliability plot as SVG or PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(4, 4))
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    for p, right, count in reliability(sure):
        axes.plot([p], [right], "o", color="C0", markersize=4 + math.sqrt(count))
    axes.set(
        xlabel="probability said", ylabel="share right", title=f"{len(sure)} verdicts", xlim=(0, 1), ylim=(0, 1.02)
    )
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
