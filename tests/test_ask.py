"""Refused, timed out, reset, answered: does the client tell them apart?"""

from __future__ import annotations

import aiohttp
import pytest

from responder.ask import Answer, credentials, get
from responder.model import Target
from tests.doubles import answer, events, raw_server, refused_url, serving, silence


async def ask(url: str, timeout: float = 20.0, max_bytes: int = 1000) -> Answer:
    async with aiohttp.ClientSession() as http:
        return await get(http, url, timeout=timeout, max_bytes=max_bytes)


async def test_an_answer_of_any_status_is_an_answer() -> None:
    """503 is a server that speaks."""
    async with serving({"/health": answer("dead", 503)}) as server:
        got = await ask(server.url + "/health")
    assert (got.reach, got.status, got.body) == ("ok", 503, b"dead")


async def test_nobody_listens() -> None:
    """Refused: the process is gone."""
    got = await ask(await refused_url())
    assert (got.reach, got.status) == ("refused", None)


async def test_a_frozen_server_times_out() -> None:
    """The kernel accepts, nobody answers."""
    async with serving({"/health": silence}) as server:
        got = await ask(server.url + "/health", timeout=0.2)
    assert (got.reach, got.status) == ("timeout", None)


async def test_a_body_that_stops_in_the_middle_times_out() -> None:
    """The status is kept: it came."""
    async with serving({"/metrics": events(b"a 1\n", then=silence)}) as server:
        got = await ask(server.url + "/metrics", timeout=1.0)
    assert (got.reach, got.status, got.truncated) == ("timeout", 200, True)


@pytest.mark.parametrize(
    ("reply", "reach"),
    [
        (None, "reset"),
        (b"", "reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "reset"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "error"),
    ],
)
async def test_cut_and_foreign_connections(reply: bytes | None, reach: str) -> None:
    """A reset, a close without a word, half a body; and something that speaks no HTTP."""
    async with raw_server(reply) as url:
        assert (await ask(url)).reach == reach


async def test_a_huge_body_is_cut_at_the_cap() -> None:
    """What goes on past the cap is not read."""
    async with serving({"/metrics": answer(b"x" * 500_000)}) as server:
        got = await ask(server.url + "/metrics", max_bytes=1000)
    assert (len(got.body), got.truncated, got.reach) == (1000, True, "ok")


async def test_redirects_are_not_followed() -> None:
    """They would carry the key to another host."""
    async with serving({"/health": answer("", 302)}) as server:
        assert (await ask(server.url + "/health")).status == 302
        assert server.paths() == ["/health"]


async def test_a_url_that_is_none() -> None:
    """Nonsense is an answer too, never an exception."""
    assert (await ask("http://127.0.0.1:99999999/")).reach == "error"


def test_the_key_is_sent_only_when_there_is_one() -> None:
    """Bearer, as vLLM's --api-key wants it."""
    assert credentials(Target(name="t", url="http://x")) == {}
    assert credentials(Target(name="t", url="http://x", api_key="s3")) == {"Authorization": "Bearer s3"}
