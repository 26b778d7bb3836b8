"""The daemon as a whole, with a real Prometheus and a server that only looks like vLLM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web

from responder.app import App, load_all
from responder.config import Config
from responder.content import ContentRefused

pytestmark = pytest.mark.prometheus


class Pretender:
    """/metrics and /health like vLLM's; its counters move until somebody freezes it."""

    def __init__(self) -> None:
        self.steps = 0
        self.frozen = False
        self.asked: set[str] = set()
        """What the servers are called by those who want tokens of them."""
        self.told: list[dict[str, Any]] = []
        self.news = asyncio.Event()

    async def metrics(self, _: web.Request) -> web.Response:
        if not self.frozen:
            self.steps += 100
        labels = '{engine="0",model_name="m"}'
        text = "".join(
            f"{name}{labels} {value}\n"
            for name, value in {
                "vllm:num_requests_running": 4, "vllm:num_requests_waiting": 0, "vllm:kv_cache_usage_perc": 0.1,
                "vllm:generation_tokens_total": self.steps * 4, "vllm:prompt_tokens_total": self.steps,
                "vllm:iteration_tokens_total_count": self.steps, "vllm:iteration_tokens_total_sum": self.steps * 5,
            }.items()
        )  # fmt: skip
        return web.Response(text=text)

    async def health(self, _: web.Request) -> web.Response:
        return web.Response(text="")

    async def complete(self, request: web.Request) -> web.Response:
        self.asked.add(request.host.partition(":")[0])
        while self.frozen:
            await asyncio.sleep(0.1)
        return web.json_response({"choices": [{"text": "a"}]})

    async def hook(self, request: web.Request) -> web.Response:
        self.told.append(await request.json())
        self.news.set()
        return web.Response(text="ok")

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(100):
            while True:
                for body in self.told:
                    if wanted(body):
                        return body
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def served(pretender: Pretender) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/metrics", pretender.metrics)
    app.router.add_get("/health", pretender.health)
    app.router.add_post("/v1/completions", pretender.complete)
    app.router.add_post("/hook", pretender.hook)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _final(body: dict[str, Any], target: str) -> bool:
    return bool(body["stage"] == "final" and body["incident"]["target"] == target)


def free_port() -> int:
    from responder.prometheus_child import free_port as port

    return port()


def settings(url: str, folder: Path, port: int, **more: Any) -> Config:
    return Config.model_validate(
        {
            "targets": [{"url": url, "model": "m"}],
            "prometheus": {"scrape_interval": "1s"},
            "receivers": {"hook": {"kind": "webhook", "url": f"{url}/hook"}},
            "data_dir": str(folder),
            "http": {"listen": f"127.0.0.1:{port}"},
            "hold_down": "3s",
            **more,
        }
    )


async def test_a_freeze_is_reported_told_as_over_and_everything_is_left_in_time(tmp_path: Path) -> None:
    """From frozen counters to a webhook, to the resolution; then a clean end. With `max_rung: 0` it is found as
    well, and the server is asked for nothing."""
    pretender = Pretender()
    async with served(pretender) as url:
        port = free_port()
        untouched = {"url": url.replace("127.0.0.1", "localhost"), "name": "untouched", "capture": {"max_rung": 0}}
        loaded = load_all(settings(url, tmp_path, port, targets=[{"url": url, "model": "m"}, untouched]))
        app = App(loaded, lambda: loaded)
        await app.start()
        try:
            async with aiohttp.ClientSession() as http:
                async with http.get(f"http://127.0.0.1:{port}/readyz") as answer:
                    assert answer.status == 200
                for view in ("incidents", "approvals", "silences", "targets", "playbooks", "deliveries", "system"):
                    async with http.get(f"http://127.0.0.1:{port}/api/v1/ui/{view}") as answer:
                        assert answer.status == 200, view
                await asyncio.sleep(10)  # the daemon must have seen it move, or nothing is frozen
                pretender.frozen = True
                opened = await pretender.until(lambda body: body["incident"]["state"] == "open")
                assert opened["incident"]["class"] == "hang_or_crash"
                for name in (url.removeprefix("http://"), "untouched"):
                    await pretender.until(lambda body, name=name: _final(body, name))  # type: ignore[misc]
                pretender.frozen = False
                await pretender.until(lambda body: body["incident"]["state"] == "resolved")
                async with http.get(f"http://127.0.0.1:{port}/metrics") as answer:
                    page = await answer.text()
            assert pretender.asked == {"127.0.0.1"}
            assert {entry["target"] for _, _, entry in await app.store.audit() if entry["step"] == "canary"} == {
                url.removeprefix("http://")
            }
            assert "responder_incidents_total" in page
            assert 'responder_notifications_total{outcome="delivered",receiver="hook"}' in page
        finally:
            async with asyncio.timeout(10):
                await app.stop()


async def test_a_bad_reload_leaves_the_running_configuration(tmp_path: Path) -> None:
    """The old targets are still watched, and our metrics say that the reload failed."""
    async with served(Pretender()) as url:
        loaded = load_all(settings(url, tmp_path, free_port()))

        def refuse() -> Any:
            raise ContentRefused(())

        app = App(loaded, refuse)
        await app.start()
        try:
            await app.reload()
            assert list(app.probes) == [url.removeprefix("http://")]
            assert "responder_config_last_reload_successful 0.0" in app.telemetry.page().decode()
            better = settings(url, tmp_path, 1, targets=[{"url": url, "model": "m"},
                                                         {"url": "http://127.0.0.1:1", "name": "new"}],
                              hold_down="7s", capture={"shell": True, "canary_interval": "33s"},
                              evaluation_interval="9s")  # fmt: skip
            app.again = lambda: load_all(better)
            with structlog.testing.capture_logs() as logs:
                assert await app.reload() == ""
            assert sorted(app.probes) == sorted([url.removeprefix("http://"), "new"])
            assert app.watch.policy.hold_down_s == 7
            assert app.kit.shell_allowed
            assert {probe.canary_interval_s for probe in app.probes.values()} == {33.0}
            # What only a start can take is left as it was, and said.
            assert (app.loaded.config.http, app.loaded.config.evaluation_interval) == (loaded.config.http, None)
            assert [entry["keys"] for entry in logs if entry["event"] == "config.needs_restart"] == [
                ["evaluation_interval", "http"]
            ]
        finally:
            await app.stop()


async def test_a_reload_before_everything_is_there_changes_nothing(tmp_path: Path) -> None:
    """A hangup while we start: said in words, not half of it in force."""
    loaded = load_all(settings("http://127.0.0.1:1", tmp_path, free_port()))
    other = load_all(settings("http://127.0.0.1:2", tmp_path, free_port()))
    app = App(loaded, lambda: other)
    assert "starting" in await app.reload()
    assert app.loaded is loaded


async def test_a_second_daemon_on_the_same_data_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    """The first one goes on."""
    async with served(Pretender()) as url:
        first = App(load_all(settings(url, tmp_path, free_port())), lambda: None)  # type: ignore[arg-type, return-value]
        await first.start()
        second = App(load_all(settings(url, tmp_path, free_port())), lambda: None)  # type: ignore[arg-type, return-value]
        try:
            with pytest.raises(Exception, match="another responder"):
                await second.start()
            await second.stop()
            await first.store.ping()
        finally:
            await first.stop()
