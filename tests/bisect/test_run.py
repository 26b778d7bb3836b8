"""A whole bisection over processes that stand in for vLLM: found, not reproduced, none heals, resumed, interrupted."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import pytest

from responder.bisect import run
from responder.bisect.changes import REFERENCE, Launch, steps
from responder.bisect.reference import NoReference
from responder.bisect.run import Bisection
from responder.bisect.server import session
from responder.bisect.story import BASELINE, BASELINE_AGAIN, State, Verdict
from responder.canaries.pins import Answer, Prompt
from tests.canaries.fakes import PROMPTS, record, right

ROOT = Path(__file__).resolve().parents[2]


class Bench:
    """A bisection of the fake in a folder; `told` is what was said."""

    def __init__(self, folder: Path, unless: str, *, dies: str = "", known: bool = True) -> None:
        argv = (sys.executable, "-m", "tests.bisect.fake_server")
        argv += (f"--wrong-unless={unless}",) if unless else ()
        argv += (f"--dies-with={dies}",) if dies else ()
        self.launch = Launch(argv=argv, environment={"PYTHONPATH": str(ROOT)})
        self.told: list[str] = []
        self.folder, self.known = folder, known

    def work(self, state: State | None = None) -> Bisection:
        state = state or State(id="x", command=self.launch.argv, reference="recorded", began_at=time.time())
        plan = tuple(s for s in steps(self.launch, "cpu") if s.name != "attention_backend")
        return Bisection(self.launch, plan, PROMPTS, record() if self.known else None, state, self.folder, 60.0,
                         self.told.append)  # fmt: skip

    def stored(self) -> State:
        return State.model_validate_json((self.folder / "state.json").read_bytes())


@pytest.fixture(autouse=True)
def _transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test loads a real model unless it says so."""

    async def answers(launch: Launch, prompts: tuple[Prompt, ...]) -> tuple[Answer, ...]:
        return tuple(right(prompt) for prompt in prompts)

    monkeypatch.setattr(run, "transformers_answers", answers)


def names(state: State) -> list[tuple[str, str]]:
    return [(tried.name, tried.outcome) for tried in state.tried]


async def test_it_stops_at_the_first_change_that_heals_and_checks_it_again(tmp_path: Path) -> None:
    """The original must be wrong again, and the change must heal again."""
    bench = Bench(tmp_path, "--no-enable-chunked-prefill")
    verdict = await bench.work().run()
    assert (verdict.status, verdict.change, verdict.option) == (
        "found", "chunked_prefill_off", "--no-enable-chunked-prefill")  # fmt: skip
    assert names(bench.stored()) == [
        (BASELINE, "wrong"), ("prefix_caching_off", "wrong"), ("compilation_off", "wrong"), ("eager", "wrong"),
        ("chunked_prefill_off", "right"), (BASELINE_AGAIN, "wrong"), ("chunked_prefill_off, once more", "right"),
    ]  # fmt: skip
    report = (tmp_path / "report.md").read_text()
    assert "start the server with `--no-enable-chunked-prefill`" in report
    assert "a CPU has no CUDA graphs" in report
    assert json.loads((tmp_path / "report.json").read_bytes())["verdict"]["status"] == "found"
    assert any("left" in words for words in bench.told)


async def test_a_server_that_is_right_here_accuses_its_place(tmp_path: Path) -> None:
    """Nothing is tried further."""
    bench = Bench(tmp_path, "")
    assert (await bench.work().run()).status == "not_reproduced"
    assert names(bench.stored()) == [(BASELINE, "right")]


@pytest.mark.parametrize(("same_error", "status"), [(False, "vllm"), (True, "weights")])
async def test_when_nothing_heals_transformers_has_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_error: bool, status: str
) -> None:
    """Wrong there, too: the files. Right there: vLLM."""

    async def answers(launch: Launch, prompts: tuple[Prompt, ...]) -> tuple[Answer, ...]:
        other = [p.model_copy(update={"text": p.text + "!"}) if same_error else p for p in prompts]
        return tuple(right(prompt) for prompt in other)

    monkeypatch.setattr(run, "transformers_answers", answers)
    bench = Bench(tmp_path, "never")
    assert (await bench.work().run()).status == status
    assert bench.stored().tried[-1].name == REFERENCE


async def test_without_a_record_transformers_says_what_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where there is none, that is said."""
    verdict = await Bench(tmp_path, "--no-enable-prefix-caching", known=False).work().run()
    assert (verdict.status, verdict.cause) == ("found", "attention_backend_defect")

    async def nothing(launch: Launch, prompts: tuple[Prompt, ...]) -> tuple[Answer, ...]:
        raise NoReference("transformers is not there")

    monkeypatch.setattr(run, "transformers_answers", nothing)
    with pytest.raises(NoReference):
        await Bench(tmp_path / "b", "never", known=False).work().run()


async def test_an_option_with_which_it_does_not_start_is_told_and_passed(tmp_path: Path) -> None:
    """With the log's own words."""
    bench = Bench(tmp_path, "--enforce-eager", dies="--no-enable-prefix-caching")
    assert (await bench.work().run()).change == "eager"
    tried = bench.stored().of("prefix_caching_off")
    assert tried is not None
    assert tried.outcome == "failed"
    assert "not supported here" in tried.says


async def test_an_interrupted_bisection_goes_on_and_leaves_no_server(tmp_path: Path) -> None:
    """What was tried is not tried again; what was being tried is."""
    bench = Bench(tmp_path, "--enforce-eager")
    work = bench.work()
    task = asyncio.create_task(work.run())
    while not (tmp_path / "logs" / "prefix_caching_off.log").exists():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert names(bench.stored()) == [(BASELINE, "wrong")]
    bench.told.clear()
    verdict: Verdict = await bench.work(bench.stored()).run()
    assert verdict.change == "eager"
    assert bench.told[0] == f"{BASELINE}: wrong (from the interrupted run)"
    assert [name for name, _ in names(bench.stored())].count(BASELINE) == 1


async def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    """A verdict in words, no traceback."""
    bench = Bench(tmp_path, "x")
    bench.launch = Launch(argv=("/does/not/exist",))
    verdict = await bench.work().run()
    assert verdict.status == "failed"
    assert "No such file" in verdict.says


def test_a_session_nobody_founded_has_no_members() -> None:
    """Pids are matched exactly."""
    assert session(2**30) == []
