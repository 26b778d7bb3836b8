"""The daemon's canaries: off until recorded, told within one interval, quiet under noise, careful with a new server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from responder.canaries.learn import NotRecorded
from responder.canaries.learn import record as learn_record
from responder.canaries.patrol import Patrol
from responder.canaries.stored import Shelf
from responder.evaluate import observe
from responder.load import load_content
from responder.model import Sample, Target, Truth
from tests.canaries.fakes import PROMPTS, Weights, fake_vllm, record
from tests.doubles import Double
from tests.facts import FACTS, STEPS

ROOT = Path(__file__).resolve().parents[2]


class Watch:
    """A patrol over one fake server, a clock we turn, and the shipped rules."""

    def __init__(self, weights: Weights, double: Double, patrol: Patrol) -> None:
        self.weights, self.double, self.patrol = weights, double, patrol
        self.now = 1_000.0
        self.target = Target(name="t", url=double.url)
        content, _ = load_content([ROOT / "rules"], [ROOT / "playbooks"], STEPS, FACTS)
        self.rules = [rule for rule in content.rules if rule.alert.startswith("VLLMCanary")]
        patrol.clock = lambda: self.now

    async def pass_time(self, seconds: float) -> None:
        """Walk every two seconds, probes included."""
        until = self.now + seconds
        while self.now < until:
            self.now += 2.0
            self.patrol.walk({"t": self.target})
            task = self.patrol.watched["t"].task
            if task is not None:
                await task

    def alerts(self) -> set[str]:
        """Alerts whose condition holds now."""
        values = self.patrol.values("t")
        answers = {name: (Sample(signal=name, labels={"target": "t"}, value=value, at=self.now),)
                   for name, value in values.items()}  # fmt: skip
        seen = observe(self.rules, answers, [self.target], self.now)
        return {item.alert for item in seen if item.truth is Truth.YES}

    def asked(self) -> list[dict[str, object]]:
        return [body for path, _, body in self.double.asked if path == "/v1/completions"]


@pytest.fixture
async def watch(tmp_path: Path) -> AsyncIterator[Watch]:
    shelf = Shelf(tmp_path)
    async with fake_vllm() as (weights, double), aiohttp.ClientSession() as http:
        yield Watch(weights, double, Patrol(http, shelf, lambda _: (), lambda: 0.0, 60.0))


async def test_nothing_is_asked_until_something_is_recorded(watch: Watch) -> None:
    """Off by default."""
    await watch.pass_time(300)
    assert watch.double.asked == []
    assert watch.patrol.values("t") == {}


async def test_a_day_of_healthy_probes_raises_nothing(watch: Watch) -> None:
    """1440 probes with noise just under the tolerance."""
    watch.patrol.shelf.keep(record(tolerance=0.03))
    watch.weights.noise = 0.03
    for _ in range(24):
        await watch.pass_time(3600)
        assert watch.alerts() == set()
    assert watch.patrol.watched["t"].probes == 1440
    assert watch.patrol.watched["t"].streak == 0


@pytest.mark.parametrize(
    ("fault", "alert"), [("other", "VLLMCanaryDrift"), ("nan", "VLLMCanaryNaN"), ("noise", "VLLMCanaryDrift")]
)
async def test_corruption_is_told_within_five_minutes_at_a_probe_a_minute(watch: Watch, fault: str, alert: str) -> None:
    """Even when it begins right after a probe; and it ends when the answers are right again."""
    watch.patrol.shelf.keep(record())
    await watch.pass_time(120)
    assert watch.alerts() == set()
    setattr(watch.weights, fault, 0.5 if fault == "noise" else True)
    began = watch.now
    while alert not in watch.alerts() and watch.now - began < 300:
        await watch.pass_time(2)
    assert alert in watch.alerts()
    assert watch.now - began <= 80
    assert ("VLLMCanaryNaN" in watch.alerts()) is (fault == "nan")
    setattr(watch.weights, fault, 0.0 if fault == "noise" else False)
    await watch.pass_time(70)
    assert watch.alerts() == set()


async def test_a_clock_set_back_lets_nobody_go_unasked(watch: Watch) -> None:
    """An hour earlier by the clock: the next canary is asked now, not in an hour."""
    watch.patrol.shelf.keep(record())
    await watch.pass_time(10)
    asked = watch.patrol.watched["t"].probes
    watch.now -= 3600
    await watch.pass_time(4)
    assert watch.patrol.watched["t"].probes == asked + 1


async def test_one_odd_answer_alarms_nobody(watch: Watch) -> None:
    """It is asked again ten seconds later, and that one is right."""
    watch.patrol.shelf.keep(record())
    await watch.pass_time(10)
    watch.weights.other = True
    while not watch.patrol.watched["t"].streak:
        await watch.pass_time(2)
    watch.weights.other = False
    assert watch.alerts() == set()
    await watch.pass_time(12)
    assert watch.patrol.watched["t"].streak == 0


async def test_a_changed_server_asks_for_approval_and_is_not_recorded_again(watch: Watch) -> None:
    """Another version that answers differently is a warning; one that answers alike is none. The record stays."""
    path = watch.patrol.shelf.keep(record())
    before = path.read_bytes()
    watch.weights.version = "2"
    await watch.pass_time(200)
    assert watch.alerts() == set()
    assert watch.patrol.values("t")["responder_canary_changed"] == 1.0
    watch.weights.other = True
    await watch.pass_time(200)
    assert watch.alerts() == {"VLLMCanaryChanged"}
    assert path.read_bytes() == before


async def test_the_first_log_probabilities_of_a_busy_new_server_wait(watch: Watch) -> None:
    """They compile a kernel while everybody waits: tokens alone until it is quiet, or three minutes have passed."""
    watch.patrol.shelf.keep(record())
    watch.weights.running = 5.0
    await watch.pass_time(120)
    assert watch.asked()
    assert not any("logprobs" in body for body in watch.asked())
    watch.weights.running = 0.0
    await watch.pass_time(62)
    assert "logprobs" in watch.asked()[-1]
    watch.weights.running, watch.weights.started_at = 5.0, 900.0
    await watch.pass_time(62)
    assert "logprobs" not in watch.asked()[-1]
    await watch.pass_time(200)
    assert "logprobs" in watch.asked()[-1]


async def test_other_weights_are_seen_by_tokens_alone(watch: Watch) -> None:
    """In the minutes before the numbers are asked for."""
    watch.patrol.shelf.keep(record())
    watch.weights.running, watch.weights.other = 5.0, True
    await watch.pass_time(90)
    assert "VLLMCanaryMismatch" in watch.alerts()


async def test_a_server_that_does_not_answer_is_not_called_wrong(watch: Watch) -> None:
    """Other probes tell that; an old judgement is not repeated for ever."""
    watch.patrol.shelf.keep(record())
    await watch.pass_time(62)
    assert watch.patrol.values("t")["responder_canary_token_match"] == 1.0
    watch.target = watch.target.model_copy(update={"url": "http://127.0.0.1:9"})
    await watch.pass_time(300)
    assert watch.patrol.values("t") == {}


async def test_recording_learns_and_refuses_what_is_not_good(watch: Watch) -> None:
    """A healthy server gives a record with its noise; NaN, silence and no model are refused in words."""
    async with aiohttp.ClientSession() as http:
        watch.weights.noise = 0.03
        made = await learn_record(http, watch.target, PROMPTS, (), loads=(0, 2), runs_per_load=2)
        assert {pin.stable for pin in made.record.pins} == {8}
        assert all(0.02 < pin.tolerance < 0.2 for pin in made.record.pins)
        assert made.record.fingerprint["version"] == "1"
        watch.weights.nan = True
        with pytest.raises(NotRecorded, match="NaN"):
            await learn_record(http, watch.target, PROMPTS, (), loads=(0,), runs_per_load=1)
        with pytest.raises(NotRecorded, match="127.0.0.1"):
            await learn_record(http, Target(name="t", url="http://127.0.0.1:9"), PROMPTS, ())
