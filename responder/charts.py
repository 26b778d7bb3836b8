"""What do the decisive signals look like? Drawn in a child process, so that the daemon never loads matplotlib.

`draw` picks the signals and hands plain JSON to `python -m responder.charts FOLDER`, which writes NAME.svg and
NAME.png there. No chart is worth a report: whatever fails here is logged and leaves charts out.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

import structlog

from responder.model import Report, Rule, Series, Symptom
from responder.report_signals import signal_words
from responder.report_words import plain
from responder.scenes import scenes
from responder.words import ENGLISH, Language, say, speaking

FELL_BACK = "in-english"
MOST_CHARTS = 6
FEWEST_CHARTS = 4
USUAL = ("running", "waiting", "kv_usage", "generation_rate", "ttft_p99", "itl_p99")
"""What a woken person looks at when nothing more telling is known, as in a hang."""
MOST_LINES = 4
MOST_POINTS = 720
BASELINE_S = 600.0
BASELINE_END_S = 20.0
BASELINE_POINTS = 5
PACKAGE = str(Path(__file__).resolve().parent.parent)
PASSED_ON = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
"""Environment of the drawing process; it has no business with our tokens."""
SAFE_NAME = re.compile(r"[^A-Za-z0-9_-]+")
SIGNAL_OF_FACT = re.compile(r"^metrics\.([a-z0-9_]+)\.[a-z0-9_]+$")


async def draw(
    report: Report, folder: Path, timeout: float = 20.0, cache: Path | None = None, spoken: Language = ENGLISH
) -> dict[str, str]:
    """Draw the decisive signals into `folder`; name -> SVG text in reading order, NAME.png lies in the folder too.

    Never raises, at worst draws none; what an earlier revision left in the folder is never passed off as this one's.
    `cache` is where matplotlib may keep its font list, if its usual place cannot be written.
    """
    log = structlog.get_logger().bind(incident=report.incident.id)
    wanted = {}
    for tongue in {spoken.code: spoken, ENGLISH.code: ENGLISH}.values():
        with speaking(tongue):
            wanted[tongue.code] = specs(report)
    names = [spec["name"] for spec in wanted[spoken.code]]
    if not names:
        return {}
    drawn: dict[str, str] = {}
    try:
        fresh = await asyncio.to_thread(_workplace, folder)
        try:
            whole = {"language": spoken.code, "charts": wanted}
            error = await _child(json.dumps(whole).encode(), fresh, timeout, cache)
            drawn = await asyncio.to_thread(_publish, fresh, folder, names)
        finally:
            await asyncio.to_thread(shutil.rmtree, fresh, True)
    except (OSError, ValueError) as problem:
        error = str(problem)
    if error:
        log.warning("charts.failed", reason=error, drawn=len(drawn))
    return drawn


def _workplace(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=".drawing-", dir=folder))


def in_english(folder: Path) -> bool:
    """Whether the charts of a folder are in English for want of a font for their language."""
    return (folder / FELL_BACK).is_file()


def _publish(fresh: Path, folder: Path, names: list[str]) -> dict[str, str]:
    """Move what was drawn into place, and drop the charts of an earlier revision that it replaces."""
    drawn: dict[str, str] = {}
    (folder / FELL_BACK).unlink(missing_ok=True)
    if (fresh / FELL_BACK).is_file():
        (fresh / FELL_BACK).replace(folder / FELL_BACK)
    for name in names:
        svg, png = fresh / f"{name}.svg", fresh / f"{name}.png"
        if svg.is_file() and png.is_file():
            drawn[name] = svg.read_text(encoding="utf-8")
            svg.replace(folder / svg.name)
            png.replace(folder / png.name)
    if drawn:
        for old in folder.iterdir():
            if old.suffix in (".svg", ".png") and old.stem not in drawn:
                old.unlink(missing_ok=True)
    return drawn


async def _child(payload: bytes, folder: Path, timeout: float, cache: Path | None) -> str:
    """Run the drawing process; '' or why it failed."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment |= {
        "MPLBACKEND": "Agg",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([PACKAGE, *sys.path]),
    }
    if cache is not None:
        environment["MPLCONFIGDIR"] = str(cache)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "responder.charts", str(folder), env=environment,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout):
            _, stderr = await child.communicate(payload)
    except TimeoutError:
        return f"not drawn within {timeout:g} s"
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode == 0:
        return ""
    words = stderr[-4000:].decode(errors="replace").strip().splitlines()
    return f"exit {child.returncode}: {plain(words[-1] if words else 'no words', 300)}"


def specs(report: Report) -> list[dict[str, Any]]:
    """What to draw, as plain JSON: at most six charts."""
    incident = report.incident
    marks = {
        "onset": incident.onset_at,
        "alert": incident.opened_at,
        "resolved": incident.resolved_at,
        "captures": [
            [e.started_at, e.started_at + max(e.seconds, 0.0), plain(e.step, 24)]
            for e in report.evidence
            if e.rung >= 1
        ],
    }
    out: list[dict[str, Any]] = scenes(report)
    for number, signal in enumerate(decisive(report), 1):
        lines = _lines([s for s in report.series if s.signal == signal and _drawable(s)])
        out.append(
            {
                "kind": "curves",
                "name": f"{number}-{SAFE_NAME.sub('-', signal)[:60].strip('-') or 'signal'}",
                "title": plain(signal_words(signal), 60),
                "unit": lines[0].unit,
                "threshold": next((s.threshold for s in lines if s.threshold is not None), None),
                "band": band(lines[0], incident.onset_at) if len(lines) == 1 else None,
                "lines": [{"label": plain(s.label, 30) or say("chart.all"), "points": _thin(s.points)} for s in lines],
                **marks,
            }
        )
    return out


def _lines(rows: list[Series]) -> list[Series]:
    """The server as a whole; a few engines are shown beside it, one engine would say the same twice."""
    whole = [row for row in rows if not row.label.startswith("engine ")]
    engines = [row for row in rows if row.label.startswith("engine ")]
    shown = engines if len(engines) > 1 and len(whole) + len(engines) <= MOST_LINES else []
    return (whole + shown or engines)[:MOST_LINES]


def decisive(report: Report) -> list[str]:
    """The signals that opened the incident, then those behind the leading cause, then the usual ones up to four."""
    drawable = list(dict.fromkeys(series.signal for series in report.series if _drawable(series)))
    symptoms = [series.signal for series in report.series if series.threshold is not None]
    findings: list[str] = []
    if report.verdict.hypotheses:
        lead = report.verdict.hypotheses[0]
        for finding in lead.supports + lead.contradicts:
            findings += [got[1] for fact in finding.facts if (got := SIGNAL_OF_FACT.match(fact.name))]
    chosen = [signal for signal in dict.fromkeys(symptoms + findings) if signal in drawable][:MOST_CHARTS]
    rest = [signal for signal in USUAL if signal in drawable] or drawable
    return chosen + [signal for signal in rest if signal not in chosen][: max(0, FEWEST_CHARTS - len(chosen))]


def with_limits(series: Iterable[Series], symptoms: Iterable[Symptom], rules: Iterable[Rule]) -> tuple[Series, ...]:
    """The series with the limit of the symptom each of them opened: this is what marks them as decisive."""
    first = {rule.alert: rule.terms[0].signal for rule in rules if rule.terms}
    limits: dict[str, float] = {}
    for symptom in symptoms:
        signal = first.get(symptom.alert)
        if signal is not None and symptom.threshold is not None:
            limits.setdefault(signal, symptom.threshold)
    order = list(limits)
    out = [s.model_copy(update={"threshold": limits[s.signal]}) if s.signal in limits else s for s in series]
    return tuple(sorted(out, key=lambda s: order.index(s.signal) if s.signal in limits else len(order)))


def band(series: Series, onset: float) -> list[float] | None:
    """Between which values the signal usually was (10th to 90th percentile before the onset); None if too few."""
    usual = [v for at, v in series.points if v is not None and onset - BASELINE_S <= at <= onset - BASELINE_END_S]
    usual = [value for value in usual if math.isfinite(value)]
    if len(usual) < BASELINE_POINTS:
        return None
    deciles = quantiles(usual, n=10, method="inclusive")
    return [deciles[0], deciles[-1]]


def _drawable(series: Series) -> bool:
    return sum(value is not None and math.isfinite(value) for _, value in series.points) >= 2


def _thin(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """At most MOST_POINTS points; of each stretch the extreme one stays, and gaps stay gaps."""
    finite = [(at, v if v is not None and math.isfinite(v) else None) for at, v in points]
    size = -(-len(finite) // MOST_POINTS)
    if size <= 1:
        return finite
    out = []
    for start in range(0, len(finite), size):
        part = finite[start : start + size]
        known = [point for point in part if point[1] is not None]
        out.append(max(known, key=lambda point: point[1] or 0.0) if known else part[0])
    return out


if __name__ == "__main__":
    from responder.charts_draw import main

    main()
