"""How are a trace's times and shares written?"""

from __future__ import annotations


def ms(value: float | None) -> str:
    """Milliseconds with the digits that matter."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def percent(value: float | None) -> str:
    """A share in percent."""
    return "-" if value is None else f"{value * 100:.1f} %"
