"""Our HTTP surface: intake is acknowledged only from disk, nothing leaks, nothing strays."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from responder.folder import folder_of
from responder.web.server import Surface, build


class Daemon:
    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.full = False
        self.missing = ""

    async def accept(self, payload: Any) -> bool:
        if not self.full:
            self.taken.append(payload)
        return not self.full

    async def ready(self) -> str:
        return self.missing

    async def reload(self) -> str:
        return self.missing

    async def incidents(self) -> list[Any]:
        return []


def surface(daemon: Daemon, folder: Path, token: str | None = None) -> Surface:
    return Surface(
        data_dir=folder, token=token, metrics=lambda: b"responder_build_info 1\n", ready=daemon.ready,
        accept=daemon.accept, incidents=daemon.incidents, reload=daemon.reload,
        receipt=lambda payload: f"{len(payload['alerts'])} taken",
    )  # fmt: skip


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Daemon, TestClient[Any, Any], Path]]:
    daemon = Daemon()
    async with TestClient(TestServer(build(surface(daemon, tmp_path)))) as client:
        yield daemon, client, tmp_path


ALERT = {"version": "4", "alerts": [{"status": "firing", "labels": {"alertname": "X"}}]}


async def test_alerts_are_acknowledged_once_kept_and_refused_with_503_when_full(served: Any) -> None:
    """Never 429 (Alertmanager does not retry it), never 200-and-drop."""
    daemon, client, _ = served
    taken = await client.post("/api/v1/alerts", json=ALERT)
    assert (taken.status, await taken.text()) == (200, "1 taken\n")
    assert daemon.taken == [ALERT]
    daemon.full = True
    answer = await client.post("/api/v1/alerts", json=ALERT)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")


async def test_what_is_kept_is_acknowledged_even_if_its_answer_cannot_be_worded(tmp_path: Path) -> None:
    """A mistake of ours in the words would else make Alertmanager send the same alerts for ever."""

    def clumsy(_: Any) -> str:
        raise KeyError("no such word")

    daemon = Daemon()
    ours = dataclasses.replace(surface(daemon, tmp_path), receipt=clumsy)
    async with TestClient(TestServer(build(ours))) as client:
        answer = await client.post("/api/v1/alerts", json=ALERT)
        assert (answer.status, await answer.text(), daemon.taken) == (200, "ok\n", [ALERT])


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ("not json", "application/json", 400),
        ("[" * 100_000, "application/json", 400),
        ("{}", "application/json", 400),
        ('{"alerts": [{"labels": {}}]}', "application/json", 400),
        ('{"version": "3", "alerts": []}', "application/json", 400),
        ("{}", "text/plain", 415),
    ],
)
async def test_what_is_no_alert_payload_is_refused_in_words(served: Any, body: str, kind: str, status: int) -> None:
    """4xx, and nothing is kept."""
    daemon, client, _ = served
    answer = await client.post("/api/v1/alerts", data=body, headers={"Content-Type": kind})
    assert answer.status == status
    assert daemon.taken == []


async def test_large_and_compressed_bodies_are_refused_before_they_cost_anything(served: Any) -> None:
    """9 MB, and a gzip bomb that would have to be inflated first."""
    _, client, _ = served
    assert (await client.post("/api/v1/alerts", data=io.BytesIO(b" " * (9 << 20)),
                              headers={"Content-Type": "application/json"})).status == 413  # fmt: skip
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = await client.post("/api/v1/alerts", data=b"\x1f\x8b", headers=headers)
    assert answer.status in (400, 415)


async def test_health_and_readiness_are_two_questions(served: Any) -> None:
    """Alive while still starting; ready says what is missing."""
    daemon, client, _ = served
    daemon.missing = "starting"
    assert (await client.get("/healthz")).status == 200
    answer = await client.get("/readyz")
    assert (answer.status, await answer.text()) == (503, "starting\n")
    assert b"responder_build_info" in await (await client.get("/metrics")).read()


async def test_only_an_incidents_own_files_are_shown(served: Any) -> None:
    """Reports and charts, no raw captures, no way out of the folder, no links followed."""
    _, client, folder = served
    incident = folder_of(folder, "i1")
    incident.write("report.html", b"<p>hello")
    incident.write("charts/a.svg", b"<svg/>")
    incident.write_raw("stacks", {"x.txt": b"secret"})
    (folder / "outside").write_text("secret")
    (incident.path / "report.md").symlink_to(folder / "outside")
    page = await client.get("/incidents/i1")
    assert await page.text() == "<p>hello"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert (await client.get("/incidents/i1/charts/a.svg")).status == 200
    for path in ["i1/report.md", "i1/raw", "..%2f..%2foutside", "i1/charts/..%2freport.html", "%2e%2e/outside"]:
        assert (await client.get(f"/incidents/{path}")).status == 404, path


async def test_with_a_token_everything_but_health_needs_it(tmp_path: Path) -> None:
    """And it is compared in constant time, as bytes."""
    async with TestClient(TestServer(build(surface(Daemon(), tmp_path, "t0k")))) as client:
        assert (await client.get("/healthz")).status == 200
        assert (await client.get("/metrics")).status == 401
        assert (await client.get("/metrics", headers={"Authorization": "Bearer ü"})).status == 401
        assert (await client.get("/metrics", headers={"Authorization": "Bearer t0k"})).status == 200


async def test_a_browser_on_another_site_cannot_post(served: Any) -> None:
    """Loopback needs no token, so the Origin header must."""
    _, client, _ = served
    answer = await client.post("/-/reload", headers={"Origin": "https://evil.example"})
    assert answer.status == 403


async def test_a_person_s_answer_is_taken_once_and_from_no_browser(tmp_path: Path) -> None:
    """Who and what are needed; a refusal is 409 in words; another site's page cannot answer."""
    answers: list[tuple[str, str, bool, str]] = []

    async def decide(incident: str, step: str, approve: bool, who: str) -> dict[str, Any]:
        answers.append((incident, step, approve, who))
        if len(answers) > 1:
            raise ValueError("approved already by ann")
        return {"decision": "approved"}

    part = dataclasses.replace(surface(Daemon(), tmp_path, "sesame"), decide=decide)
    async with TestClient(TestServer(build(part))) as client:
        path, good = "/api/v1/incidents/i1/approvals/gcore", {"decision": "approve", "who": "ann"}
        assert (await client.post(path, json=good)).status == 401
        key = {"Authorization": "Bearer sesame"}
        assert (await client.post(path, json=good, headers={**key, "Origin": "http://evil"})).status == 403
        assert (await client.post(path, json={"decision": "maybe", "who": "ann"}, headers=key)).status == 400
        assert (await client.post(path, json={"decision": "deny"}, headers=key)).status == 400
        half_a_pair = {"decision": "deny", "who": "\ud800"}  # no report could be written with it
        assert (await client.post(path, json=half_a_pair, headers=key)).status == 400
        assert (await client.post(path, data="x", headers=key)).status == 415
        assert (await (await client.post(path, json=good, headers=key)).json()) == {"decision": "approved"}
        again = await client.post(path, json=good, headers=key)
        assert (again.status, await again.text()) == (409, "approved already by ann\n")
    assert answers[0] == ("i1", "gcore", True, "ann")


async def test_captures_by_hand_are_posted(tmp_path: Path) -> None:
    """Unknown names are 404 in words; nonsense is 400."""

    async def run(target: str, step: str, params: dict[str, Any]) -> dict[str, Any]:
        if step != "scrape":
            raise LookupError("no such step")
        return {"evidence": {"step": step, "params": params}, "folder": "f"}

    part = dataclasses.replace(surface(Daemon(), tmp_path), capture=run)
    async with TestClient(TestServer(build(part))) as client:
        done = await client.post("/api/v1/captures", json={"target": "t", "step": "scrape", "params": {"a": 1}})
        assert (await done.json())["evidence"]["params"] == {"a": 1}
        unknown = await client.post("/api/v1/captures", json={"target": "t", "step": "x"})
        assert (unknown.status, await unknown.text()) == (404, "no such step\n")
        assert (await client.post("/api/v1/captures", json={"target": 1, "step": "x"})).status == 400


async def test_an_engineers_word_on_a_verdict(tmp_path: Path) -> None:
    """Checked, passed on, and refused in words; without anybody to keep it, not found."""
    heard: list[tuple[Any, ...]] = []

    async def judge(*word: Any) -> dict[str, Any]:
        if word[0] == "nowhere":
            raise ValueError("no report of it")
        heard.append(word)
        return {"right": word[1]}

    made = dataclasses.replace(surface(Daemon(), tmp_path), judge=judge)
    async with TestClient(TestServer(build(made))) as client:
        word = {"verdict": "wrong", "who": "ann", "cause": "gpu_fault"}
        assert await (await client.post("/api/v1/incidents/i1/verdict", json=word)).json() == {"right": False}
        assert heard == [("i1", False, "gpu_fault", "ann", "")]
        assert (await client.post("/api/v1/incidents/nowhere/verdict", json=word)).status == 409
        for wrong in ({"verdict": "maybe", "who": "a"}, {"verdict": "right", "who": " "}, {"verdict": "right"}):
            assert (await client.post("/api/v1/incidents/i1/verdict", json=wrong)).status == 400
    async with TestClient(TestServer(build(surface(Daemon(), tmp_path)))) as client:
        assert (await client.post("/api/v1/incidents/i1/verdict", json=word)).status == 404
