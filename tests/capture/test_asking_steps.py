"""scrape, endpoints, canary: what do they bring from a server, and what do they make of it?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import pytest

from responder.capture import canary, endpoints, scrape
from responder.capture.step import Fetched, NoParams, Step
from responder.model import Inventory, Outcome, Scalar
from tests.doubles import BRIEF, Files, Handler, answer, events, refused_url, scene, serving, silence
from tests.recorded import exposition

TOKEN = b'data: {"choices":[{"index":0,"text":"x","logprobs":null,"token_ids":[216]}]}\n\ndata: [DONE]\n\n'
HEALTHY: Mapping[str, Handler] = {
    "/health": answer(""),
    "/version": answer({"version": "0.32.0"}),
    "/v1/models": answer({"data": [{"id": "tiny", "max_model_len": 1024}]}),
    "/load": answer({"server_load": 3}),
    "/metrics": answer(exposition()),
    "/v1/completions": events(TOKEN),
}


def facts(step: Step, fetched: Fetched) -> dict[str, Scalar]:
    """Facts by name without the step's prefix, for the server as a whole; each is declared."""
    found = list(step.read(fetched.files, BRIEF))
    assert {fact.name for fact in found} <= {spec.name for spec in step.facts}
    return {fact.name.split(".", 1)[1]: fact.value for fact in found if not fact.subject}


async def run(step: Step, url: str, **how: object) -> tuple[Fetched, dict[str, Scalar]]:
    async with scene(url, **how) as where:  # type: ignore[arg-type]
        fetched = await step.fetch(where, step.params())
    return fetched, facts(step, fetched)


# ------------------------------------------------------------------------------------------------------------- scrape


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second between the scrapes, and no patience."""
    monkeypatch.setattr(scrape, "APART_S", 0.0)


async def test_a_scrape_of_a_healthy_server(at_once: None) -> None:
    """Gauges, engines, what is exposed and since which version that exists."""
    async with serving(HEALTHY) as server:
        fetched, found = await run(scrape.STEP, server.url)
    assert fetched.outcome is Outcome.OK
    assert {name: found[name] for name in ("reachable", "status", "running", "waiting", "kv_usage", "engines")} == {
        "reachable": "ok", "status": 200, "running": 0.0, "waiting": 0.0, "kv_usage": 0.0, "engines": 1,
    }  # fmt: skip
    assert (found["model_name"], found["absent"], found["version_guess"]) == ("tiny", "", "0.32")
    assert found["tokens_moved"] is False


async def test_movement_between_two_scrapes(at_once: None) -> None:
    """A counter that changed; a fall is a restart and movement too."""
    for values, moved in (([5, 6], True), ([6, 5], True), ([6, 6], False)):
        pages = iter([f'vllm:generation_tokens_total{{engine="0"}} {value}\n' for value in values])

        async def next_page(request: object, pages: object = pages) -> object:
            return await answer(next(pages))(request)  # type: ignore[call-overload, arg-type]

        async with serving({"/metrics": next_page}) as server:  # type: ignore[dict-item]
            assert (await run(scrape.STEP, server.url))[1]["tokens_moved"] is moved


async def test_engines_are_told_apart(at_once: None) -> None:
    """One hung data-parallel rank hides in a sum."""
    page = "".join(f'vllm:num_requests_running{{engine="{n}",model_name="m"}} {n * 7}\n' for n in range(2))
    async with serving({"/metrics": answer(page)}) as server, scene(server.url) as where:
        fetched = await scrape.STEP.fetch(where, NoParams())
    found = {(f.name, f.subject): f.value for f in scrape.STEP.read(fetched.files, BRIEF)}
    assert found["scrape.running", ""] == 7.0
    assert found["scrape.running", "engine 1"] == 7.0
    assert found["scrape.engines", ""] == 2


@pytest.mark.parametrize(("handler", "reach", "status"), [(silence, "timeout", None), (answer("no", 503), "ok", 503)])
async def test_a_scrape_that_fails_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, handler: Handler, reach: str, status: int | None
) -> None:
    """A silent server is not asked to be silent twice; gauges stay unknown, not zero."""
    monkeypatch.setattr(scrape, "TIMEOUT_S", 0.3 if reach == "timeout" else 20.0)
    async with serving({"/metrics": handler}) as server:
        fetched, found = await run(scrape.STEP, server.url)
        assert server.paths() == ["/metrics"]
    assert fetched.outcome is Outcome.PARTIAL
    assert (found["reachable"], found["status"], "running" in found) == (reach, status, False)


async def test_a_dead_server_is_refused() -> None:
    """The reason says so."""
    fetched, found = await run(scrape.STEP, await refused_url())
    assert found["reachable"] == "refused"
    assert "refused" in fetched.reason


async def test_a_huge_or_foreign_page(monkeypatch: pytest.MonkeyPatch, at_once: None) -> None:
    """Cut at the cap, and no facts made of noise."""
    monkeypatch.setattr(scrape, "MAX_BYTES", 1000)
    async with serving({"/metrics": answer(b"<p>hello</p>\n" * 1000)}) as server:
        fetched, found = await run(scrape.STEP, server.url)
    assert all(len(raw) <= 1000 for raw in fetched.files.values())
    assert "running" not in found


# ---------------------------------------------------------------------------------------------------------- endpoints


async def test_endpoints_of_a_healthy_server() -> None:
    """Health, version, models; nothing is mounted that was not asked to be read."""
    async with serving(HEALTHY) as server:
        fetched, found = await run(endpoints.STEP, server.url)
        assert "/openapi.json" not in server.paths(), "building it stops the server's event loop"
        assert not any("profile" in path for path in server.paths())
    assert fetched.outcome is Outcome.OK
    assert (found["reachable"], found["health_status"], found["version"]) == ("ok", 200, "0.32.0")
    assert (found["models"], found["max_model_len"], found["load"]) == ("tiny", 1024, 3)
    assert (found["dev_mode"], found["paused"], found["profiler_mounted"]) == (False, None, None)


async def test_load_zero_is_unknown_unless_it_is_counted() -> None:
    """Without tracking vLLM answers 0 for ever."""
    routes = {**HEALTHY, "/load": answer({"server_load": 0})}
    async with serving(routes) as server:
        assert (await run(endpoints.STEP, server.url))[1]["load"] is None
        inventory = Inventory(at=0.0, local=True, command=("vllm", "serve", "--enable-server-load-tracking"))
        assert (await run(endpoints.STEP, server.url, inventory=inventory))[1]["load"] == 0


async def test_routes_are_read_from_the_log() -> None:
    """Of the last start: the one before had a profiler."""
    first = b"Available routes are:\nRoute: /start_profile, Methods: POST\n"
    last = b"Available routes are:\n[launcher.py:1] Route: /health, Methods: GET\nRoute: /is_sleeping, Methods: GET\n"
    runner = Files({"/v.log": first + last})
    async with serving(HEALTHY) as server:
        found = (await run(endpoints.STEP, server.url, runner=runner, log_file="/v.log"))[1]
    assert (found["profiler_mounted"], found["dev_mode"]) == (False, True)


async def test_the_schema_is_read_when_a_playbook_asks() -> None:
    """Its paths say what is mounted; it is asked only once the server is known to answer."""
    schema = answer({"paths": {"/start_profile": {}, "/health": {}}})
    step = endpoints.STEP
    async with serving({**HEALTHY, "/openapi.json": schema}) as server, scene(server.url) as where:
        fetched = await step.fetch(where, endpoints.EndpointsParams(openapi=True))
        assert server.paths()[-1] == "/openapi.json"
    assert facts(step, fetched)["profiler_mounted"] is True
    async with scene(await refused_url()) as where:
        assert "/openapi.json" not in (await step.fetch(where, endpoints.EndpointsParams(openapi=True))).reason


async def test_a_paused_server_says_so() -> None:
    """It looks exactly like a hang otherwise."""
    dev = {"/is_paused": answer({"is_paused": True}), "/is_sleeping": answer({"is_sleeping": False})}
    async with serving({**HEALTHY, **dev}) as server:
        found = (await run(endpoints.STEP, server.url))[1]
    assert (found["paused"], found["sleeping"], found["dev_mode"]) == (True, False, True)


async def test_each_endpoint_has_its_own_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs costs the others nothing, and the step is still evidence."""
    monkeypatch.setattr(endpoints, "TIMEOUT_S", 1.0)
    ask = endpoints.get

    async def patient(http: object, url: str, *, timeout: float, **rest: object) -> object:
        return await ask(http, url, timeout=timeout if url.endswith("/is_sleeping") else 20.0, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(endpoints, "get", patient)
    async with serving({**HEALTHY, "/is_sleeping": silence}) as server:
        fetched, found = await run(endpoints.STEP, server.url)
    assert fetched.outcome is Outcome.PARTIAL
    assert (fetched.reason, found["version"], found["sleeping"]) == ("/is_sleeping: timeout", "0.32.0", None)


@pytest.mark.parametrize("body", [b"\xff", "[", '{"version": 3, "data": 7, "server_load": "x"}', "[" * 20_000, "null"])
async def test_garbage_answers_leave_facts_unknown(body: str | bytes) -> None:
    """Whatever the body: no exception, no invented value."""
    routes = dict.fromkeys(("/health", "/version", "/v1/models", "/load", "/is_paused"), answer(body))
    async with serving(routes) as server:
        found = (await run(endpoints.STEP, server.url))[1]
    assert found["health_status"] == 200
    assert [found[name] for name in ("version", "models", "max_model_len", "load", "paused")] == [None] * 5


# ------------------------------------------------------------------------------------------------------------- canary


async def test_a_canary_that_returns() -> None:
    """Its facts, with the time before vLLM's own clock started."""

    async def query(expr: str, start: float, end: float, step: float) -> list[object]:
        return [({"instance": "a:8000"}, [(start, None), (end, 0.0)]), ({"instance": "b:8000"}, [(end, 9.0)])]

    async with serving(HEALTHY) as server:
        fetched, found = await run(canary.STEP, server.url, range_query=query, signals={"ttft_p50": "x"})
    assert fetched.outcome is Outcome.OK
    assert (found["ok"], found["status"], found["text_empty"], found["token_id"]) == (True, 200, False, 216)
    assert found["ttft_over_server"] == found["ttft_s"]
    assert (found["nan"], found["error"]) == (None, "")


async def test_a_canary_nobody_wants_is_not_sent() -> None:
    """`canary: false` holds."""
    async with serving(HEALTHY) as server:
        fetched, found = await run(canary.STEP, server.url, canary=False)
        assert server.asked == []
    assert (fetched.outcome, found) == (Outcome.SKIPPED, {})


async def test_a_hung_engine_is_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not ok, after exactly the canary's own deadline; a Prometheus that hangs as well changes nothing."""
    monkeypatch.setattr(canary, "DEADLINE_S", 0.5)
    monkeypatch.setattr(canary, "SERVER_TTFT_TIMEOUT_S", 0.2)

    async def query(expr: str, start: float, end: float, step: float) -> list[object]:
        await asyncio.Event().wait()
        return []

    routes = {**HEALTHY, "/v1/completions": events(then=silence)}
    async with serving(routes) as server:
        fetched, found = await run(canary.STEP, server.url, range_query=query, signals={"ttft_p50": "x"})
    assert fetched.outcome is Outcome.OK
    assert (found["ok"], found["status"], found["text_empty"], found["ttft_over_server"]) == (False, 200, None, None)


async def test_a_refusal_by_the_front_end_decides_nothing() -> None:
    """A wrong key is no hang."""
    routes = {**HEALTHY, "/v1/completions": answer({"error": "Unauthorized"}, 401)}
    async with serving(routes) as server:
        fetched, found = await run(canary.STEP, server.url)
    assert (fetched.outcome, found["ok"], found["status"]) == (Outcome.PARTIAL, None, 401)


async def test_the_key_never_reaches_a_file() -> None:
    """Nor does any other header of ours."""
    async with serving(HEALTHY) as server:
        for step in (canary.STEP, scrape.STEP, endpoints.STEP):
            fetched, _ = await run(step, server.url, api_key="s3cr3t-key")
            assert not any(b"s3cr3t" in raw for raw in fetched.files.values())


@pytest.mark.parametrize("step", [canary.STEP, endpoints.STEP, scrape.STEP], ids=lambda step: step.name)
@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xff", b"[]", b"{}"])
def test_damaged_files_give_no_facts(step: Step, raw: bytes) -> None:
    """A stored folder may be damaged; reading it never raises."""
    names = {"canary": "canary.json", "endpoints": "endpoints.json", "scrape": "scrape.json"}
    assert list(step.read({names[step.name]: raw}, BRIEF)) == []
    assert list(step.read({}, BRIEF)) == []


def test_the_json_of_a_canary_is_complete() -> None:
    """What `read` needs is in the file, so a stored folder can be read again."""
    record = {
        "ok": False, "asked": False, "reach": "refused", "status": None, "seconds": 0.1, "ttft_s": None, "text": None,
        "token_id": None, "nan": None, "error": "refused", "model": "", "server_ttft_p50": None,
    }  # fmt: skip
    found = {f.name: f.value for f in canary.STEP.read({"canary.json": json.dumps(record).encode()}, BRIEF)}
    assert (found["canary.ok"], found["canary.error"]) == (False, "refused")
