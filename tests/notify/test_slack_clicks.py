"""Is only Slack believed, is it answered at once, and does the person hear what came of a press?"""

import asyncio
import json
from urllib.parse import urlencode

import pytest
from slack_sdk.signature import SignatureVerifier

from responder.model import Button
from responder.notify import slack_clicks as module
from responder.notify.slack_bot import SlackBot, SlackBotReceiver
from responder.notify.slack_clicks import NOT_OPERATOR, Clicks, Clock, clicked
from tests.notify.fake_slack import APP_TOKEN, CHANNEL, TOKEN

NOW = 1_795_144_400.0
SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
BUTTONS = (
    Button(id="0123456789abcdef.0a", action="acknowledge", incident="i1"),
    Button(id="0123456789abcdef.0b", action="silence", incident="i1", seconds=3600),
    Button(id="0123456789abcdef.0c", action="approve", incident="i1", step="gdb", rung=2, until=NOW, what="gdb: 2 s"),
    Button(id="0123456789abcdef.0d", action="deny", incident="i1", step="gdb", rung=2, until=NOW),
    Button(id="0123456789abcdef.0e", action="right", incident="i1", cause="worker_hang"),
)  # fmt: skip


def pressed(value="0123456789abcdef.0a", action="acknowledge.x", user="U1", **more):
    """Slack's block_actions payload."""
    return {
        "type": "block_actions", "user": {"id": user, "username": "ada"}, "channel": {"id": CHANNEL},
        "actions": [{"action_id": action, "value": value, "type": "button"}], **more,
    }  # fmt: skip


def request(payload, at=NOW, secret=SECRET):
    """Body and headers as Slack sends them."""
    body = urlencode({"payload": json.dumps(payload)}).encode()
    signature = SignatureVerifier(secret).generate_signature(timestamp=str(int(at)), body=body)
    return body, {"X-Slack-Request-Timestamp": str(int(at)), "X-Slack-Signature": signature}


@pytest.fixture
async def desk(slack, http):
    """Clicks of one bot, with what was pressed in a list."""
    presses = []

    async def press(button, who, receiver):
        presses.append((button, who, receiver))
        return "Done & <fine>."

    def made(**settings):
        more = {"signing_secret": SECRET} | settings
        bot = SlackBot("team", SlackBotReceiver(token=TOKEN, channel=CHANNEL, api_url=f"{slack.base}/api/", **more))
        clicks = Clicks(lambda: {"team": bot}, http, press, lambda: NOW)
        opened.append(clicks)
        return clicks, presses

    opened: list[Clicks] = []
    yield made
    for clicks in opened:
        await clicks.stop()


async def until(true):
    """Wait for something another task does."""
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


async def test_a_signed_press_is_answered_first_and_worked_on_then(desk, slack):
    """200 before anything was done; the answer goes to the person alone, as plain text."""
    clicks, presses = desk()
    assert await clicks.posted(*request(pressed())) == (200, "")
    assert presses == []
    await until(lambda: slack.whispers)
    assert presses == [("0123456789abcdef.0a", "ada (U1, Slack)", "team")]
    assert (slack.whispers[0]["user"], slack.whispers[0]["text"]) == ("U1", "Done &amp; &lt;fine&gt;.")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda b, h: (b, {}), 401),
        (lambda b, h: (b + b"&x=1", h), 401),
        (lambda b, h: (b, h | {"X-Slack-Request-Timestamp": "soon"}), 401),
        (lambda b, h: request(pressed(), at=NOW - 301), 401),
        (lambda b, h: request(pressed(), at=NOW + 301), 401),
        (lambda b, h: request(pressed(), secret="another"), 401),
        (lambda b, h: (b"x" * (300 << 10), h), 413),
    ],
)
async def test_what_slack_did_not_sign_lately_is_refused(desk, change, status):
    """No signature, another body, another secret, too old, from the future, too large."""
    clicks, presses = desk()
    assert (await clicks.posted(*change(*request(pressed()))))[0] == status
    assert presses == []


async def test_the_same_request_is_heard_once(desk, slack):
    """A replay inside the window is still a replay."""
    clicks, presses = desk()
    sent = request(pressed())
    assert [(await clicks.posted(*sent))[0] for _ in range(3)] == [200, 409, 409]
    await until(lambda: slack.whispers)
    assert len(presses) == 1


async def test_only_operators_may_disturb_a_server(desk, slack):
    """Everybody may take an incident; allowing a capture is for those who are named."""
    clicks, presses = desk(operators=("U2",))
    await clicks.posted(*request(pressed(action="approve.x")))
    await clicks.posted(*request(pressed(action="acknowledge.x")))
    await until(lambda: len(slack.whispers) == 2)
    assert {button for button, _, _ in presses} == {NOT_OPERATOR, "0123456789abcdef.0a"}


async def test_more_presses_than_anybody_makes_are_refused(desk, slack, monkeypatch):
    """With an answer after which Slack asks its user to try again; those that were heard are worked on."""
    monkeypatch.setattr(module, "MOST_AT_ONCE", 2)
    clicks, presses = desk()
    sent = [request(pressed(action=f"acknowledge.{number}")) for number in range(3)]
    answers = await asyncio.gather(*(clicks.posted(*one) for one in sent))
    assert sorted(status for status, _ in answers) == [200, 200, 503]
    await until(lambda: len(slack.whispers) == 2)


async def test_socket_mode_needs_no_address(desk, slack):
    """The envelope is acknowledged, the press done, a repeated envelope not done again."""
    slack.envelopes = [{"type": "interactive", "envelope_id": "e1", "payload": pressed()}] * 2
    clicks, presses = desk(app_token=APP_TOKEN)
    clicks.listen()
    await until(lambda: slack.whispers and slack.heard == ["e1", "e1"])
    assert len(presses) == 1


@pytest.mark.parametrize("payload", [None, [], {}, {"type": "view_submission"}, pressed() | {"actions": []},
                                     pressed(value=None), pressed(value="")])  # fmt: skip
def test_what_is_no_press_of_ours_is_nothing(payload):
    """Later kinds of payload, link buttons, broken ones."""
    assert clicked(payload) is None


def test_a_menu_says_its_choice():
    """static_select carries the value elsewhere."""
    payload = pressed() | {"actions": [{"action_id": "silence", "selected_option": {"value": "v"}}]}
    assert (clicked(payload).button, clicked(payload).action) == ("v", "silence")


async def test_buttons_are_shown_where_a_press_is_heard(slack, http, message):
    """With a signing secret or an app token, within Slack's limits; without either there are none."""
    for settings, wanted in (({}, 0), ({"signing_secret": SECRET}, 5)):
        bot = SlackBot("team", SlackBotReceiver(token=TOKEN, channel=CHANNEL, api_url=f"{slack.base}/api/", **settings),
                       gap_s=0)  # fmt: skip
        assert (await bot.send(http, message("first", buttons=BUTTONS))).outcome == "delivered"
        rows = [b for b in slack.parents()[-1]["blocks"] if b["type"] == "actions"]
        assert sum(len(row["elements"]) for row in rows) == wanted


def test_the_verifier_is_asked_for_our_time():
    """The library reads its clock through this."""
    assert Clock(lambda: 7.0).now() == 7.0
