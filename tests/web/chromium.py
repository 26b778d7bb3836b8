"""A real headless Chromium, driven through the DevTools protocol: pages, keys, pictures, complaints."""

from __future__ import annotations

import asyncio
import atexit
import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / ".tools" / "axe.min.js"
STARTS_WITHIN_S = 40.0
FLAGS = (
    "--headless", "--disable-gpu", "--no-first-run", "--disable-extensions", "--disable-background-networking",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--font-render-hinting=none", "--remote-debugging-port=0",
    "--disable-features=Translate,MediaRouter,OptimizationHints", "--mute-audio", "--no-proxy-server",
)  # fmt: skip


def binary() -> str | None:
    """Where Chromium is: RESPONDER_CHROMIUM, what scripts/setup-chromium brought, or on PATH."""
    brought = ROOT / ".tools" / "chromium" / "run"
    named = os.environ.get("RESPONDER_CHROMIUM")
    if named:
        return named
    if brought.is_file():
        return str(brought)
    return next(filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "google-chrome"))), None)


@cache
def _axe() -> str:
    return AXE.read_text()


class Tab:
    """One page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.complaints: list[str] = []
        """Errors and warnings of the page: refused by its policy, thrown, not found."""
        self.asked: list[str] = []
        """Addresses the page asked for."""
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        self._reader = asyncio.create_task(self._read(), name="devtools")

    async def _read(self) -> None:
        async for message in self.socket:
            body = json.loads(message.data)
            if "id" in body:
                future = self._answers.pop(body["id"], None)
                if future and not future.done():
                    future.set_result(body)
            else:
                self._event(body.get("method", ""), body.get("params", {}))

    def _event(self, name: str, about: dict[str, Any]) -> None:
        if name == "Page.loadEventFired":
            self._loaded.set()
        elif name == "Network.requestWillBeSent":
            self.asked.append(about["request"]["url"])
        elif name == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
        elif name == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(about["exceptionDetails"])[:500])

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its answer. RuntimeError with Chromium's words."""
        number = len(self._answers) + int(asyncio.get_running_loop().time() * 1e6) % 10**9
        future = asyncio.get_running_loop().create_future()
        self._answers[number] = future
        await self.socket.send_str(json.dumps({"id": number, "method": method, "params": params}))
        async with asyncio.timeout(30):
            body = await future
        if "error" in body:
            raise RuntimeError(f"{method}: {body['error']['message']}")
        found: dict[str, Any] = body["result"]
        return found

    async def start(self) -> None:
        """Have events told."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")

    async def eval(self, expression: str) -> Any:
        """The value of an expression, awaited. RuntimeError when it throws."""
        got = await self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in got:
            raise RuntimeError(json.dumps(got["exceptionDetails"])[:800])
        return got["result"].get("value")

    async def open(self, url: str) -> None:
        """Load a page."""
        self._loaded.clear()
        await self.send("Page.navigate", url=url)
        async with asyncio.timeout(30):
            await self._loaded.wait()

    async def until(self, expression: str, within: float = 20) -> Any:
        """Ask until it is true, so many seconds at most; the last complaints are in the message when it never is."""

        async def ask() -> Any:
            while not (value := await self.eval(expression)):
                await asyncio.sleep(0.05)
            return value

        try:
            return await asyncio.wait_for(ask(), within)
        except TimeoutError:
            text = await self.eval("document.body.innerText.slice(0, 500)")
            raise AssertionError(f"never: {expression}; page: {text!r}; {self.complaints}") from None

    async def look(self, width: int, height: int, theme: str, medium: str = "") -> None:
        """Be a screen of this size in this theme, or with `print` a sheet of paper."""
        await self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                        mobile=width < 500)  # fmt: skip
        await self.send(
            "Emulation.setEmulatedMedia", media=medium, features=[{"name": "prefers-color-scheme", "value": theme}]
        )

    async def serious(self, colours: bool = False) -> list[str]:
        """What axe-core finds serious or critical on the page as it stands; by the rules about colours alone for the
        second theme of a page whose other rules have been asked about."""
        rules = ", runOnly: ['color-contrast', 'link-in-text-block']" if colours else ""
        if not await self.eval("'axe' in window"):
            await self.eval(_axe() + ";0")
        found: list[str] = await self.eval(
            f"axe.run({{exclude: [['svg *']]}}, {{resultTypes: ['violations']{rules}}}).then((r) => r.violations"
            ".filter((v) => ['serious', 'critical'].includes(v.impact))"
            ".map((v) => v.id + ': ' + v.nodes.map((n) => n.html + n.failureSummary).join(' | ')))"
        )
        return found

    async def key(self, name: str, code: int, text: str = "") -> None:
        """Press a key."""
        about = {"key": name, "code": name, "windowsVirtualKeyCode": code}
        await self.send("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))
        await self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    async def type(self, text: str) -> None:
        """Write into what has the focus."""
        await self.send("Input.insertText", text=text)

    async def picture(self, path: Path) -> None:
        """A PNG of the whole page."""
        got = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(got["data"]))

    async def close(self) -> None:
        """Let go of it."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self.socket.close()


class Browser:
    """One Chromium for many tests: each gets a context of its own, without another's cookies and storage."""

    def __init__(self) -> None:
        program = binary()
        assert program
        self.profile = tempfile.TemporaryDirectory(prefix="responder-chromium-", ignore_cleanup_errors=True)
        flags = [*FLAGS, f"--user-data-dir={self.profile.name}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        self.child = subprocess.Popen([program, *flags, "about:blank"], stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL)  # fmt: skip

    async def address(self) -> tuple[int, str]:
        """Where it listens: port, path of its own socket."""
        path = Path(self.profile.name) / "DevToolsActivePort"
        async with asyncio.timeout(STARTS_WITHIN_S):
            while True:
                lines = path.read_text().splitlines() if path.is_file() else []
                if len(lines) > 1:
                    return int(lines[0]), lines[1]
                assert self.child.poll() is None, "Chromium has ended"
                await asyncio.sleep(0.02)

    def close(self) -> None:
        """End it."""
        self.child.terminate()
        self.child.wait()
        self.profile.cleanup()


_one: list[Browser] = []


def _browser() -> Browser:
    """The browser of this test run, started when first asked for."""
    if not _one:
        _one.append(Browser())
        atexit.register(_one[0].close)
    return _one[0]


@asynccontextmanager
async def tab() -> AsyncIterator[Tab]:
    """A page in a fresh context; both are gone when left."""
    port, path = await _browser().address()
    async with aiohttp.ClientSession() as http:
        socket = await http.ws_connect(f"http://127.0.0.1:{port}{path}", max_msg_size=64 << 20)
        whole = Tab(socket)
        try:
            context = (await whole.send("Target.createBrowserContext"))["browserContextId"]
            made = await whole.send("Target.createTarget", url="about:blank", browserContextId=context)
            page = await http.ws_connect(f"http://127.0.0.1:{port}/devtools/page/{made['targetId']}",
                                         max_msg_size=64 << 20)  # fmt: skip
            one = Tab(page)
            await one.start()
            try:
                yield one
            finally:
                await one.close()
                await whole.send("Target.disposeBrowserContext", browserContextId=context)
        finally:
            await whole.close()
