"""The outbox: in order, at least once, one receiver never waits for another, and nothing outlives its meaning."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from responder import outbox as module
from responder.folder import folder_of
from responder.model import Delivery
from responder.notify.notifier import Message, Sent
from responder.outbox import Outbox, backoff_s
from responder.store_sqlite import SqliteStore


class Receiver:
    """A notifier that answers what the test says, and remembers what it was told."""

    kind = "fake"

    def __init__(self, name: str, *answers: Sent | Exception) -> None:
        self.name = name
        self.answers = list(answers)
        self.told: list[Message] = []
        self.hold: asyncio.Event | None = None
        self.settings: Any = None

    async def send(self, _: aiohttp.ClientSession, message: Message) -> Sent:
        if self.hold:
            await self.hold.wait()
        self.told.append(message)
        answer = self.answers.pop(0) if self.answers else Sent("delivered", receipt=f"r{len(self.told)}")
        if isinstance(answer, Exception):
            raise answer
        return answer


class Scene:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1000.0
        self.store = SqliteStore(folder)
        self.store.open()
        self.results: list[tuple[str, str, str]] = []

    def outbox(self, http: Any, *receivers: Receiver) -> Outbox:
        return Outbox(
            self.store, http, {r.name: r for r in receivers}, self.folder, lambda: self.now,
            lambda *result: self.results.append(result),
        )  # fmt: skip

    def write(self, revision: int) -> None:
        self.write_for("i", revision)

    def write_for(self, incident: str, revision: int) -> None:
        folder = folder_of(self.folder, incident)
        for name, text in (("report.json", b"{}"), ("summary.txt", b"s"), ("report.md", b"m")):
            folder.write(f"revisions/{revision}/{name}", text)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path)
    for revision in (1, 2, 3, 4):
        made.write(revision)
    yield made
    made.store.close()


async def test_messages_go_out_in_order_with_the_receipt_of_the_earlier_one(scene: Scene) -> None:
    """A Slack edit needs the timestamp of the first message."""
    receiver = Receiver("a")
    box = scene.outbox(None, receiver)
    for revision, stage in ((1, "first"), (2, "final"), (3, "resolved")):
        await box.add("i", revision, stage)
    await box._round("a")
    assert [(m.revision, m.receipt) for m in receiver.told] == [(1, ""), (2, "r1"), (3, "r2")]
    assert {d.state for d in await scene.store.deliveries()} == {"delivered"}


async def test_a_failed_message_is_tried_again_and_holds_back_only_its_own_incident(scene: Scene) -> None:
    """Later messages of the same incident wait, so that nobody hears 'resolved' before 'open'."""
    receiver = Receiver("a", Sent("retry", "503"))
    box = scene.outbox(None, receiver)
    await box.add("i", 1, "first")
    await box.add("i", 2, "final")
    wait = await box._round("a")
    assert [m.revision for m in receiver.told] == [1]
    scene.now += wait + 0.01
    await box._round("a")
    assert [m.revision for m in receiver.told] == [1, 1, 2]
    assert [d.attempts for d in await scene.store.deliveries()] == [2, 1]


async def test_retry_after_is_honoured(scene: Scene) -> None:
    """A receiver that says 30 s is left alone for 30 s."""
    box = scene.outbox(None, Receiver("a", Sent("retry", "429", retry_after_s=30.0)))
    await box.add("i", 1, "first")
    assert await box._round("a") == 30.0
    assert (await scene.store.deliveries())[0].next_at == pytest.approx(1030.0)


async def test_an_update_that_a_newer_one_replaces_is_not_sent_late(scene: Scene) -> None:
    """First, final and resolved are always told; an old update says nothing the newer one does not."""
    receiver = Receiver("a")
    box = scene.outbox(None, receiver)
    for revision, stage in ((1, "first"), (2, "update"), (3, "update"), (4, "resolved")):
        await box.add("i", revision, stage)
    await box._round("a")
    assert [m.revision for m in receiver.told] == [1, 4]


async def test_an_ambiguous_end_is_tried_again_marked_as_possible_duplicate(scene: Scene) -> None:
    """It may have arrived."""
    receiver = Receiver("a", Sent("ambiguous", "no answer"))
    box = scene.outbox(None, receiver)
    await box.add("i", 1, "first")
    scene.now += await box._round("a") + 0.01
    await box._round("a")
    assert [m.possible_duplicate for m in receiver.told] == [False, True]


async def test_dead_means_dead_and_is_visible(scene: Scene) -> None:
    """410 Gone, or a report that no longer exists: kept as dead with the reason, and never tried again."""
    receiver = Receiver("a", Sent("dead", "410"))
    box = scene.outbox(None, receiver)
    await box.add("i", 1, "first")
    await box.add("i", 9, "final")
    await box._round("a")
    await box._round("a")
    assert len(receiver.told) == 1
    assert [(d.state, bool(d.error)) for d in await scene.store.deliveries()] == [("dead", True), ("dead", True)]


async def test_a_notifier_that_raises_is_a_failed_attempt(scene: Scene) -> None:
    """Its bug costs a retry, not the queue."""
    receiver = Receiver("a", ZeroDivisionError())
    box = scene.outbox(None, receiver)
    await box.add("i", 1, "first")
    await box._round("a")
    assert (await scene.store.deliveries())[0].state == "pending"
    assert scene.results[0][:2] == ("a", "retry")


async def test_a_dead_receiver_never_delays_another(scene: Scene) -> None:
    """While one hangs, the other has been told."""
    slow, quick = Receiver("slow"), Receiver("quick")
    slow.hold = asyncio.Event()
    box = scene.outbox(None, slow, quick)
    box.start()
    await box.add("i", 1, "first")
    async with asyncio.timeout(10):
        while not quick.told:
            await asyncio.sleep(0.01)
    assert slow.told == []
    await box.stop()


async def test_news_at_the_moment_it_is_stopped_does_not_keep_it(scene: Scene) -> None:
    """Woken and cancelled at once: Python 3.11's `asyncio.wait_for` would swallow the cancellation."""
    box = scene.outbox(None, Receiver("a"))
    box.start()
    await asyncio.sleep(0.1)  # its first round is over, it waits
    box.wake()
    async with asyncio.timeout(10):
        await box.stop()


async def test_what_was_not_delivered_is_there_after_a_restart(scene: Scene) -> None:
    """Another process goes on with it."""
    box = scene.outbox(None, Receiver("a", Sent("retry", "down")))
    await box.add("i", 1, "first")
    await box._round("a")
    again = Receiver("a")
    scene.now += 3600
    await scene.outbox(None, again)._round("a")
    assert [m.delivery_id for m in again.told] == ["i.1.a"]


async def test_a_message_nobody_takes_in_a_minute_is_ambiguous(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notifier that ignores its own timeout is cut off."""
    monkeypatch.setattr(module, "SEND_TIMEOUT_S", 0.01)
    receiver = Receiver("a")
    receiver.hold = asyncio.Event()
    box = scene.outbox(None, receiver)
    await box.add("i", 1, "first")
    await box._round("a")
    assert scene.results[0][1] == "ambiguous"


def test_backoff_grows_to_a_quarter_of_an_hour() -> None:
    """2 s at first, never more than about 19 min."""
    assert backoff_s(1, 0.5) == 2.0
    assert backoff_s(2, 0.5) == 4.0
    assert backoff_s(500, 1.0) == 1125.0


async def test_an_attempt_cut_off_by_our_end_is_in_doubt(scene: Scene) -> None:
    """Killed between sending and noting: the next attempt says that it may be the second, and is flagged."""
    receiver = Receiver("a")
    receiver.hold = asyncio.Event()
    box = scene.outbox(None, receiver)
    await box.add("i", 1, "first")
    work = asyncio.create_task(box._round("a"))
    while not (await scene.store.deliveries())[0].error:
        await asyncio.sleep(0.01)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    again = Receiver("a")
    await scene.outbox(None, again)._round("a")
    assert [m.possible_duplicate for m in again.told] == [True]
    assert [(d.state, d.doubtful) for d in await scene.store.deliveries()] == [("delivered", True)]


async def test_a_receiver_that_says_when_is_left_alone_altogether(scene: Scene) -> None:
    """Retry-After is the channel's, not one message's; order is kept."""
    scene.write_for("j", 1)
    receiver = Receiver("a", Sent("retry", "429", retry_after_s=30.0))
    box = scene.outbox(None, receiver)
    await box.add("i", 1, "first")
    await box.add("j", 1, "first")
    await box._round("a")
    await box._round("a")
    assert [m.incident for m in receiver.told] == ["i"]
    scene.now += 31
    await box._round("a")
    assert [m.incident for m in receiver.told] == ["i", "i", "j"]


async def test_another_receiver_is_told_what_one_does_not_take(scene: Scene) -> None:
    """After so many failures, once; and at once when it refuses for good."""
    first = Receiver("a", *[Sent("retry", "503")] * 3, Sent("dead", "410"))
    first.settings = SimpleNamespace(fallback="b", fallback_after=2)
    second = Receiver("b")
    box = scene.outbox(None, first, second)
    await scene.store.add_deliveries(
        [Delivery(id="i.1.a", incident="i", revision=1, receiver="a", stage="first", queued_at=scene.now)]
    )
    told = []
    for _ in range(4):
        scene.now += 1000
        await box._round("a")
        await box._round("b")
        told.append(len(second.told))
    assert told == [0, 1, 1, 1]
    assert {d.receiver: d.state for d in await scene.store.deliveries()} == {"a": "dead", "b": "delivered"}


async def test_it_is_given_up_after_days_not_before(scene: Scene) -> None:
    """A receiver that is down over the weekend has its messages on Monday."""
    receiver = Receiver("a", *[Sent("retry", "down")] * 1000)
    box = scene.outbox(None, receiver)
    await box.add("i", 1, "first")
    began = scene.now
    while (await scene.store.deliveries())[0].state == "pending":
        scene.now += max(await box._round("a"), 1.0)
    assert 75 * 3600 < scene.now - began < 77 * 3600
    assert await scene.store.delivery_counts() == {("a", "dead"): 1}


async def test_what_is_queued_while_others_are_sent_is_not_slept_over(scene: Scene) -> None:
    """The wake-up of a message that comes during a round counts for the next one."""
    receiver = Receiver("a")
    box = scene.outbox(None, receiver)
    receiver.hold = asyncio.Event()
    box.start()
    await box.add("i", 1, "first")
    while not (await scene.store.deliveries())[0].error:
        await asyncio.sleep(0.01)
    await box.add("i", 2, "final")
    receiver.hold.set()
    async with asyncio.timeout(10):
        while len(receiver.told) < 2:
            await asyncio.sleep(0.01)
    await box.stop()


async def test_a_report_that_cannot_be_read_for_a_moment_is_not_given_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file left to open is no proof that the message has gone; a doubt about an earlier attempt stays."""
    receiver = Receiver("a", Sent("ambiguous", "cut off"))
    box = scene.outbox(None, receiver)
    await box.add("i", 1, "first")
    await box._round("a")
    whole, fails = module.read_message, iter((True,))

    def read(*what: Any) -> Message:
        if next(fails, False):
            raise OSError(errno.EMFILE, "Too many open files")
        return whole(*what)

    monkeypatch.setattr(module, "read_message", read)
    for _ in range(2):
        scene.now += 60
        await box._round("a")
    assert [d.state for d in await scene.store.deliveries()] == ["delivered"]
    assert receiver.told[-1].possible_duplicate


async def test_nothing_is_given_up_for_its_age_alone(scene: Scene) -> None:
    """We were off for a week, or the clock was set forward: the first failure afterwards is an attempt like any."""
    receiver = Receiver("a", Sent("retry", "the network is not up yet"))
    box = scene.outbox(None, receiver)
    await box.add("i", 1, "first")
    scene.now += 7 * 86400
    await box._round("a")
    scene.now += 60
    await box._round("a")
    assert [d.state for d in await scene.store.deliveries()] == ["delivered"]


async def test_a_clock_set_back_does_not_hold_messages_up(scene: Scene) -> None:
    """Two hours earlier by the clock: what was to be tried in seconds is not tried in two hours."""
    receiver = Receiver("a", Sent("retry", "down"), Sent("retry", "busy", 5.0))
    box = scene.outbox(None, receiver)
    await box.add("i", 1, "first")
    for _ in range(3):
        await box._round("a")
        scene.now -= 7200
    assert [d.state for d in await scene.store.deliveries()] == ["delivered"]


async def test_a_rest_that_is_over_holds_nobody_up(scene: Scene) -> None:
    """The oldest message waits long for its next attempt; one of another incident goes out when the rest is over."""
    scene.write_for("j", 1)
    receiver = Receiver("a", Sent("retry", "down"), Sent("retry", "busy", 1.0))
    box = scene.outbox(None, receiver)
    await box.add("i", 1, "first")
    await box._round("a")
    (late,) = await scene.store.deliveries()
    await scene.store.save_delivery(late.model_copy(update={"next_at": scene.now + 900}))
    await box.add("j", 1, "first")
    for _ in range(2):
        await box._round("a")
        scene.now += 5
    assert {d.incident: d.state for d in await scene.store.deliveries()} == {"i": "pending", "j": "delivered"}


async def test_a_receiver_that_was_taken_out_keeps_nobody_busy(scene: Scene) -> None:
    """Its task ends; what waits for it stays in case it comes back, and is ended once nobody waits for it."""
    receiver = Receiver("a", *[Sent("retry", "down")] * 9)
    box = scene.outbox(None, receiver)
    await box.add("i", 1, "first")
    box.start()
    task = box._tasks["a"]
    box.notifiers = {}
    box.start()
    async with asyncio.timeout(10):
        await task
    for later, state in ((0, "pending"), (80 * 3600, "dead")):
        scene.now += later
        await box.bury()
        assert [d.state for d in await scene.store.deliveries()] == [state]
    await box.stop()


async def test_a_message_about_an_incident_that_is_not_ours_waits(scene: Scene) -> None:
    """Another replica may be telling it at this moment; of another incident people are told."""
    receiver = Receiver("a")
    box = scene.outbox(None, receiver)
    box.may_tell = lambda incident: incident != "i"
    scene.write_for("ours", 1)
    await box.add("i", 1, "first")
    await box.add("ours", 1, "first")
    assert await box._round("a") <= 1.0
    assert [message.incident for message in receiver.told] == ["ours"]
