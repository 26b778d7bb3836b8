"""The private Prometheus: a real one, that scrapes, is started again when it dies, and ends with us."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from aiohttp import web

from responder import prometheus_child
from responder.metrics import Prometheus
from responder.model import Target
from responder.prometheus_child import PrivatePrometheus, PrometheusMissing, configuration, find_binary


def test_the_configuration_labels_series_with_host_and_port() -> None:
    """A base path and https are kept."""
    text = configuration([Target(name="a", url="https://h:8443/llm")], 2.0)
    assert "scheme: https" in text
    assert "metrics_path: /llm/metrics" in text
    assert "targets: ['h:8443']" in text


def test_without_a_binary_the_message_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Debian's package, an environment variable, or --prometheus."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("RESPONDER_PROMETHEUS", "")
    monkeypatch.setattr(prometheus_child, "__file__", str(tmp_path / "a/b.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PrometheusMissing, match="apt-get install prometheus"):
        find_binary()


async def test_its_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Months of warnings do not fill the disk; the last of them are kept."""
    monkeypatch.setattr(prometheus_child, "LOG_MAX", 100)
    monkeypatch.setattr(prometheus_child, "LOG_KEPT", 10)
    child = PrivatePrometheus(tmp_path, [], 1.0)
    assert await child.ensured() == ""  # no log yet
    said = tmp_path / "prometheus.log"
    said.write_bytes(b"a" * 100)
    await child.ensured()
    assert said.stat().st_size == 100
    with said.open("ab") as appending:
        appending.write(b"b" * 10)
        appending.flush()
        await child.ensured()
        appending.write(b"after")
    assert said.read_bytes() == b"after"
    assert (tmp_path / "prometheus.log.1").read_bytes() == b"b" * 10


async def test_a_full_disk_gets_its_log_s_room_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be kept beside it then: it is shortened all the same."""
    monkeypatch.setattr(prometheus_child, "LOG_MAX", 100)
    monkeypatch.setattr(prometheus_child, "LOG_KEPT", 10)
    (tmp_path / "prometheus.log.1").mkdir()  # writing there fails, as on a full disk
    (tmp_path / "prometheus.log").write_bytes(b"a" * 101)
    await PrivatePrometheus(tmp_path, [], 1.0).ensured()
    assert (tmp_path / "prometheus.log").stat().st_size == 0


@pytest.mark.prometheus
async def test_it_scrapes_and_comes_back_after_a_kill(tmp_path: Path) -> None:
    """Series of the target arrive; after SIGKILL it is started again, and asked where it answers now; `stop` leaves
    nothing."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text="vllm:num_requests_running 3\n")

    server = web.Application()
    server.router.add_get("/metrics", metrics)
    runner = web.AppRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"127.0.0.1:{runner.addresses[0][1]}"
    child = PrivatePrometheus(tmp_path, [Target(name="t", url=f"http://{address}")], 1.0)
    await child.start()
    try:
        prometheus = Prometheus(child.url)
        async with asyncio.timeout(60):
            while not (rows := await prometheus.instant("vllm:num_requests_running")):
                await asyncio.sleep(0.2)
        assert rows[0][0]["instance"] == address
        assert rows[0][2] == 3.0
        assert await prometheus.scrape_interval([{"instance": address}]) == 1.0
        assert child._child is not None
        os.kill(child._child.pid, signal.SIGKILL)
        await child._child.wait()
        before, prometheus.url = child.url, await child.ensured()
        assert child.url != before
        assert await prometheus.instant("vector(1)")
        prometheus.close()
        pid = child._child.pid
    finally:
        await child.stop()
        await runner.cleanup()
    assert not Path(f"/proc/{pid}").exists()


async def test_one_that_cannot_be_started_again_ends_no_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its disk is full, say: the probes and others' alerts go on without it, and it is tried again."""
    starts = tmp_path / "starts"
    binary = tmp_path / "prometheus"
    binary.write_text(f"#!/bin/sh\necho x >> {starts}\nexit 1\n")
    binary.chmod(0o755)
    monkeypatch.setenv("RESPONDER_PROMETHEUS", str(binary))
    child = PrivatePrometheus(tmp_path, [], 1.0)
    with pytest.raises(RuntimeError, match="ended with status 1"):
        await child.start()
    assert await child.ensured() == child.url
    assert await child.ensured() == child.url
    assert starts.read_text() == "x\n" * 3
