"""Rounds of detection: a silent Prometheus changes nothing, a restart goes on, others' alerts fold in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from responder import watch as module
from responder.correlate import Policy
from responder.holding import Told
from responder.metrics import PrometheusSilent
from responder.model import Change, Content, Expectation, Incident, Rule, Severity, Signal, Silence, Target
from responder.rules import parse_expr
from responder.store_db import StoreFull, StoreSilent
from responder.store_sqlite import SqliteStore
from responder.telemetry import Telemetry
from responder.watch import Watch

TARGET = Target(name="t", url="http://h:1", match={"instance": "h:1"})
LABELS = {"instance": "h:1", "model_name": "m", "engine": "0"}


def rule(alert: str = "VLLMQueueGrowing", expr: str = "signal:waiting > 5", for_s: float = 4.0) -> Rule:
    return Rule(alert=alert, incident_class="high_ttft", severity=Severity.WARNING, expr=expr, terms=parse_expr(expr),
                for_s=for_s, summary="{{ $value }} wait")  # fmt: skip


CONTENT = Content(
    signals=(Signal(name="up", expr="up"), Signal(name="waiting", expr="w"), Signal(name="progress_total", expr="p")),
    rules=(rule(),),
)


class World:
    """A Prometheus that says what the test says, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1000.0
        self.waiting: float | None = 0.0
        self.silent = False
        self.garbage: set[str] = set()
        self.history: list[tuple[float, float | None]] = []
        self.asked: list[str] = []
        self.remembered: list[tuple[dict[str, str], list[float]]] = []
        """Series of ALERTS and when they fired."""
        self.store = SqliteStore(folder)
        self.store.open()
        self.watch = self.new()

    def new(self) -> Watch:
        made = Watch(self, self.store, Telemetry(), lambda: self.now, scrape_interval_s=2.0,  # type: ignore[arg-type]
                     policy=Policy(hold_down_s=6.0), silence_folder=self.folder / "silences")  # fmt: skip
        made.adopt([TARGET], ())
        return made

    async def instant(self, expr: str) -> list[Any]:
        self.asked.append(expr)
        if self.silent or expr in self.garbage:
            raise PrometheusSilent("down")
        value = {"up": 1.0, "w": self.waiting, "p": self.now}.get(expr)
        return [] if value is None and expr != "w" else [(LABELS, self.now, value)]

    async def raw(self, expr: str, at: float) -> list[Any]:
        if self.silent:
            raise PrometheusSilent("down")
        return [(labels, [(t, 1.0) for t in times if t <= at]) for labels, times in self.remembered]

    async def range(self, expr: str, start: float, end: float, step: float) -> list[Any]:
        return [(LABELS, self.history)]

    async def rounds(self, count: int, every: float = 2.0) -> list[tuple[Change, str]]:
        """Changes over some rounds."""
        out = []
        for _ in range(count):
            self.now += every
            changes = await self.watch.tick(CONTENT, {"t": TARGET}, {}, ())
            out += [(change, incident.id) for change, incident in changes]
        return out


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


async def test_an_incident_opens_after_its_for_and_ends_after_the_hold_down(world: World) -> None:
    """One open, one resolved, and the store knows both."""
    world.waiting = 9
    changes = await world.rounds(4)
    assert [c for c, _ in changes] == [Change.OPENED]
    world.waiting = 0
    changes = await world.rounds(6)
    assert [c for c, _ in changes] == [Change.RESOLVED]
    assert [i.state for i, _, _ in await world.store.incidents()] == ["resolved"]


async def test_a_silent_prometheus_neither_opens_nor_resolves(world: World) -> None:
    """Minutes of silence in the middle of an incident change nothing."""
    world.waiting = 9
    await world.rounds(4)
    world.silent = True
    assert await world.rounds(60) == []
    assert world.watch.open_count == 1
    world.silent, world.waiting = False, 0
    assert [c for c, _ in await world.rounds(6)] == [Change.RESOLVED]


async def test_one_query_per_signal_whatever_the_number_of_rules(world: World) -> None:
    """The number of questions does not grow with rules or targets."""
    content = CONTENT.model_copy(update={"rules": (rule(), rule("B"), rule("C"))})
    await world.watch.tick(content, {"t": TARGET}, {}, ())
    assert sorted(world.asked) == ["p", "up", "w"]


async def test_of_what_was_told_everything_is_asked_for_an_hour(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its return is known by how bad it is, without what compares it with the last hour, so nothing may be spared."""
    ask, spared_nothing = world.watch._asking.ask, []

    async def seen(content: Content, targets: tuple[Target, ...], held: set[tuple[str, str]]) -> Any:
        spared_nothing.append(held)
        return await ask(content, targets, held)

    monkeypatch.setattr(world.watch._asking, "ask", seen)
    await world.rounds(1)
    told = Told(alert="VLLMQueueGrowing", target="t", labels={}, half_way=4.0, over_at=world.now)
    world.watch.states = world.watch.states.model_copy(update={"told": (told,)})
    await world.rounds(1)
    assert spared_nothing == [set(), {("VLLMQueueGrowing", "t")}]


async def test_what_somebody_expects_is_asked_for_and_its_lack_is_an_incident(world: World) -> None:
    """The share is worked out here, so no rule names what it is worked out of; without an expectation nobody asks."""
    low = rule("VLLMThroughputLow", "signal:generation_share < 0.5 and on (instance) signal:progress_total > 0")
    made = (Signal(name="generation_minute_rate", expr="w"), Signal(name="finish_minute_rate", expr="f"))
    content = CONTENT.model_copy(update={"rules": (low,), "signals": (*CONTENT.signals, *made)})
    wanting = TARGET.model_copy(update={"expect": Expectation(generation_tokens_per_second=100.0)})
    world.waiting = 20.0
    for target, opened in ((TARGET, []), (wanting, [Change.OPENED])):
        world.asked.clear()
        changes = []
        for _ in range(4):
            world.now += 2.0
            changes += await world.watch.tick(content, {"t": target}, {}, ())
        assert [change for change, _ in changes] == opened
        assert ({"w", "f"} <= set(world.asked)) is bool(opened)


async def test_a_server_that_is_gone_leaves_our_metrics(world: World) -> None:
    """What was said of its signals last would stand there for ever, and alert."""
    world.waiting = None
    other = TARGET.model_copy(update={"name": "gone", "match": {"instance": "h:2"}})
    for targets, told in (({"t": TARGET, "gone": other}, ["gone"]), ({"t": TARGET}, [])):
        await world.watch.tick(CONTENT, targets, {}, ())
        page = world.watch.telemetry.page().decode()
        assert [name for name in ("gone",) if f'target="{name}"' in page] == told
        assert 'responder_signal_absent{signal="waiting",target="t"}' in page


async def test_the_onset_comes_from_the_data_not_from_the_alert(world: World) -> None:
    """The series left its usual level 20 s before the rule fired."""
    world.history = [(900.0 + t, 0.0 if t < 88 else 9.0) for t in range(0, 108, 2)]
    world.waiting = 9
    await world.rounds(4)
    (incident,) = world.watch.incidents.values()
    assert 986 <= incident.onset_at <= 990
    assert incident.timeline[0].kind == "onset"


async def test_a_restart_keeps_the_incident_and_the_running_for(world: World) -> None:
    """A pending rule goes on counting; an open incident stays the same one."""
    world.waiting = 9
    await world.rounds(2)
    world.watch = world.new()
    await world.watch.restore()
    changes = await world.rounds(2)
    assert [c for c, _ in changes] == [Change.OPENED]
    world.watch = world.new()
    await world.watch.restore()
    assert await world.rounds(3) == []
    assert list(world.watch.incidents) == [changes[0][1]]


async def test_an_alertmanagers_word_opens_the_same_incident(world: World) -> None:
    """Taken from disk, folded with our own symptom, and forgotten only once its meaning is on disk."""
    payload = {
        "version": "4",
        "alerts": [
            {"status": "firing", "labels": {"alertname": "VLLMQueueGrowing", **LABELS, "class": "high_ttft"},
             "annotations": {}, "startsAt": "1970-01-01T00:16:00Z"}
        ],
    }  # fmt: skip
    await world.store.add_intake(payload, world.now, limit=10)
    changes = await world.rounds(1)
    assert [c for c, _ in changes] == [Change.OPENED]
    assert await world.store.intake() == []
    world.watch = world.new()
    await world.watch.restore()
    assert len(world.watch.told.symptoms) == 1
    world.waiting = 9
    assert await world.rounds(4) == []
    payload["alerts"][0]["status"] = "resolved"  # type: ignore[index]
    world.waiting = 0
    await world.store.add_intake(payload, world.now, limit=10)
    assert [c for c, _ in await world.rounds(8)] == [Change.RESOLVED]


async def test_what_a_round_could_not_save_is_saved_under_the_same_name(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is away; whether the first try arrived nobody knows, so another name could be a second incident."""
    tried: list[str] = []
    whole = world.store.save_incident

    async def away_at_first(incident: Incident, *, stage: str = "", revision: int = 0) -> None:
        tried.append(incident.id)
        if len(tried) < 3:
            raise StoreSilent("no answer")
        await whole(incident, stage=stage, revision=revision)

    monkeypatch.setattr(world.store, "save_incident", away_at_first)
    world.waiting = 9
    await world.rounds(2)
    for _ in range(2):
        with pytest.raises(StoreSilent):
            await world.rounds(1)
    ((change, name),) = await world.rounds(1)
    assert (change, len(tried), set(tried)) == (Change.OPENED, 3, {name})
    assert [i.id for i, _, _ in await world.store.incidents()] == [name]


async def test_what_is_on_disk_is_told_though_the_round_failed_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise nobody would ever work on it: to later rounds it is the same as before."""
    whole = world.store.save_timers

    async def away(*_: object) -> None:
        raise StoreSilent("no answer")

    world.waiting = 9
    await world.rounds(2)
    monkeypatch.setattr(world.store, "save_timers", away)
    with pytest.raises(StoreSilent):
        await world.rounds(1)
    monkeypatch.setattr(world.store, "save_timers", whole)
    assert [change for change, _ in await world.rounds(3)] == [Change.OPENED]


async def test_a_silence_from_the_command_line_is_honoured(world: World) -> None:
    """`responder silence add` writes a file; a broken one is skipped."""
    folder = world.folder / "silences"
    folder.mkdir()
    (folder / "x.json").write_text("{")
    silence = Silence(id="s", match={"target": "t"}, starts_at=0, ends_at=1e12)
    (folder / "s.json").write_text(silence.model_dump_json())
    world.waiting = 9
    assert await world.rounds(6) == []
    (folder / "s.json").unlink()
    assert [c for c, _ in await world.rounds(1)] == [Change.OPENED]


async def test_a_target_taken_out_of_the_configuration_ends_its_incident(world: World) -> None:
    """Otherwise it would stay open for ever."""
    world.waiting = 9
    await world.rounds(4)
    changes = await world.watch.tick(CONTENT, {}, {}, ())
    assert [c for c, _ in changes] == [Change.RESOLVED]
    assert "configuration" in changes[0][1].timeline[-1].says


async def test_one_signal_that_cannot_be_read_does_not_stop_the_others(world: World) -> None:
    """Garbage for one question is unknown for that question."""
    world.garbage = {"up"}
    world.waiting = 9
    assert [c for c, _ in await world.rounds(4)] == [Change.OPENED]


def told(status: str, name: str = "Other", **more: Any) -> dict[str, Any]:
    return {"version": "4", "alerts": [
        {"status": status, "labels": {"alertname": name, **LABELS, "class": "high_ttft"}, "annotations": {},
         "startsAt": "1970-01-01T00:16:00Z", **more}
    ]}  # fmt: skip


async def test_what_had_passed_is_not_forgotten_while_the_disk_is_full(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was acknowledged, and over before a round saw it; its incident found no room: the next round has it again."""
    whole, full = world.store.save_incident, iter((True,))

    async def no_room_at_first(incident: Incident, *, stage: str = "", revision: int = 0) -> None:
        if next(full, False):
            raise StoreFull("no room")
        await whole(incident, stage=stage, revision=revision)

    monkeypatch.setattr(world.store, "save_incident", no_room_at_first)
    await world.store.add_intake(told("firing"), world.now, limit=10)
    await world.store.add_intake(told("resolved"), world.now, limit=10)
    assert await world.rounds(1) == []
    assert [change for change, _ in await world.rounds(1)] == [Change.OPENED]


async def test_a_payload_that_cannot_be_written_down_does_not_end_detection(world: World) -> None:
    """JSON may carry half of a surrogate pair, UTF-8 may not: every round would have failed on it, for ever."""
    payload = json.loads(json.dumps(told("firing", annotations={"summary": "\ud800"})))
    await world.store.add_intake(payload, world.now, limit=10)
    assert [change for change, _ in await world.rounds(1)] == [Change.OPENED]
    assert await world.store.intake() == []


async def test_a_slow_prometheus_holds_up_a_storm_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told before the round ends: when looking for one onset took all its time, the others are not looked
    for."""
    monkeypatch.setattr(module, "ONSET_TIMEOUT_S", 0.01)
    spent: list[float] = []

    async def slow(incident: Incident, *_: object) -> Incident:
        spent.append(_[-1])  # type: ignore[arg-type]
        await asyncio.sleep(spent[-1])
        return incident

    monkeypatch.setattr(module, "with_onset", slow)
    targets = {f"t{n}": Target(name=f"t{n}", url="http://h:1", match={"instance": f"h:{n}"}) for n in range(5)}
    for n in range(5):
        payload = told("firing")
        payload["alerts"][0]["labels"]["instance"] = f"h:{n}"
        await world.store.add_intake(payload, world.now, limit=10)
    assert len(await world.watch.tick(CONTENT, targets, {}, ())) == 5
    assert spent == [0.01, 0.0, 0.0, 0.0, 0.0]


async def test_what_was_missed_is_looked_for_by_a_second_life_too(world: World) -> None:
    """Prometheus was silent all through the first one: the outage before it is not forgotten."""
    await world.rounds(1)
    world.now += 600
    labels = {"alertname": "Other", **LABELS, "class": "high_ttft"}
    world.remembered = [(labels, [world.now - 300.0, world.now - 285.0])]
    world.silent = True
    for _ in range(2):
        world.watch = world.new()
        await world.watch.restore()
        await world.rounds(10)
    world.silent = False
    assert [change for change, _ in await world.rounds(10)][:1] == [Change.OPENED]
    world.watch = world.new()
    await world.watch.restore()
    assert world.watch.missed.since is not None
    assert world.watch.missed.since > world.now - 60


async def test_who_does_not_answer_is_said_once_and_when_it_answers_again(world: World) -> None:
    """An answer that is refused for its size is no 'all is well': somebody must be able to see it."""
    world.garbage = {"w"}
    with structlog.testing.capture_logs() as said:
        await world.rounds(3)
        world.garbage = set()
        await world.rounds(2)
    assert [(line["event"], line["signals"]) for line in said if line["event"].startswith("prometheus.")] == [
        ("prometheus.silent", ["waiting"]), ("prometheus.answers", ["waiting"]),
    ]  # fmt: skip


async def test_a_clock_set_back_mutes_nothing_for_longer(world: World) -> None:
    """A capture had just ended: its shadow is seconds long, not an hour and some seconds."""
    world.now = 1_000_000.0
    world.watch.muted = {"t": world.now + 20}
    world.waiting = 9
    assert await world.rounds(3) == []
    world.now -= 3600
    assert [change for change, _ in await world.rounds(4)] == [Change.OPENED]
