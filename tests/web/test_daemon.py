"""The pages of a whole daemon, in a real Chromium: with a real Prometheus and a server that only looks like vLLM."""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.app import App, load_all
from tests.test_app import Pretender, free_port, served, settings
from tests.web.chromium import binary, tab

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.skipif(binary() is None, reason="no Chromium: scripts/setup-chromium could not bring it"),
]
READY = "document.getElementById('view')?.dataset.ready === {!r}"


async def test_a_new_user_finds_the_server_and_what_keeps_us_from_capturing_there(tmp_path: Path) -> None:
    """Every view of a daemon without incidents is there, and doctor says of every capture what is missing for it."""
    async with served(Pretender()) as url:
        port = free_port()
        loaded = load_all(settings(url, tmp_path, port))
        app = App(loaded, lambda: loaded)
        await app.start()
        try:
            async with tab() as page:
                await page.open(f"http://127.0.0.1:{port}/")
                await page.until("document.body.innerText.includes('No incident so far')")
                for view in ("approvals", "silences", "playbooks", "deliveries", "system", "targets"):
                    await page.eval(f"location.hash = '#/{view}'")
                    await page.until(READY.format(view))
                await page.until("document.body.innerText.includes('gives tokens')")
                await page.eval("localStorage.setItem('responder.name', 'ann')")
                await page.eval("document.querySelector('[id^=doctor-]').click()")
                await page.until("document.body.innerText.includes('Examined at')", within=60)
                words = await page.eval("document.getElementById('view').innerText")
                assert "which is not vLLM" in words
                assert "stacks: no processes known" in words
                assert page.complaints == []
        finally:
            await app.stop()
