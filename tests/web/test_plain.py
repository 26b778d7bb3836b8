"""A browser without scripts sees which incidents there are, and comes to their reports."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp

from responder.content import tongue
from responder.model import TimelineEntry
from responder.web import plain
from tests.flow import NOW, incident
from tests.web.scene import SAMPLE, scene

EVIL = "<script>alert(1)</script>"


def listed(page: str) -> list[str]:
    return re.findall(r'href="/incidents/([^"]+)"', page)


async def test_the_page_is_served_and_links_reports_that_are_there(tmp_path: Path) -> None:
    """From the start page on, with a policy that lets nothing run; a token guards it as it does the rest."""
    async with scene(tmp_path) as at, aiohttp.ClientSession() as http:
        async with http.get(f"{at.url}/") as answer:
            start = await answer.text()
        assert '<a href="/incidents">' in start.partition("<noscript>")[2]
        async with http.get(f"{at.url}/incidents") as answer:
            page = await answer.text()
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert listed(page) == [SAMPLE]
        assert "<h1>Incidents, 1 open</h1>" in page
        async with http.get(f"{at.url}/incidents/{SAMPLE}") as answer:
            assert (answer.status, answer.url.name) == (200, "report.html")
    async with (
        scene(tmp_path / "guarded", token="t0ken") as at,
        aiohttp.ClientSession() as http,
        http.get(f"{at.url}/incidents") as answer,
    ):
        assert answer.status == 401


def test_open_ones_stand_first_and_foreign_words_are_text() -> None:
    """Names and causes come from outside; of very many the newest are shown, and how many more there are."""
    cause = TimelineEntry(at=NOW, kind="cause", says=f"{EVIL}: confirmed (93 %)")
    over = incident(id="over", state="resolved", resolved_at=NOW + 60, target=EVIL, timeline=(cause,))
    rows = [(over, "resolved", 3), (incident(id="a b/c"), "final", 2)]
    page = plain.page(rows, tongue("en"))
    assert listed(page) == ["a%20b%2Fc", "over"]
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    many = [(over.model_copy(update={"id": f"i{n}"}), "resolved", 1) for n in range(plain.SHOWN + 7)]
    assert "7 older ones are not shown" in plain.page(many, tongue("en"))
    assert "There has been none." in plain.page([], tongue("en"))


def test_it_speaks_the_language_of_the_reports() -> None:
    """Headings, states, classes and what the timeline says."""
    page = plain.page([(incident(), "final", 2)], tongue("zh"))
    assert '<html lang="zh-CN">' in page
    assert "首个 token 来得晚" in page
    assert "Server" not in page
