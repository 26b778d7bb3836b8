"""A target Prometheus has nothing of is told of: without its metrics a hang looks like an idle night."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from responder.load import load_content
from responder.model import Change, Sample, Target
from responder.probe import Probe, Seen
from responder.unseen import Unseen
from tests.test_watch import CONTENT, TARGET, World

ROOT = Path(__file__).resolve().parent.parent
HERE = Target(name="here", url="http://h:1", match={"instance": "h:1"})
WRONG = Target(name="wrong", url="http://h:2", match={"instance": "gpu-1:8000"})


def up(value: float, instance: str = "h:1") -> dict[str, tuple[Sample, ...] | None]:
    return {"up": (Sample(signal="up", labels={"instance": instance}, value=value, at=0),), "progress_total": ()}


def told(unseen: Unseen, now: float, value: float = 1.0, known: tuple[str, ...] = ("here",)) -> list[str]:
    return [target.name for target in unseen.round(up(value), (HERE, WRONG), known, now)[0]]


def test_one_without_series_is_told_of_once_after_a_few_scrapes() -> None:
    """And again only when it had been seen meanwhile."""
    unseen = Unseen(lambda _: None)
    assert [told(unseen, float(at)) for at in (0, 10, 29, 31, 60)] == [[], [], [], ["wrong"], []]
    assert unseen.round(up(1), (HERE, WRONG), ("here", "wrong"), 70) == ([], ["wrong"])
    assert [told(unseen, float(at)) for at in (80, 111)] == [[], ["wrong"]]


def test_one_that_cannot_be_scraped_has_an_alert_and_a_silent_prometheus_says_nothing() -> None:
    """`up` is 0: the server is down, not overlooked."""
    unseen = Unseen(lambda _: None)
    for at in range(0, 100, 10):
        assert told(unseen, at, value=0.0, known=("wrong",)) == []
        assert unseen.round({**up(1), "progress_total": None}, (HERE, WRONG), (), at) == ([], [])


class Probed(Probe):
    """A probe that nobody runs: it knows only what it is told."""

    def __init__(self, target: Target) -> None:
        self.target, self.seen, self._canary = target, Seen(), None


async def test_a_person_is_told_after_minutes_and_when_it_is_seen_again(tmp_path: Path) -> None:
    """An incident of the class `unwatched`, by the rule we ship; not for what is there after two minutes, and not by a
    silent Prometheus."""
    shipped, _ = load_content([ROOT / "rules"], [], {}, ())
    content = CONTENT.model_copy(update={"rules": tuple(r for r in shipped.rules if r.alert == "VLLMTargetUnseen")})
    world = World(tmp_path)
    probes, came = {"wrong": Probed(WRONG)}, []

    async def rounds(seconds: int, target: Target = WRONG) -> None:
        for _ in range(0, seconds, 10):
            world.now += 10
            came.extend(await world.watch.tick(content, {"wrong": target}, probes, ()))

    try:
        await rounds(120)
        await rounds(20, WRONG.model_copy(update={"match": TARGET.match}))  # the server was only being moved
        assert came == []
        world.watch = world.new()  # a daemon that sees it has forgotten nothing of it
        await rounds(150)
        world.silent = True
        await rounds(100)
        assert came == []
        world.silent = False
        await rounds(400)
        ((change, incident),) = came
        assert (change, incident.incident_class) == (Change.OPENED, "unwatched")
        assert "`match`" in incident.symptoms[0].summary
        await rounds(60, WRONG.model_copy(update={"match": TARGET.match}))
        assert [change for change, _ in came] == [Change.OPENED, Change.RESOLVED]
    finally:
        world.store.close()


def test_of_one_that_has_vanished_there_is_another_alert() -> None:
    """Prometheus had it, and no longer has: that is told at once, as a server that is down."""
    unseen, probe = Unseen(lambda _: None), Probed(WRONG)
    for seen, value in (((), True), (("wrong",), False)):
        unseen.tell(up(1), (HERE, WRONG), ("here",), 0.0, {"wrong": probe}, seen)
        assert probe.seen.unseen is value


async def test_the_daemon_logs_it_with_its_labels_and_counts_it(tmp_path: Path) -> None:
    """What an operator needs to mend `match`."""
    world = World(tmp_path)
    try:
        with capture_logs() as logs:
            for _ in range(20):
                world.now += 2
                await world.watch.tick(CONTENT, {"wrong": WRONG}, {}, ())
        (line,) = [entry for entry in logs if entry["event"] == "target.unseen"]
        assert (line["target"], line["match"], line["log_level"]) == ("wrong", WRONG.match, "warning")
        assert "responder_targets_unseen 1.0" in world.watch.telemetry.page().decode()
    finally:
        world.store.close()
