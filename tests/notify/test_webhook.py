"""Does any program get the report exactly once in effect, verifiably from us?"""

import asyncio
import time

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from standardwebhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from responder.notify.notifier import retry_after
from responder.notify.webhook import Webhook, WebhookReceiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


class Receiving:
    """A receiver that keeps requests and answers as told; status 0 does not answer."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.release = asyncio.Event()
        self.url = ""

    async def hook(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        if self.status == 0:
            await self.release.wait()
        return web.Response(status=self.status or 200, headers=self.headers)


@pytest.fixture
async def receiver():
    """On a free port."""
    receiving = Receiving()
    app = web.Application()
    app.router.add_post("/hook", receiving.hook)
    async with TestServer(app) as server:
        receiving.url = f"http://127.0.0.1:{server.port}/hook"
        yield receiving
        receiving.release.set()


def notifier(receiver, **more) -> Webhook:
    """A webhook to the test's receiver."""
    return Webhook("program", WebhookReceiver(url=receiver.url, **more))


async def test_the_body_is_the_contract(http, receiver, message):
    """Byte for byte, with id and time even without a secret."""
    sent = await notifier(receiver).send(http, message())
    assert sent.outcome == "delivered"
    [(headers, body)] = receiver.got
    assert body == message().body
    assert headers["Content-Type"] == "application/json"
    assert headers["webhook-id"] == message().delivery_id
    assert "webhook-signature" not in headers


async def test_the_signature_verifies_with_the_standards_library(http, receiver, message):
    """And only with the right secret and an unchanged body."""
    await notifier(receiver, secret=SECRET).send(http, message())
    [(headers, body)] = receiver.got
    assert Verifier(SECRET).verify(body, headers)["kind"] == "IncidentReport"
    for secret, changed in ((OLD, body), (SECRET, body.replace(b'"open"', b'"shut"', 1))):
        with pytest.raises(WebhookVerificationError):
            Verifier(secret).verify(changed, headers)


async def test_both_secrets_hold_while_rotating(http, receiver, message, tmp_path):
    """The new one from a file, the old one beside it."""
    (tmp_path / "secret").write_text(SECRET + "\n")
    await notifier(receiver, secret_file=tmp_path / "secret", previous_secret=OLD).send(http, message())
    [(headers, body)] = receiver.got
    assert Verifier(SECRET).verify(body, headers)
    assert Verifier(OLD).verify(body, headers)


async def test_the_signed_time_is_now(http, receiver, message):
    """A replay guard needs the time of sending, not of the report."""
    clock = time.time()
    hook = Webhook("program", WebhookReceiver(url=receiver.url, secret=SECRET), clock=lambda: clock)
    await hook.send(http, message())
    assert receiver.got[0][0]["webhook-timestamp"] == str(int(clock))


async def test_a_bearer_token_is_sent(http, receiver, message, tmp_path):
    """For receivers behind an ordinary gate."""
    (tmp_path / "token").write_text("abc\n")
    await notifier(receiver, bearer_token_file=tmp_path / "token").send(http, message())
    assert receiver.got[0][0]["Authorization"] == "Bearer abc"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "delivered"), (202, "delivered"), (204, "delivered"), (301, "dead"), (302, "dead"), (400, "dead"),
        (401, "dead"), (404, "dead"), (408, "retry"), (410, "dead"), (413, "dead"), (429, "retry"), (500, "retry"),
        (502, "retry"), (503, "retry"),
    ],
)  # fmt: skip
async def test_what_a_status_means(http, receiver, message, status, outcome):
    """Gone is gone, busy is later; a redirect is never followed."""
    receiver.status = status
    receiver.headers = {"Location": receiver.url} if status in (301, 302) else {}
    sent = await notifier(receiver).send(http, message())
    assert sent.outcome == outcome
    assert len(receiver.got) == 1


async def test_retry_after_is_honoured(http, receiver, message):
    """Seconds, as the receiver says."""
    receiver.status, receiver.headers = 429, {"Retry-After": "17"}
    assert (await notifier(receiver).send(http, message())).retry_after_s == 17


def test_retry_after_may_be_a_date_or_nonsense():
    """Dates count from now; nonsense is no answer; nobody makes us wait for days."""
    assert retry_after("Fri, 20 Nov 2026 03:14:00 GMT", 1795144384.0) == 56.0
    assert retry_after("soon", 0) is None
    assert retry_after("nan", 0) is None
    assert retry_after(None, 0) is None
    assert retry_after("999999", 0) == 3600
    assert retry_after("-5", 0) == 0


async def test_no_answer_in_time_is_not_a_no(http, receiver, message):
    """It may have arrived: ambiguous, and sent again with the same id."""
    receiver.status = 0
    sent = await notifier(receiver, timeout_s=0.3).send(http, message())
    assert sent.outcome == "ambiguous"
    assert len(receiver.got) == 1


async def test_nobody_listening_is_retried(http, message):
    """Nothing was sent; the reason names no URL."""
    hook = Webhook("program", WebhookReceiver(url=f"http://127.0.0.1:{unused_port()}/secret-path"))
    sent = await hook.send(http, message())
    assert sent.outcome == "retry"
    assert "cannot connect" in sent.reason
    assert "secret-path" not in sent.reason


async def test_a_missing_secret_file_sends_nothing(http, receiver, message, tmp_path):
    """Unsigned is not an alternative to signed."""
    sent = await notifier(receiver, secret_file=tmp_path / "absent").send(http, message())
    assert (sent.outcome, receiver.got) == ("retry", [])
