"""What people see, in a real Chromium: on every screen, in both themes, by keyboard, live, and for everybody.

RESPONDER_SCREENSHOTS=folder keeps the pictures.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from responder.model import TimelineEntry
from tests.web.chromium import AXE, Tab, binary, tab
from tests.web.fits import JUDGED, OVERFLOW, SCREENS, SHIFT, SPLIT, THEMES
from tests.web.scene import SAMPLE, Scene, scene

pytestmark = [
    pytest.mark.skipif(not AXE.is_file(), reason="no axe-core: scripts/setup-chromium could not bring it"),
    pytest.mark.skipif(binary() is None, reason="no Chromium: scripts/setup-chromium could not bring it"),
    pytest.mark.timeout(400),
]
VIEWS = ("incidents", f"incidents/{SAMPLE}", "approvals", "silences", "targets", "playbooks", "deliveries", "system")


async def show(page: Tab, at: Scene, view: str) -> None:
    """Load a view and wait for its data."""
    await page.open("about:blank")
    await page.open(f"{at.url}/#/{view}")
    await page.until(f"document.getElementById('view')?.dataset.ready === {view.split('/')[0]!r}")


async def test_every_view_fits_every_screen_in_both_themes_and_does_not_jump(tmp_path: Path) -> None:
    """Nothing sticks out, nothing shifts while loading, axe-core finds nothing serious, and the page's own policy
    refuses none of its parts."""
    pictures = os.environ.get("RESPONDER_SCREENSHOTS")
    async with scene(tmp_path) as at, tab() as page:
        await at.remember(*at.many(60))
        at.overview._examined["embed-7b:8000"] = _examined()
        await page.send("Page.addScriptToEvaluateOnNewDocument", source=SHIFT)
        for width, height in SCREENS:
            for view in VIEWS:
                await page.look(width, height, "light")
                await show(page, at, view)
                assert page.complaints == [], f"{view} at {width}"
                assert await page.eval(SPLIT) == [], view
                for theme in THEMES:
                    await page.look(width, height, theme)
                    wide, out = await page.eval(OVERFLOW)
                    assert (wide <= 0, out) == (True, []), f"{view} at {width} {theme}"
                    if pictures:
                        name = f"{view.split('/')[0]}{'-one' if '/' in view else ''}-{width}-{theme}.png"
                        await page.picture(Path(pictures) / name)
                assert await page.eval("window.shift") < 0.1, f"{view} at {width} jumps"
                for theme in THEMES if width in JUDGED else ():
                    await page.look(width, height, theme)
                    assert await page.serious(colours=theme != THEMES[0]) == [], f"{view} at {width} {theme}"
                page.complaints.clear()  # axe-core itself is no part of the page, and its policy says so


async def test_an_incident_moves_while_one_looks(tmp_path: Path) -> None:
    """A step that begins, a cause that leads, and what somebody else decided come without a reload."""
    async with scene(tmp_path) as at, tab() as page:
        await show(page, at, f"incidents/{SAMPLE}")
        entry: dict[str, Any] = {"evidence": {"id": "stacks-9", "step": "stacks", "started_at": 1.0}}
        await at.kit.store.begin_step(SAMPLE, "stacks-9", entry, (1.0, {}))
        await page.until("document.body.innerText.includes('running')")
        found = await at.kit.store.incident(SAMPLE)
        note = TimelineEntry(at=time.time(), kind="cause", says="Engine is stopped: confirmed (93%)")
        await at.kit.store.save_incident(found[0].model_copy(update={"timeline": (*found[0].timeline, note)}))
        await page.until("document.body.innerText.includes('Engine is stopped: confirmed (93%)')")
        await page.until("document.body.innerText.includes('May torch_profiler run')")
        at.approvals.decide(SAMPLE, "torch_profiler", approve=False, who="ben", now=time.time())
        await page.until("!document.body.innerText.includes('May torch_profiler run')")
        assert page.complaints == []


async def test_a_capture_is_approved_by_keyboard_alone(tmp_path: Path) -> None:
    """From the top of the page: say who one is, find the button, press Enter; then it stands on the server."""
    async with scene(tmp_path) as at, tab() as page:
        await show(page, at, "approvals")
        await page.eval("document.querySelector('.skip').focus()")
        for wanted in ("name", f"yes-{SAMPLE}-torch_profiler"):
            for _ in range(40):
                if await page.eval("document.activeElement.id") == wanted:
                    break
                await page.key("Tab", 9)
            assert await page.eval("document.activeElement.id") == wanted
            visible = "getComputedStyle(document.activeElement).outlineStyle !== 'none'"
            assert await page.eval(visible), "the place of the keyboard must be seen"
            if wanted == "name":
                await page.type("ann")
        await page.key("Enter", 13, "\r")
        await page.until("document.body.innerText.includes('No capture waits')")
        item = at.approvals.of(SAMPLE, "torch_profiler")
        assert item is not None
        assert (item.decision, item.who) == ("approved", "ann")


async def test_a_wrong_cause_is_told_with_the_true_one_and_a_note(tmp_path: Path) -> None:
    """What was opened, chosen and written outlives a refresh; the history says it."""
    pictures = os.environ.get("RESPONDER_SCREENSHOTS")
    async with scene(tmp_path) as at, tab() as page:
        await page.look(390, 844, "dark")
        await show(page, at, f"incidents/{SAMPLE}")
        await page.eval("localStorage.setItem('responder.name', 'ann')")
        await page.eval("document.getElementById('wrong').click()")
        await page.eval("document.getElementById('truth').value = 'gpu_fault'")
        await page.eval("document.getElementById('note').value = 'Xid 79'")
        assert await page.serious() == []
        if pictures:
            await page.picture(Path(pictures) / "incidents-wrong-390-dark.png")
        at.approvals.decide(SAMPLE, "torch_profiler", approve=False, who="ben", now=time.time())
        await page.until("!document.body.innerText.includes('May torch_profiler run')")
        assert await page.eval("[truth.value, note.value, truth.closest('details').open]") == [
            "gpu_fault", "Xid 79", True,
        ]  # fmt: skip
        await page.eval("document.getElementById('say-wrong').click()")
        await page.until("document.body.innerText.includes('says ann, it was gpu fault: Xid 79')")
        [said] = await at.kit.store.opinions()
        assert (said.right, said.cause, said.note) == (False, "gpu_fault", "Xid 79")


async def test_incidents_are_found_among_ten_thousand(tmp_path: Path) -> None:
    """The search goes through the address, so that a page can be sent to somebody; one page is drawn at a time."""
    async with scene(tmp_path) as at, tab() as page:
        await at.remember(*at.many(10_000))
        await show(page, at, "incidents")
        assert await page.eval("document.querySelectorAll('tbody tr').length") == 50
        assert "1–50 of 10001" in await page.eval("document.body.innerText")
        await page.eval("document.getElementById('filter-q').focus()")
        await page.type("past-07777")
        await page.key("Enter", 13, "\r")
        await page.until("document.body.innerText.includes('1–1 of 1')")
        assert "q=past-07777" in await page.eval("location.hash")


async def test_a_browser_signs_in_with_a_token_and_hostile_words_stay_words(tmp_path: Path) -> None:
    """A wrong token is said; a viewer finds no buttons; markup in data is text."""
    async with scene(tmp_path, token="operate-1", viewer_token="view-1") as at, tab() as page:
        bad = "<img src=x onerror=alert(1)><script>alert(1)</script>"
        await at.remember(at.many(1)[0].model_copy(update={"target": bad}))
        await page.open(f"{at.url}/#/incidents")
        for token, seen in (("wrong", "this is not the token"), ("view-1", "may look only")):
            await page.until("!!document.getElementById('token')")
            await page.eval("(document.getElementById('token').value = '', document.getElementById('token').focus())")
            await page.type(token)
            await page.key("Enter", 13, "\r")
            await page.until(f"document.body.innerText.includes({seen!r})")
        await page.until("document.body.innerText.includes('onerror=alert(1)')")
        assert await page.eval("document.querySelectorAll('img, main script').length") == 0
        await page.eval("location.hash = '#/approvals'")
        await page.until("document.body.innerText.includes('Only an operator can answer')")


async def test_a_trace_is_handed_to_the_viewer_by_message(tmp_path: Path) -> None:
    """Greeted until it answers, then given the bytes, and addressed to the viewer alone."""
    async with scene(tmp_path) as at, tab() as page:
        await page.send("Page.addScriptToEvaluateOnNewDocument", source="""
          window.posted = [];
          window.open = (url) => {
            window.opened = url;
            const frame = document.createElement("iframe");
            document.body.append(frame);
            const viewer = frame.contentWindow;
            viewer.postMessage = (data, origin) => {
              const greeting = data === "PING";
              window.posted.push([greeting ? data : [data.perfetto.buffer.byteLength, data.perfetto.fileName], origin]);
              const answer = { data: "PONG", origin: "https://ui.perfetto.dev", source: viewer };
              if (greeting) window.dispatchEvent(new MessageEvent("message", answer));
            };
            return viewer;
          };
        """)  # fmt: skip
        await show(page, at, f"incidents/{SAMPLE}")
        await page.eval("[...document.querySelectorAll('details')].forEach((d) => d.open = true)")
        await page.eval(
            "[...document.querySelectorAll('button')].find((b) => b.textContent === 'Open in Perfetto').click()"
        )
        await page.until("window.posted.length")
        assert await page.eval("window.opened") == "https://ui.perfetto.dev"
        assert await page.eval("window.posted[0]") == ["PING", "https://ui.perfetto.dev"]
        handed = await page.eval("window.posted.at(-1)")
        assert handed == [[len(b"\x1f\x8b trace"), "rank0.pt.trace.json.gz"], "https://ui.perfetto.dev"]


def _examined() -> dict[str, Any]:
    checks = [
        {"step": "scrape", "rung": 0, "can": True, "why": "", "seconds": 0.1, "partly": False},
        {"step": "torch_profiler", "rung": 3, "can": False, "seconds": None,
         "why": "the server was not started with a profiler: add --profiler-config '{\"profiler\": \"torch\"}'"},
    ]  # fmt: skip
    return {"at": time.time(), "checks": checks}
