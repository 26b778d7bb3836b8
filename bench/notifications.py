"""Do messages arrive through a bad network? To a webhook and to Slack (a fake that behaves as Slack does), each through
a proxy that resets, cuts and delays; a third receiver is dead all the time and must delay nobody."""

from __future__ import annotations

import asyncio
import json
import pathlib
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any
from unittest import mock

import aiohttp
from aiohttp import web

from responder import outbox as module
from responder.folder import folder_of
from responder.model import Delivery
from responder.notify.slack_bot import SlackBot, SlackBotReceiver
from responder.notify.webhook import Webhook, WebhookReceiver
from responder.outbox import Outbox
from responder.store_sqlite import SqliteStore
from tests.fault_proxy import Fault, FaultProxy

FAULTS: tuple[Fault, ...] = (
    *("none",) * 191, *("reset",) * 3, *("delay",) * 2, *("cut_request",) * 2, *("cut_answer",) * 2,
)  # fmt: skip
"""One connection in twenty-odd meets a fault, one in a hundred loses only its answer."""


@dataclass(frozen=True)
class Figures:
    """What arrived."""

    messages: int
    lost: int
    webhook_again: int
    """Arrived again with the id they had."""
    visible_twice: int
    """Messages of an incident that a channel shows more than once."""
    unflagged: int
    """Of these, without our knowing: neither flagged in the message nor in the deliveries."""
    drawn: Counter[str]
    seconds: float


class Ends:
    """A webhook receiver and a Slack channel."""

    def __init__(self) -> None:
        self.hooked: Counter[str] = Counter()
        self.posted: list[dict[str, Any]] = []

    async def start(self) -> int:
        app = web.Application()
        app.router.add_post("/hook", self._hook)
        app.router.add_route("*", "/api/{method}", self._slack)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        return int(self.runner.addresses[0][1])

    async def _hook(self, request: web.Request) -> web.Response:
        try:
            await request.read()
        except ConnectionError:
            return web.Response(status=400)  # cut on its way: as if it had never come
        self.hooked[request.headers["webhook-id"]] += 1
        return web.Response()

    async def _slack(self, request: web.Request) -> web.Response:
        try:
            body = await request.read()
        except ConnectionError:
            return web.Response(status=400)
        method = request.match_info["method"]
        if method == "chat.postMessage":
            message = json.loads(body)
            message["ts"] = f"{1_700_000_000 + len(self.posted)}.0001"
            self.posted.append(message)
            return web.json_response({"ok": True, "ts": message["ts"], "channel": message["channel"]})
        if method in ("conversations.history", "conversations.replies"):
            newest, skip = self.posted[::-1], int(request.query.get("cursor") or 0)
            more = {"next_cursor": str(skip + 200)} if len(newest) > skip + 200 else {}
            page = newest[skip : skip + 200]
            return web.json_response({"ok": True, "messages": page, "response_metadata": more})
        return web.json_response({"ok": True, "ts": "1", "channel": "C0000000"})


def through_faults(messages: int, seed: int = 1) -> Figures:
    """So many messages, half of them to each receiver."""
    quick = {"FIRST_RETRY_S": 0.02, "MAX_RETRY_S": 0.2}
    with mock.patch.multiple(module, **quick):
        return asyncio.run(_run(messages // 2, seed))


async def _run(count: int, seed: int) -> Figures:
    ends = Ends()
    port = await ends.start()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        store = SqliteStore(folder)
        store.open()
        async with FaultProxy("127.0.0.1", port, FAULTS, seed) as proxy, _client() as http:
            url = f"http://127.0.0.1:{proxy.listens}"
            slack = SlackBotReceiver.model_validate(
                {"token": "xoxb-1", "channel": "C0000000", "api_url": f"{url}/api/", "charts": False,
                 "digest_over": 10**9}  # every message by itself: what counts here is whether it arrives
            )  # fmt: skip
            box = Outbox(
                store, http,
                {
                    "hook": Webhook("hook", WebhookReceiver(url=f"{url}/hook", timeout_s=5)),
                    "slack": SlackBot("slack", slack, gap_s=0.0),
                    "dead": Webhook("dead", WebhookReceiver(url="http://127.0.0.1:9/hook")),
                },
                folder, time.time,
            )  # fmt: skip
            await asyncio.to_thread(_write, folder, count)
            for at in range(0, count, 500):
                await store.add_deliveries(_queued(range(at, min(at + 500, count))))
            box.start()
            while (await store.delivery_counts()).get(("hook", "delivered"), 0) < count or (  # noqa: ASYNC110
                await store.delivery_counts()
            ).get(("slack", "delivered"), 0) < count:
                await asyncio.sleep(0.2)
            await box.stop()
        doubtful = {item.id for item in await _all(store, count)}
        store.close()
    await ends.runner.cleanup()
    return _figures(ends, count, doubtful, proxy.drawn, time.monotonic() - began)


def _figures(ends: Ends, count: int, doubtful: set[str], drawn: Counter[str], seconds: float) -> Figures:
    shown = Counter(m["metadata"]["event_payload"]["incident"] for m in ends.posted
                    if m["metadata"]["event_payload"]["part"] == "parent")  # fmt: skip
    lost = sum(f"i{n}.1.hook" not in ends.hooked for n in range(count)) + sum(
        f"i{n}" not in shown for n in range(count)
    )
    twice = [name for name, times in shown.items() if times > 1]
    return Figures(
        messages=2 * count, lost=lost, webhook_again=sum(times - 1 for times in ends.hooked.values()),
        visible_twice=len(twice), unflagged=sum(f"{name}.1.slack" not in doubtful for name in twice), drawn=drawn,
        seconds=seconds,
    )  # fmt: skip


async def _all(store: SqliteStore, count: int) -> list[Delivery]:
    """Deliveries flagged as perhaps doubled."""
    rows = await store._do(lambda db: db.execute("SELECT body FROM deliveries WHERE receiver='slack'").fetchall())
    return [item for item in (Delivery.model_validate_json(row[0]) for row in rows) if item.doubtful]


def _queued(numbers: range) -> list[Delivery]:
    return [
        Delivery(id=f"i{n}.1.{name}", incident=f"i{n}", revision=1, receiver=name, stage="first", queued_at=time.time())
        for n in numbers
        for name in ("hook", "slack", *(["dead"] if n < 5 else []))
    ]


def _write(folder: pathlib.Path, count: int) -> None:
    from responder.report import summary_text, to_json, to_markdown
    from tests.sample_report import sample as sample_report

    sample = sample_report("first")
    body, summary, markdown = to_json(sample), summary_text(sample).encode(), to_markdown(sample).encode()
    for number in range(count):
        base = folder_of(folder, f"i{number}").path / "revisions" / "1"
        base.mkdir(parents=True)
        for name, data in (("report.json", body), ("summary.txt", summary), ("report.md", markdown)):
            (base / name).write_bytes(data)


def _client() -> aiohttp.ClientSession:
    """A connection per request, so that each meets the proxy's dice."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
