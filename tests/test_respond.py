"""The flow: people are told early, then completely, always of the end; whatever breaks is a row of the report."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from responder import carefully as careful
from responder import publish as publishing
from responder import respond as module
from responder.allowance import Allowance
from responder.capture.step import Fetched, Scene
from responder.case import Kit
from responder.folder import folder_of
from responder.model import CapturePolicy, Change, Fact, Served
from responder.replay import replay
from responder.report import to_json
from responder.respond import Responder
from responder.store_db import StoreSilent
from tests.flow import NOW, Listener, brings, incident, kit, step, symptom

Made = tuple[Kit, Responder, Listener]


@pytest.fixture
async def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """make(*steps) -> (kit, responder, listener), all stopped afterwards; nothing waits for real."""
    monkeypatch.setattr(module, "SECOND_LOOK_S", 0.01)
    monkeypatch.setattr(module, "GREW_SETTLES_S", 0.01)
    monkeypatch.setattr(module, "FIRST_WORD_S", 0.05)
    made: list[Made] = []
    async with aiohttp.ClientSession() as http:

        def make(*steps: Any, folder: Path = tmp_path) -> Made:
            listener = Listener()
            parts = kit(folder, http, listener, *steps)
            parts.outbox.start()
            made.append((parts, Responder(parts), listener))
            return made[-1]

        yield make
        for parts, responder, _ in made:
            await responder.stop()
            await parts.outbox.stop()
            parts.store.close()


def cause_of(message: Any) -> tuple[str, str]:
    top = json.loads(message.body)["hypotheses"][0]
    return top["cause"], top["status"]


async def test_first_then_final_then_resolved_and_the_folder_replays(
    flow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The three messages, the cause confirmed, and the verdict again from the stored bytes, byte for byte."""
    monkeypatch.setattr(module, "FIRST_WORD_S", 60.0)  # however busy the machine, the step comes first
    parts, responder, listener = flow(step("look", brings({"busy": True})))
    responder.handle(Change.OPENED, incident())
    assert cause_of(await listener.until("final")) == ("c", "confirmed")
    assert listener.stages == ["first", "final"]
    changes = [json.loads(message.body)["changed"] for message in listener.told]
    assert changes == ["", 'Final report: the cause is still "c", confirmed as before.']
    folder = tmp_path / "incidents" / "i1"
    assert to_json(replay(folder, parts.steps)) == (folder / "report.json").read_bytes()
    over = incident(state="resolved", resolved_at=NOW + 60)
    responder.handle(Change.RESOLVED, over)
    told = json.loads((await listener.until("resolved")).body)
    assert told["incident"]["state"] == "resolved"
    assert to_json(replay(folder, parts.steps)) == (folder / "report.json").read_bytes()
    for name in ("report.md", "report.html", "manifest.json", "content.json"):
        assert (folder / name).stat().st_size > 100


async def test_the_first_word_does_not_wait_for_a_slow_step(flow: Any) -> None:
    """Somebody is told while a step still hangs; the final report has its evidence too."""
    release = asyncio.Event()

    async def slow(_: Scene) -> Fetched:
        await release.wait()
        return Fetched({"facts.json": b'{"busy": true}'})

    _, responder, listener = flow(step("look", brings({"busy": False})), step("deep", slow))
    responder.handle(Change.OPENED, incident())
    await listener.until("first")
    assert "final" not in listener.stages
    release.set()
    final = await listener.until("final")
    assert cause_of(final) == ("d", "confirmed")
    assert json.loads(final.body)["changed"].startswith(
        'Final report: a cause was found, "d" (confirmed), because deep.busy'
    )


async def test_every_way_to_break_is_evidence(flow: Any) -> None:
    """A step that raises, one that never ends, one that brings garbage: rows with a reason, and a report."""

    async def raises(_: Scene) -> Fetched:
        raise ZeroDivisionError("secret is hunter22")

    async def never(_: Scene) -> Fetched:
        await asyncio.Event().wait()
        raise AssertionError

    async def garbage(_: Scene) -> Fetched:
        return Fetched({"facts.json": b"\xff{{{"})

    _, responder, listener = flow(
        step("look", raises), step("deep", never, timeout_s=0.05), step("odd", garbage), step("big", too_big)
    )
    responder.handle(Change.OPENED, incident())
    body = (await listener.until("final")).body
    rows = {c["step"]: c for c in json.loads(body)["captures"]}
    assert (rows["look"]["status"], rows["deep"]["status"]) == ("failed", "timed_out")
    assert (rows["odd"]["status"], rows["big"]["status"]) == ("partial", "partial")
    assert all(rows[name]["reason"] for name in rows)
    assert b"hunter22" not in body
    assert cause_of(await listener.until("final"))[0] == "unknown"


async def too_big(_: Scene) -> Fetched:
    return Fetched({"facts.json": b"{}" + b" " * (1 << 20)})


async def test_secrets_never_reach_the_disk(flow: Any, tmp_path: Path) -> None:
    """Known values are gone from every file of the folder, and the manifest says how often."""

    async def leaks(_: Scene) -> Fetched:
        return Fetched({"facts.json": b'{"busy": true, "key": "hunter22"}'})

    _, responder, listener = flow(step("look", leaks))
    responder.handle(Change.OPENED, incident())
    await listener.until("final")
    files = [p for p in (tmp_path / "incidents").rglob("*") if p.is_file()]
    assert files
    assert [p for p in files if b"hunter22" in p.read_bytes()] == []
    manifest = json.loads((tmp_path / "incidents/i1/manifest.json").read_text())
    assert manifest["evidence"][0]["redactions"]


async def test_growing_means_another_look_and_a_worse_class_is_told_at_once(flow: Any) -> None:
    """More of the same settles first; another class speaks before the ladder is climbed again."""
    looks = 0

    async def look(_: Scene) -> Fetched:
        nonlocal looks
        looks += 1
        return Fetched({"facts.json": b'{"busy": true}'})

    _, responder, listener = flow(step("look", look))
    responder.handle(Change.OPENED, incident())
    await listener.until("final")
    responder.handle(Change.GREW, incident(symptoms=(symptom(), symptom("B"))))
    await listener.until("update")
    assert looks == 2
    grown = incident(symptoms=(symptom(), symptom("H", "hang_or_crash")), incident_class="hang_or_crash")
    responder.handle(Change.GREW, grown)
    await listener.until("update", 2)
    await listener.until("update", 3)
    assert looks == 3


async def test_what_disturbs_is_not_done_twice_for_the_same_trouble(flow: Any) -> None:
    """Rung 1 once per incident, unless its class changes."""
    asked = 0

    async def canary(_: Scene) -> Fetched:
        nonlocal asked
        asked += 1
        return Fetched({"facts.json": b'{"busy": false}'})

    _, responder, listener = flow(step("look", brings({"busy": False})), step("canary", canary, rung=1))
    responder.handle(Change.OPENED, incident())
    await listener.until("final")
    responder.handle(Change.GREW, incident(symptoms=(symptom(), symptom("B"))))
    await listener.until("update")
    assert asked == 1


async def test_a_canary_that_was_allowed_in_as_many_words_runs_at_rung_0(flow: Any) -> None:
    """Its probe asks already, so the report must know what one token does; nothing else of rung 1 runs."""
    parts, responder, listener = flow(
        step("look", brings({"busy": False})), step("canary", brings({"busy": False}), rung=1),
        step("stacks", brings({"busy": False}), rung=1),
    )  # fmt: skip
    policy = CapturePolicy(max_rung=0)
    parts.targets = {"t": parts.targets["t"].model_copy(update={"capture": policy, "canary": True})}
    responder.handle(Change.OPENED, incident())
    rows = {c["step"]: c for c in json.loads((await listener.until("final")).body)["captures"]}
    assert rows["canary"]["status"] == "ok"
    assert "rung 1 is above rung 0" in rows["stacks"]["reason"]
    lines = [entry for _, _, entry in await parts.store.audit() if entry["step"] == "canary"]
    assert lines[-1]["allowed_by"] == "policy: `canary: true`"


async def test_a_refused_step_is_in_the_report_with_its_reason(flow: Any) -> None:
    """The target's owner switched canaries off."""
    parts, responder, listener = flow(step("look", brings({"busy": True})), step("canary", brings({}), rung=1))
    parts.targets = {"t": parts.targets["t"].model_copy(update={"canary": False})}
    responder.handle(Change.OPENED, incident())
    rows = {c["step"]: c for c in json.loads((await listener.until("final")).body)["captures"]}
    assert rows["canary"]["status"] in ("refused", "denied", "skipped")
    assert rows["canary"]["reason"]


async def test_stopping_in_the_middle_leaves_an_open_incident(flow: Any) -> None:
    """SIGTERM ends captures; nothing is told as final that was not."""
    started = asyncio.Event()

    async def never(_: Scene) -> Fetched:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    parts, responder, listener = flow(step("look", never))
    await parts.store.save_incident(incident())
    responder.handle(Change.OPENED, incident())
    await started.wait()
    await responder.stop()
    assert "final" not in listener.stages
    assert (await parts.store.incidents(only_open=True))[0][0].id == "i1"


async def test_captures_have_a_common_deadline(flow: Any) -> None:
    """What has not ended by then is evidence `interrupted`."""

    async def never(_: Scene) -> Fetched:
        await asyncio.Event().wait()
        raise AssertionError

    parts, responder, listener = flow(step("look", never, timeout_s=30))
    parts.deadline_s = 0.2
    responder.handle(Change.OPENED, incident())
    rows = json.loads((await listener.until("final")).body)["captures"]
    assert rows[0]["status"] == "interrupted"


async def test_an_incident_of_a_removed_target_still_ends(flow: Any, tmp_path: Path) -> None:
    """Nobody is left without the resolution."""
    parts, responder, listener = flow(step("look", brings({"busy": True})))
    parts.targets = {}
    responder.handle(Change.RESOLVED, incident(state="resolved", resolved_at=NOW + 5))
    await listener.until("resolved")
    assert folder_of(tmp_path, "i1").path.is_dir()


async def test_a_database_that_is_away_for_longer_costs_no_report(flow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flow is taken up again from what is there, and what disturbed the server is not done a second time."""
    monkeypatch.setattr(module, "FULL_AGAIN_S", 0.01)
    touched: list[int] = []

    async def deep(_: Scene) -> Fetched:
        touched.append(1)
        return Fetched({"facts.json": b'{"busy": true}'})

    parts, responder, listener = flow(step("look", brings({"busy": False})), step("deep", deep, rung=1))
    whole, away = parts.store.publish, iter((False, True, True))

    async def sometimes(*what: Any, **how: Any) -> None:
        if next(away, False):
            raise StoreSilent("no answer")
        await whole(*what, **how)

    monkeypatch.setattr(parts.store, "publish", sometimes)
    responder.handle(Change.OPENED, incident())
    await listener.until("final")
    assert touched == [1]


async def test_what_comes_back_while_its_end_is_told_is_told_again(flow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end is on its way out when the trouble returns: that it is back is told, and later that it is over."""
    parts, responder, listener = flow(step("look", brings({"busy": True})))
    responder.handle(Change.OPENED, incident())
    await listener.until("final")
    whole = parts.store.publish

    async def comes_back_meanwhile(*what: Any, **how: Any) -> None:
        if how["stage"] == "resolved" and len(listener.stages) == 2:
            responder.handle(Change.GREW, incident())
        await whole(*what, **how)

    monkeypatch.setattr(parts.store, "publish", comes_back_meanwhile)
    over = incident(state="resolved", resolved_at=NOW + 60)
    responder.handle(Change.RESOLVED, over)
    told = json.loads((await listener.until("final", 2)).body)
    assert told["incident"]["state"] == "open"
    responder.handle(Change.RESOLVED, over)
    await listener.until("resolved", 2)
    assert await parts.store.incidents(untold=True) == []


async def test_what_comes_back_before_its_end_is_told_is_not_told_as_over(flow: Any) -> None:
    """It returns while the last look at its metrics is taken: nobody hears that it is over until it is."""
    looks = 0

    async def look(_: Scene) -> Fetched:
        nonlocal looks
        looks += 1
        if looks == 2:
            responder.handle(Change.GREW, incident())
        return Fetched({"facts.json": b"{}"})

    _, responder, listener = flow(step("look", brings({"busy": True})), step("metrics_window", look))
    responder.handle(Change.OPENED, incident())
    await listener.until("final")
    over = incident(state="resolved", resolved_at=NOW + 60)
    responder.handle(Change.RESOLVED, over)
    told = json.loads((await listener.until("update")).body)
    assert (told["incident"]["state"], "resolved" in listener.stages) == ("open", False)
    responder.handle(Change.RESOLVED, over)
    assert json.loads((await listener.until("resolved")).body)["incident"]["state"] == "resolved"


async def test_an_update_that_could_not_be_kept_is_made_again(flow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk was full, or the database away, just when it had grown: people hear of it as soon as there is room."""
    monkeypatch.setattr(module, "FULL_AGAIN_S", 0.01)
    parts, responder, listener = flow(step("look", brings({"busy": True})))
    responder.handle(Change.OPENED, incident())
    await listener.until("final")
    whole, away = parts.store.publish, iter((True,))

    async def sometimes(*what: Any, **how: Any) -> None:
        if next(away, False):
            raise StoreSilent("no answer")
        await whole(*what, **how)

    monkeypatch.setattr(parts.store, "publish", sometimes)
    responder.handle(Change.GREW, incident(symptoms=(symptom(), symptom("B"))))
    told = json.loads((await listener.until("update")).body)
    assert {row["alert"] for row in told["symptoms"]} == {"A", "B"}


async def test_a_flow_that_fails_is_taken_up_again_and_counted(flow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file could be opened for a moment, in the middle of a storm: that costs no report."""
    monkeypatch.setattr(module, "FAILED_AGAIN_S", (0.01, 0.01), raising=False)
    parts, responder, listener = flow(step("look", brings({"busy": True})))
    whole, fails = parts.store.steps, iter((True, True))

    async def steps(name: str) -> Any:
        if next(fails, False):
            raise OSError(errno.EMFILE, "Too many open files")
        return await whole(name)

    monkeypatch.setattr(parts.store, "steps", steps)
    responder.handle(Change.OPENED, incident())
    await listener.until("final")
    assert b"responder_incidents_failed_total 2.0" in parts.telemetry.page()


async def test_a_fault_in_the_diagnosis_does_not_keep_the_alert_back(
    flow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug that comes again at every try: the alert is told alone and says why; what follows is told when it works."""
    monkeypatch.setattr(module, "FAILED_AGAIN_S", (0.01,), raising=False)
    _, responder, listener = flow(step("look", brings({"busy": True})))
    whole = publishing.diagnose
    fails = True

    def diagnose(incident: Any, playbooks: Any, *rest: Any) -> Any:
        if playbooks and fails:
            raise KeyError("a bug")
        return whole(incident, playbooks, *rest)

    monkeypatch.setattr(publishing, "diagnose", diagnose)
    responder.handle(Change.OPENED, incident())
    told = json.loads((await listener.until("first")).body)
    assert [row["alert"] for row in told["symptoms"]] == ["A"]
    assert any("KeyError" in entry["says"] for entry in told["timeline"])
    fails = False
    responder.handle(Change.GREW, incident(symptoms=(symptom(), symptom("B"))))
    assert cause_of(await listener.until("final")) == ("c", "confirmed")


async def test_what_earlier_incidents_left_costs_no_report(flow: Any) -> None:
    """A fault in what is only told beside it: the report is told without."""
    parts, responder, listener = flow(step("look", brings({"busy": True})))

    async def fails(_: Any) -> Any:
        raise ZeroDivisionError

    parts.experience = fails
    responder.handle(Change.OPENED, incident())
    assert cause_of(await listener.until("final")) == ("c", "confirmed")


async def test_what_changes_is_told_though_an_earlier_try_failed(flow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try was minutes away, and it is over: that is no time to wait."""
    monkeypatch.setattr(module, "FAILED_AGAIN_S", (600.0,))
    monkeypatch.setattr(module, "FULL_AGAIN_S", 0.01)
    parts, responder, listener = flow(step("look", brings({"busy": True})))
    whole, failed, fails = parts.store.steps, asyncio.Event(), iter((True,))

    async def steps(name: str) -> Any:
        if next(fails, False):
            failed.set()
            raise OSError(errno.EMFILE, "Too many open files")
        return await whole(name)

    monkeypatch.setattr(parts.store, "steps", steps)
    responder.handle(Change.OPENED, incident())
    await failed.wait()
    responder.handle(Change.RESOLVED, incident(state="resolved", resolved_at=NOW + 60))
    await listener.until("resolved")


async def test_who_waited_is_asked_once_more_when_it_is_over_and_weighed(flow: Any) -> None:
    """While a server answers nobody that cannot be told; what the metrics show of health afterwards is not weighed."""
    seen: dict[str, bool] = {}

    async def asked(_: Any) -> Fetched:
        return Fetched({"facts.json": json.dumps(seen).encode()})

    parts, responder, listener = flow(step("aftermath", asked), step("metrics_window", brings({})))
    weight = parts.content.causes[0].evidence[0]
    clause = weight.test.all[0].model_copy(update={"fact": "aftermath.busy"})
    told = weight.model_copy(update={"test": weight.test.model_copy(update={"all": (clause,)})})
    cause = parts.content.causes[0].model_copy(update={"evidence": (told,)})
    parts.content = parts.content.model_copy(update={"causes": (cause, *parts.content.causes[1:])})
    responder.handle(Change.OPENED, incident())
    assert cause_of(await listener.until("final"))[1] != "confirmed"
    seen["busy"] = True
    responder.handle(Change.RESOLVED, incident(state="resolved", resolved_at=NOW + 60))
    assert cause_of(await listener.until("resolved")) == ("c", "confirmed")


async def test_what_was_looked_at_between_two_spells_is_looked_at_in_the_next(
    flow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look that fell into a quiet moment is taken once more when users wait again, before the final report."""
    grown = {"metrics.itl_mean.baseline": 0.01, "metrics.itl_mean.now": 0.1}
    looks = 0

    async def window(_: Scene) -> Fetched:
        return Fetched({"facts.json": json.dumps(grown).encode()})

    async def look(_: Scene) -> Fetched:
        nonlocal looks
        looks += 1
        return Fetched({"facts.json": json.dumps({"busy": looks > 1}).encode()})

    async def begins(*_: Any) -> bool:
        return True

    monkeypatch.setattr(module, "SECOND_LOOK_S", 60.0)  # the usual second look is not what finds it
    monkeypatch.setattr(module, "Sentry", Watch)
    monkeypatch.setattr(module, "spell_begins", begins)
    monkeypatch.setattr(careful, "served_in", lambda *_: Served(itl_s=0.01 if looks < 2 else 0.1))
    metrics = replace(step("metrics", window), read=_as_named)
    parts, responder, listener = flow(metrics, replace(step("look", look), momentary=("*",)))
    allowance = Allowance(MemoryPurse(), lambda: NOW, lambda: parts.targets, set, dict)
    responder.kit = replace(parts, allowance=allowance)
    responder.handle(Change.OPENED, incident())
    assert cause_of(await listener.until("final")) == ("c", "confirmed")
    assert looks == 2


async def test_what_is_known_is_told_before_the_next_spell_is_waited_for(
    flow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that came after the first message names a cause that is not certain; people hear of it at once."""
    grown = {"metrics.itl_mean.baseline": 0.01, "metrics.itl_mean.now": 0.1}
    told: list[list[str]] = []

    async def later(_: Scene) -> Fetched:
        await asyncio.wait_for(first.wait(), 20)
        return Fetched({"facts.json": json.dumps({"busy": True}).encode()})

    async def begins(*_: Any) -> bool:
        told.append(list(listener.stages))
        return False

    monkeypatch.setattr(module, "Sentry", Watch)
    monkeypatch.setattr(module, "spell_begins", begins)
    monkeypatch.setattr(careful, "served_in", lambda *_: Served(itl_s=0.01))
    metrics = replace(step("metrics", brings(grown)), read=_as_named)
    look = replace(step("look", brings({"busy": True})), momentary=("*",))
    parts, responder, listener = flow(metrics, look, step("deep", later))
    first = listener.news
    weak = parts.content.causes[1].evidence[0].model_copy(update={"yes": 4.0})
    causes = (parts.content.causes[0], parts.content.causes[1].model_copy(update={"evidence": (weak,)}))
    allowance = Allowance(MemoryPurse(), lambda: NOW, lambda: parts.targets, set, dict)
    content = parts.content.model_copy(update={"causes": causes})
    responder.kit = replace(parts, allowance=allowance, content=content)
    responder.handle(Change.OPENED, incident())
    assert cause_of(await listener.until("final"))[0] == "d"
    assert len(told) == 1
    assert listener.stages[:2] == ["first", "update"]
    assert [cause_of(message)[0] for message in listener.told][1] == "d"


async def test_another_trouble_does_not_wait_for_the_next_spell(flow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that dies while its next spell is waited for is looked at everywhere, and told of, at once."""
    grown = {"metrics.itl_mean.baseline": 0.01, "metrics.itl_mean.now": 0.1}
    looks = 0

    async def look(_: Scene) -> Fetched:
        nonlocal looks
        looks += 1
        return Fetched({"facts.json": json.dumps({"busy": True}).encode()})

    async def begins(_: Any, __: Any, unless: Any) -> bool:
        assert not unless()
        worse = (symptom(), symptom("B", "hang_or_crash"))
        responder.handle(Change.GREW, incident(incident_class="hang_or_crash", symptoms=worse))
        assert unless()
        return False

    monkeypatch.setattr(module, "Sentry", Watch)
    monkeypatch.setattr(module, "spell_begins", begins)
    monkeypatch.setattr(careful, "served_in", lambda *_: Served(itl_s=0.01))
    metrics = replace(step("metrics", brings(grown)), read=_as_named)
    parts, responder, listener = flow(metrics, replace(step("look", look), momentary=("*",)))
    allowance = Allowance(MemoryPurse(), lambda: NOW, lambda: parts.targets, set, dict)
    responder.kit = replace(parts, allowance=allowance)
    responder.handle(Change.OPENED, incident())
    told = json.loads((await listener.until("update")).body)
    assert told["incident"]["class"] == "hang_or_crash"
    assert "final" not in listener.stages
    await listener.until("final")
    assert looks >= 2


class Watch:
    """A sentry that sees nothing itself."""

    ticks = beats = ()
    gone = ""

    def __init__(self, *_: Any) -> None:
        pass

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def count(self) -> None:
        pass


def _as_named(files: Any, brief: Any) -> Any:
    for name, value in json.loads(files["facts.json"]).items():
        yield Fact(name=name, value=value, step="metrics", file="facts.json", at=brief.now)


class MemoryPurse:
    """Nothing was ever spent."""

    async def costs(self, since: float) -> list[Any]:
        return []
