"""Does one token come back, and is every other ending told apart?"""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web

from responder.canary import CanaryResult, first_model, request_body, send_canary
from responder.model import Target
from tests.doubles import Handler, answer, events, raw_server, refused_url, serving, silence

TOKEN = b'data: {"choices":[{"index":0,"text":"x","logprobs":null,"token_ids":[216]}]}\n\n'
DONE = b"data: [DONE]\n\n"
NAN = b'data: {"choices":[{"text":"!","logprobs":{"token_logprobs":[null],"tokens":["!"]},"token_ids":[0]}]}\n\n'
MODELS = answer({"data": [{"id": "lora", "parent": "tiny"}, {"id": "tiny"}]})


async def canary(completions: Handler | None, model: str | None = "tiny", timeout: float = 20.0) -> CanaryResult:
    routes = {"/v1/models": MODELS} | ({"/v1/completions": completions} if completions else {})
    async with serving(routes) as server, aiohttp.ClientSession() as http:
        return await send_canary(http, Target(name="t", url=server.url), model, timeout, token_ids=True)


async def test_a_token_comes_back() -> None:
    """Even when the event arrives in pieces."""
    got = await canary(events(TOKEN[:30], TOKEN[30:], DONE))
    assert (got.ok, got.asked, got.status, got.text, got.token_id, got.error) == (True, True, 200, "x", 216, "")
    assert got.ttft_s is not None
    assert got.ttft_s <= got.seconds


async def test_the_request_is_the_cheapest_one() -> None:
    """One short prompt, one token, greedy, streamed; nothing that compiles kernels on the server."""
    async with serving({"/v1/completions": events(TOKEN, DONE)}) as server, aiohttp.ClientSession() as http:
        target = Target(name="t", url=server.url, api_key="s3")
        await send_canary(http, target, "tiny", 20.0)
        path, headers, body = server.asked[0]
    assert path == "/v1/completions"
    assert headers["Authorization"] == "Bearer s3"
    assert body == {"model": "tiny", "prompt": "1", "max_tokens": 1, "temperature": 0, "stream": True}
    assert "logprobs" not in request_body("tiny", token_ids=True)


async def test_the_model_is_looked_up_when_not_named() -> None:
    """The base model, not an adapter."""
    got = await canary(events(TOKEN, DONE), model=None)
    assert (got.ok, got.model) == (True, "tiny")


@pytest.mark.parametrize("then", [silence])
async def test_a_hung_engine(then: Handler) -> None:
    """vLLM sends the status line at once and no event ever: that is the hang."""
    got = await canary(events(then=then), timeout=0.5)
    assert (got.ok, got.asked, got.reach, got.status, got.ttft_s) == (False, True, "timeout", 200, None)


async def test_a_token_without_an_end_is_not_ok() -> None:
    """The first token came, then the engine froze."""
    got = await canary(events(TOKEN, then=silence), timeout=0.5)
    assert (got.ok, got.reach, got.text) == (False, "timeout", "x")


@pytest.mark.parametrize(
    ("handler", "asked"),
    [
        (answer({"error": {"message": "EngineCore encountered an issue.", "code": 500}}, 500), True),
        (answer({"error": {"message": "The model `tiny` does not exist.", "code": 404}}, 404), False),
        (answer({"error": "Unauthorized"}, 401), False),
        (answer({"error": {"message": "too many queued requests"}}, 429), False),
        (None, False),
        (answer("<html>bad gateway</html>", 502), True),
        (answer("[" * 20_000, 500), True),
    ],
)
async def test_an_error_is_not_ok_and_its_words_are_kept(handler: Handler | None, asked: bool) -> None:
    """Only a failing engine is held against the server: a refusal by the front end proves nothing."""
    got = await canary(handler)
    assert (got.ok, got.asked) == (False, asked)
    assert got.error


async def test_an_error_event_in_the_stream() -> None:
    """An engine that dies under a stream sends an error event with status 200."""
    got = await canary(events(b'data: {"error":{"message":"EngineDeadError","code":500}}\n\n', DONE))
    assert (got.ok, got.asked, got.error) == (False, True, "EngineDeadError")


async def test_nan_shows_in_the_logprob_or_in_the_error() -> None:
    """A NaN model answers 200; its log-probability is null. Without streaming it is a 400 with telling words."""
    assert (await canary(events(NAN, DONE))).nan is True
    words = {"error": {"message": "Out of range float values are not JSON compliant", "code": 400}}
    assert (await canary(answer(words, 400))).nan is True
    assert (await canary(events(TOKEN, DONE))).nan is None, "without log-probabilities nothing can be told"


@pytest.mark.parametrize("body", ["hello", b"\xff\xfe", "data: {broken\n\ndata: 7\n\n", "[" * 5000])
async def test_garbage_with_status_200_is_not_ok(body: str | bytes) -> None:
    """Something else listens there."""
    got = await canary(answer(body))
    assert (got.ok, got.reach) == (False, "ok")
    assert got.error


async def test_an_endless_answer_is_cut() -> None:
    """A server that never stops talking does not fill our memory."""
    got = await canary(answer(b"data: x\n" * 100_000))
    assert not got.ok


async def test_refused_and_reset() -> None:
    """Nobody there was not asked; a cut connection was."""
    async with aiohttp.ClientSession() as http:
        gone = await send_canary(http, Target(name="t", url=await refused_url()), "tiny", 20.0)
        assert (gone.ok, gone.asked, gone.reach) == (False, False, "refused")
        async with raw_server(None) as url:
            cut = await send_canary(http, Target(name="t", url=url), "tiny", 20.0)
        assert (cut.ok, cut.asked, cut.reach) == (False, True, "reset")


async def test_no_model_to_be_found() -> None:
    """Says what to configure."""
    async with serving({}) as server, aiohttp.ClientSession() as http:
        got = await send_canary(http, Target(name="t", url=server.url), None, 20.0)
    assert (got.ok, got.asked) == (False, False)
    assert "set `model:`" in got.error


@pytest.mark.parametrize("body", [b"", b"[]", b'{"data":[7]}', b'{"data":[]}', b'{"data":[{"id":3}]}'])
def test_model_lists_that_name_none(body: bytes) -> None:
    """Any other shape names no model."""
    assert first_model(body) is None


async def test_the_time_between_tokens_as_a_client_sees_it() -> None:
    """A few tokens: each gap is measured where it arrives, and the server must not stop early."""

    async def slowly(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(4):
            await response.write(b'data: {"choices":[{"text":"a"}]}\n\n')
            await asyncio.sleep(0.05)
        await response.write(b"data: [DONE]\n\n")
        return response

    async with serving({"/v1/completions": slowly}) as server, aiohttp.ClientSession() as http:
        got = await send_canary(http, Target(name="t", url=server.url), "m", 20.0, tokens=4)
    assert got.ok
    assert len(got.gaps_s) == 3
    assert min(got.gaps_s) >= 0.02
    body = server.asked[0][2]
    assert (body["max_tokens"], body["ignore_eos"]) == (4, True)
