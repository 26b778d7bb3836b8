"""What would the daemon have made of these series? A private Prometheus holds them, the whole chain runs over them."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from responder.authoring import series
from responder.authoring.climb import climbed
from responder.authoring.judge import Came, of_report
from responder.authoring.silence import why_silent
from responder.authoring.testfile import CasePart
from responder.backtest.past import Past
from responder.backtest.run import Backtest, Wish
from responder.capture import STEPS
from responder.capture.step import Step
from responder.metrics import Prometheus
from responder.model import Content
from responder.prometheus_child import PrivatePrometheus, find_binary
from responder.replay import replay

FIRST_AT = 1_700_000_000.0
APART_S = 86_400.0
"""Between the histories of two cases, so that no window sees both."""
FOREVER = "100y"
BACKFILL_TIMEOUT_S = 60.0
QUERY_TIMEOUT_S = 20.0


async def came_of(cases: Sequence[CasePart], content: Content, scratch: Path) -> list[Came]:
    """What each case with `series` led to, in order. PrometheusMissing without the binaries; ValueError in words."""
    written = [rows_of(case) for case in cases]
    lengths = [max(len(samples) for _, _, samples in rows) for rows in written]
    text = "".join(
        series.openmetrics(rows, FIRST_AT + number * APART_S, case.interval).removesuffix("# EOF\n")
        for number, (case, rows) in enumerate(zip(cases, written, strict=True))
    )
    async with _prometheus(_sorted_by_metric(text), scratch) as url:
        prometheus = Prometheus(url, timeout_s=QUERY_TIMEOUT_S, headers={})
        try:
            return [
                await _one(
                    case, Past(prometheus), content, FIRST_AT + n * APART_S, case.interval * length, scratch / str(n)
                )
                for n, (case, length) in enumerate(zip(cases, lengths, strict=True))
            ]
        finally:
            prometheus.close()


def rows_of(case: CasePart) -> list[tuple[str, dict[str, str], list[float | None]]]:
    """The series of a case. ValueError names the one that is wrong."""
    return [(*series.name_of(part.series), series.values(part.values)) for part in case.series]


async def _one(
    case: CasePart, past: Past, content: Content, start: float, length_s: float, folder: Path
) -> Came:  # fmt: skip
    try:
        found = await Backtest(past, content, Wish(start, start + length_s, folders=folder)).run()
    except ValueError as nothing:
        raise ValueError(f"{nothing}; every server of a case needs its `vllm:num_requests_running`") from None
    steps: Mapping[str, Step] = STEPS
    reports = [replay(path, steps, content) for path in await asyncio.to_thread(_folders, folder)]
    found.spool.close()
    if not reports:
        given = {series.name_of(part.series)[0] for part in case.series}
        why, doubts = await why_silent(past, content, (start, start + length_s, case.interval), given, case.expect)
        return Came(why_silent=why, wrong=doubts if case.expect.silent else ())
    first = min(reports, key=lambda report: report.incident.opened_at)
    seen = {item.step: item for item in first.evidence}
    plan = climbed(first.incident, content, steps, list(seen.values()), case.max_rung)
    return replace(of_report(first, since=start), plan=plan)


def _folders(root: Path) -> list[Path]:
    return [path.parent for path in sorted(root.glob("**/manifest.json"))]


def _sorted_by_metric(text: str) -> str:
    """One block per metric name, which OpenMetrics asks for."""
    blocks: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name = line.split(" ", 3)[2]
            lines = blocks.setdefault(name, [line])
        elif line:
            lines.append(line)
    return "\n".join([line for name in sorted(blocks) for line in blocks[name]] + ["# EOF", ""])


@asynccontextmanager
async def _prometheus(text: str, scratch: Path) -> AsyncIterator[str]:
    """A Prometheus that holds nothing but these samples; its URL."""
    file = scratch / "series.om"
    file.write_text(text)
    folder = scratch / "prometheus"
    folder.mkdir()
    argv = [find_binary("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(file), str(folder / "tsdb")]
    done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, timeout=BACKFILL_TIMEOUT_S)
    if done.returncode != 0:
        raise ValueError(f"the series cannot be stored: {done.stderr.strip()[-500:]}")
    server = PrivatePrometheus(folder, [], 5.0, retention=FOREVER)
    try:
        await server.start()
        yield server.url
    finally:
        await server.stop()
