"""The report page of real recorded incidents, in a real Chromium: on every screen, in both themes, and on paper.

RESPONDER_SCREENSHOTS=folder keeps the pictures.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

import msgspec
import pytest

from responder import charts
from responder.model import Report
from responder.report import to_html
from responder.traces.engine import run
from responder.traces.shown import views
from tests.replayed import RECORDED, replayed
from tests.sample_report import sample
from tests.traces import real
from tests.web.chromium import AXE, Tab, binary, tab
from tests.web.fits import JUDGED, MET, OVERFLOW, SCREENS, SHIFT, THEMES

pytestmark = [
    pytest.mark.skipif(not AXE.is_file(), reason="no axe-core: scripts/setup-chromium could not bring it"),
    pytest.mark.skipif(binary() is None, reason="no Chromium: scripts/setup-chromium could not bring it"),
    pytest.mark.timeout(400),
]
DRAWN = ("h200_tp2_rank_stopped",)
"""With charts and who waits for whom: drawing takes seconds."""
PAPER = (794, 1123)
"""A4 in CSS pixels."""


async def page_of(report: Report, folder: Path) -> Path:
    """The self-contained file; with its charts, where it has nothing else to draw."""
    drawn = {} if report.traces else await charts.draw(report, folder / "charts", 60.0, folder / "cache")
    assert drawn or report.traces, "no chart was drawn"
    path = folder / "report.html"
    path.write_text(to_html(report, drawn))
    return path


def with_trace() -> Report:
    """A report with what a profile on an H200 showed."""
    told = msgspec.json.encode(run([real.DATA / real.GRAPH]))
    return sample(traces=views(told, "torch_profiler"))


async def check(page: Tab, path: Path, name: str) -> None:
    """All that is promised of one page; what to do now is on the first screen."""
    pictures = os.environ.get("RESPONDER_SCREENSHOTS")
    for width, height in SCREENS:
        await page.look(width, height, "light")
        page.asked.clear()
        await page.open(path.as_uri())
        assert page.asked == [path.as_uri()], "the page is one file"
        assert page.complaints == [], f"{name} at {width}"
        for theme in THEMES:
            await page.look(width, height, theme)
            wide, out = await page.eval(OVERFLOW)
            assert (wide <= 0, out) == (True, []), f"{name} at {width} {theme}"
            if pictures:
                await page.picture(Path(pictures) / f"report-{name}-{width}-{theme}.png")
        assert await page.eval(MET) == [], f"{name} at {width}"
        top = await page.eval("document.querySelector('.answers .do').getBoundingClientRect().top")
        assert top < height, f"{name} at {width}: what to do now is not on the first screen"
        assert await page.eval("window.shift") < 0.1, f"{name} at {width} jumps"
        for theme in THEMES if width in JUDGED else ():
            await page.look(width, height, theme)
            assert await page.serious(colours=theme != THEMES[0]) == [], f"{name} at {width} {theme}"
        page.complaints.clear()


async def on_paper(page: Tab, path: Path, name: str) -> None:
    """Printed from a dark screen it is black on white, nothing cut off at the edge, and a few pages long."""
    pictures = os.environ.get("RESPONDER_SCREENSHOTS")
    await page.open(path.as_uri())
    await page.look(*PAPER, "dark", "print")
    wide, out = await page.eval(OVERFLOW)
    assert (wide <= 0, out) == (True, []), f"{name} on paper"
    colours = await page.eval(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert colours == ["rgb(255, 255, 255)", "rgb(22, 24, 29)"]
    if pictures:
        await page.picture(Path(pictures) / f"report-{name}-paper.png")
    printed = base64.b64decode((await page.send("Page.printToPDF", printBackground=False))["data"])
    assert printed.startswith(b"%PDF")
    assert 1 <= printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") <= 12


async def test_reports_of_recorded_incidents_can_be_read_on_every_screen_and_on_paper(tmp_path: Path) -> None:
    """Nothing sticks out, shifts or is asked for elsewhere; axe-core finds nothing serious."""
    reports = {name: replayed(name) for name in DRAWN} | {"with-a-trace": with_trace()}
    async with tab() as page:
        await page.send("Page.addScriptToEvaluateOnNewDocument", source=SHIFT)
        for name, report in reports.items():
            (tmp_path / name).mkdir()
            path = await page_of(report, tmp_path / name)
            await check(page, path, name)
            await on_paper(page, path, name)


async def test_every_recorded_incident_fits_a_phone(tmp_path: Path) -> None:
    """Whatever long names and commands stand in it."""
    async with tab() as page:
        await page.look(*SCREENS[-1], "dark")
        for name in RECORDED:
            path = tmp_path / f"{name}.html"
            path.write_text(to_html(replayed(name)))
            await page.open(path.as_uri())
            wide, out = await page.eval(OVERFLOW)
            assert (wide <= 0, out) == (True, []), name
