"""Are the services behind Apprise told what is new, and nothing more?"""

import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from responder.notify.apprise import AppriseReceiver, AppriseUrls
from tests.notify.conftest import message_of
from tests.sample_report import sample


@pytest.fixture
async def service():
    """A service Apprise tells by JSON."""
    seen, status = [], [200]

    async def take(request):
        seen.append(await request.json())
        return web.Response(status=status[0])

    app = web.Application()
    app.router.add_post("/", take)
    async with TestServer(app) as server:
        yield AppriseUrls("mail", AppriseReceiver(urls=f"json://127.0.0.1:{server.port}/")), seen, status


async def test_title_and_text_in_the_tone_of_the_incident(service, http, message):
    """A critical incident is a failure, its end a success."""
    notifier, seen, _ = service
    first = await notifier.send(http, message("first"))
    assert first.outcome == "delivered"
    await notifier.send(http, message("resolved", receipt=first.receipt))
    assert [told["type"] for told in seen] == ["failure", "success"]
    assert seen[0]["title"].startswith("OPEN · critical · chat-70b-a:8000")
    assert "What to do now" in seen[0]["message"]


async def test_an_update_with_nothing_new_is_not_sent(service, http, message):
    """Nobody can edit a mail."""
    notifier, seen, _ = service
    final = await notifier.send(http, message("final"))
    await notifier.send(http, message("update", receipt=final.receipt))
    assert len(seen) == 1


async def test_what_has_become_worse_is_sent(service, http):
    """The same cause, another class: a pager must hear of it."""
    notifier, seen, _ = service
    report = sample("update")
    before = report.incident.model_copy(update={"incident_class": "slow_decode"})
    first = await notifier.send(http, message_of(report.model_copy(update={"incident": before})))
    assert report.incident.incident_class != "slow_decode"
    await notifier.send(http, message_of(report, receipt=first.receipt))
    assert len(seen) == 2


async def test_a_failure_is_in_doubt(service, http, message):
    """Apprise says only that not all went well."""
    notifier, _, status = service
    status[0] = 500
    assert (await notifier.send(http, message("first"))).outcome == "ambiguous"


async def test_a_url_nobody_understands_is_named_by_its_number(http, message):
    """It may be a secret."""
    sent = await AppriseUrls("x", AppriseReceiver(urls="json://ok nonsense://secret")).send(http, message("first"))
    assert (sent.outcome, sent.reason) == ("dead", "URL number 2 is not one that Apprise knows")
    assert "secret" not in json.dumps(sent.reason)
