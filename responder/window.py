"""What does a stored metrics window hold? Signals of one server on one time grid, as a compact file and back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from responder.model import Series

Rows = Sequence[tuple[Mapping[str, str], Sequence[tuple[float, float | None]]]]
"""What a range query answers: labels and (unix seconds, value or None) per series."""
Values = tuple[float | None, ...]

_SUMMED = frozenset(
    {"running", "waiting", "waiting_deferred", "in_flight", "progress", "progress_total", "prompt_computed_total"}
    | {"preemptions", "restarts"}
)
_WORST_IS_LOW = frozenset({"prefix_hit_rate", "prefix_hit_share", "spec_acceptance", "up"})
SCRAPED_AT = "scraped_at"
"""When the sample behind each grid point was scraped: two grid points may show one scrape."""
COMPUTED = "prompt_computed_total"
"""Prompt tokens computed since the server started."""
UNTOLD = (SCRAPED_AT, COMPUTED)
"""What other statistics rest on, and says nothing as a curve."""


def aggregate_of(signal: str) -> str:
    """How values of several engines become one of the server: amounts add up, of the rest the worst one counts."""
    if signal in _WORST_IS_LOW:
        return "min"
    if signal in _SUMMED or signal.endswith(("_rate", "_samples")):
        return "sum"
    return "max"


def unit_of(signal: str) -> str:
    """Unit of a signal's value, by the naming convention of `rules/signals.yaml`."""
    if signal in ("prefix_hit_rate",) or signal.endswith(("_usage", "_share", "_acceptance", "_busy")):
        return "share"
    if signal in ("prompt_token_rate", "prompt_computed_rate", "generation_rate", "generation_minute_rate"):
        return "tokens/s"
    if signal.endswith("_rate"):
        return "/s"
    if signal in ("running", "waiting", "waiting_deferred", "in_flight", "queue_joined"):
        return "requests"
    if signal == "itl_stops_apart":
        return "turns"
    if signal.startswith(("ttft_", "itl_", "queue_", "prefill_", "decode_", "e2e_")):
        if signal.endswith(("_gaps", "_recur")):
            return "tokens"
        times = ("_ratio", "_growth", "_grown", "_written", "_noticed", "_beyond")
        return "" if signal.endswith(("_samples", "_settled", *times)) else "s"
    if signal in ("dcgm_gpu_power", "dcgm_gpu_util", "dcgm_mem_util"):
        return "W" if signal == "dcgm_gpu_power" else "%"
    if signal in ("api_server_cpu", "api_server_cpu_recent"):
        return "cores"
    if signal in ("scrape_seconds", "scrape_tail_s", "scrape_mid_s"):
        return "s"
    return ""


@dataclass(frozen=True)
class Window:
    """Signals on the grid `start + i * step`; None is a gap or NaN."""

    start: float
    step: float
    length: int
    onset_at: float
    interval: float
    signals: Mapping[str, Values] = field(default_factory=dict)
    engines: Mapping[str, Mapping[str, Values]] = field(default_factory=dict)
    """Signal -> engine -> values; only when there is more than one engine."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Signals whose query failed, and why: they are unknown, not absent."""
    asked: tuple[str, ...] = ()
    ours: tuple[tuple[float, float], ...] = ()
    """Since when and until when a capture of our own disturbed the server: what it did then says nothing of it."""

    @property
    def end(self) -> float:
        """Time of the last grid point."""
        return self.start + (self.length - 1) * self.step

    def at(self, index: int) -> float:
        """Time of a grid point."""
        return self.start + index * self.step

    def disturbed(self, at: float) -> bool:
        """Whether a capture of our own shows in this moment."""
        return any(since <= at <= until for since, until in self.ours)

    def points(self, signal: str, since: float, until: float) -> list[tuple[float, float]]:
        """Known (time, value) pairs of a signal in a closed interval."""
        values = self.signals.get(signal, ())
        # A point more on either side, so that rounding decides nothing; the comparison does.
        first = max(0, math.floor((since - self.start) / self.step) - 1) if math.isfinite(since) else 0
        last = (
            min(len(values), math.ceil((until - self.start) / self.step) + 2) if math.isfinite(until) else len(values)
        )
        start, step = self.start, self.step
        found = [
            (at, value)
            for index, value in enumerate(values[first : max(0, last)], first)
            if value is not None and since <= (at := start + index * step) <= until
        ]
        return [point for point in found if not self.disturbed(point[0])] if self.ours else found


def gather(window: Window, answers: Mapping[str, Rows], match: Mapping[str, str]) -> Window:
    """Put the answers of all queries on the grid, keeping only this server's series."""
    signals: dict[str, Values] = {}
    engines: dict[str, dict[str, Values]] = {}
    for signal, rows in answers.items():
        mine = [(labels, points) for labels, points in rows if _belongs(signal, labels, match)]
        if not mine:
            continue
        how = "max" if signal == SCRAPED_AT else aggregate_of(signal)
        by_engine: dict[str, list[Values]] = {}
        for engine, same in _alike(mine).items():
            # One engine may be there twice: two that scrape it, in a store that keeps what both say.
            rows_once = [_merged([_on_grid(window, points) for points in series], "max" if how == "sum" else how)
                         for series in same]  # fmt: skip
            by_engine[engine] = rows_once
        signals[signal] = _merged([values for rows_ in by_engine.values() for values in rows_], how)
        if len(by_engine) > 1:
            engines[signal] = {engine: _merged(by_engine[engine], how) for engine in sorted(by_engine)}
    return replace(window, signals=signals, engines=engines)


def _alike(rows: Rows) -> dict[str, list[list[Sequence[tuple[float, float | None]]]]]:
    """Engine -> series of each model, those of one model and engine together."""
    found: dict[str, dict[str, list[Sequence[tuple[float, float | None]]]]] = {}
    for labels, points in rows:
        models = found.setdefault(labels.get("engine", ""), {})
        models.setdefault(labels.get("model_name", ""), []).append(points)
    return {engine: list(models.values()) for engine, models in found.items()}


def _belongs(signal: str, labels: Mapping[str, str], match: Mapping[str, str]) -> bool:
    if signal.startswith("dcgm_") and "instance" in match:
        # The GPU exporter has a port, so an instance, of its own; the host is what both share.
        return host_of(labels.get("instance", "")) == host_of(match["instance"])
    return all(labels.get(name) == value for name, value in match.items())


def host_of(instance: str) -> str:
    """The host of `host:port`, `[v6]:port` or of a bare host name."""
    host, colon, port = instance.rpartition(":")
    return (host if colon and port.isdigit() else instance).strip("[]")


def _on_grid(window: Window, points: Iterable[tuple[float, float | None]]) -> Values:
    values: list[float | None] = [None] * window.length
    for at, value in points:
        index = round((at - window.start) / window.step)
        if 0 <= index < window.length and value is not None and math.isfinite(value):
            values[index] = value
    return tuple(values)


def _merged(rows: Sequence[Values], how: str) -> Values:
    if len(rows) == 1:
        return rows[0]
    out: list[float | None] = []
    for column in zip(*rows, strict=True):
        known = [value for value in column if value is not None]
        out.append(_one(known, how) if known else None)
    return tuple(out)


def _one(known: Sequence[float], how: str) -> float:
    if how == "sum":
        return math.fsum(known)
    return max(known) if how == "max" else min(known)


# ---------------------------------------------------------------------------------------------------- to file and back


def encode(window: Window) -> bytes:
    """One JSON object, one line per signal; values to 7 significant digits (unix times to milliseconds)."""
    head = {
        "version": 1,
        "start": window.start,
        "step": window.step,
        "length": window.length,
        "onset_at": window.onset_at,
        "interval": window.interval,
        "failed": dict(sorted(window.failed.items())),
        "asked": list(window.asked),
    }
    if window.ours:
        head["ours"] = [list(span) for span in window.ours]
    lines = [json.dumps(head)[:-1]]
    lines.append(', "signals": {\n' + ",\n".join(_row(name, v) for name, v in sorted(window.signals.items())) + "}")
    nested = (
        f"{json.dumps(signal)}: {{" + ",\n ".join(_row(engine, v) for engine, v in rows.items()) + "}"
        for signal, rows in sorted(window.engines.items())
    )
    lines.append(', "engines": {\n' + ",\n".join(nested) + "}}\n")
    return "\n".join(lines).encode()


def _row(name: str, values: Values) -> str:
    return f"{json.dumps(name)}: [{','.join(_short(value) for value in values)}]"


def _short(value: float | None) -> str:
    if value is None:
        return "null"
    return f"{value:.3f}" if value > 1e8 else f"{value:.7g}"


def decode(raw: bytes) -> Window | None:
    """The window a file holds; None when it is no such file."""
    try:
        value: dict[str, Any] = json.loads(raw)
        length = int(value["length"])
        return Window(
            start=float(value["start"]),
            step=float(value["step"]),
            length=length,
            onset_at=float(value["onset_at"]),
            interval=float(value["interval"]),
            signals={name: _values(row, length) for name, row in value["signals"].items()},
            engines={
                name: {engine: _values(row, length) for engine, row in rows.items()}
                for name, rows in value["engines"].items()
            },
            failed=dict(value["failed"]),
            asked=tuple(value["asked"]),
            ours=tuple((float(since), float(until)) for since, until in value.get("ours", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _values(row: Sequence[float | None], length: int) -> Values:
    if len(row) != length:
        raise ValueError("a row does not fit the grid")
    return tuple(None if value is None else float(value) for value in row)


def series_of(raw: bytes) -> tuple[Series, ...]:
    """Every signal of a stored window as a series for charts, engines after their sum; () for anything else."""
    window = decode(raw)
    if window is None:
        return ()
    times = [window.at(index) for index in range(window.length)]
    out: list[Series] = []
    for signal, values in window.signals.items():
        if signal in UNTOLD:
            continue
        rows = {"": values} | {f"engine {name}": row for name, row in window.engines.get(signal, {}).items()}
        for label, row in rows.items():
            points = tuple(zip(times, row, strict=True))
            out.append(Series(signal=signal, label=label, unit=unit_of(signal), points=points))
    return tuple(out)


def grid(start: float, end: float, interval: float, max_points: int) -> tuple[float, int]:
    """(step, length) that covers an interval with about one point per scrape and at most `max_points`."""
    step = max(interval, math.ceil((end - start) / max_points * 10) / 10, 0.1)
    return step, int((end - start) / step + 1e-6) + 1
