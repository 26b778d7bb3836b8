"""Do the captures of request traces and engine steps fetch what is there and read the same from what was stored?"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from responder.capture import request_traces, step_recorder
from responder.capture.step import Brief, NoParams, Scene
from responder.model import Fact, Inventory, Outcome, ProcessInfo, Target
from responder.recorder.steps import Steps
from responder.recorder.writer import RingWriter
from responder.redact import scrub
from responder.requests.record import restore as restore_rows
from responder.ringfile import restore as restore_steps
from responder.runner import LocalRunner
from tests.doubles import scene as make_scene
from tests.recorder.fakes import iteration, scheduler
from tests.requests.otlp import stored


def requests(name: str) -> dict[str, Fact]:
    """Facts of recorded request rows."""
    raw = stored(f"{name}_0.32")
    rows, _ = restore_rows(raw)
    brief = Brief(target="t", now=rows[-1].end, onset_at=rows[0].start + 5, opened_at=rows[0].start + 9)
    return {f.name: f for f in request_traces.read({request_traces.FILE: raw}, brief)}


def steps(name: str, *, late_s: float = 1.0) -> dict[str, Fact]:
    """Facts of recorded steps, read so long after the last."""
    raw = stored(f"{name}_steps_0.32")
    records = restore_steps(raw).records
    brief = Brief(target="t", now=records[-1].at + late_s, onset_at=records[0].at + 5, opened_at=records[0].at + 9)
    return {f.name: f for f in step_recorder.read({"a.jsonl": raw}, brief)}


def test_periodic_stalls() -> None:
    """Requests slow together, whatever they are; steps of two seconds, eight seconds apart."""
    by_request, by_step = requests("stall"), steps("stall")
    assert by_request["requests.pattern"].value == "bursts"
    assert by_request["requests.giants"].value == 0
    assert by_step["steps.stall_period"].value == pytest.approx(8.0, abs=0.1)
    assert by_step["steps.stalls_prefill"].value == 0
    assert "2.0" in by_step["steps.stalls"].says


def test_giant_prompts() -> None:
    """Named by their ids and sizes, with their victims."""
    by_request, by_step = requests("giant"), steps("giant")
    assert by_request["requests.giant_tokens"].value == 3000
    assert "cmpl-" in by_request["requests.giants"].says
    assert float(by_request["requests.giant_share"].value or 0) > 0.6
    assert by_step["steps.stalls_prefill"].value == by_step["steps.stalls"].value


def test_preemptions() -> None:
    """In order, with the state of the cache and the requests that suffered."""
    found = steps("preempt")
    assert found["steps.preemptions"].value == 26
    assert float(found["steps.preemption_kv"].value or 0) > 0.99
    assert "cmpl-" in found["steps.preempted_finished"].says


def test_a_freeze() -> None:
    """Ticks without steps; later, without ticks, the front end is gone as well."""
    found = steps("frozen")
    assert found["steps.frozen"].value is True
    assert found["steps.recorder_ticks"].value is True
    assert "2 running" in str(found["steps.last_step"].value)
    assert steps("frozen", late_s=30)["steps.recorder_ticks"].value is False


@pytest.mark.parametrize("step", [request_traces.STEP, step_recorder.STEP])
def test_every_fact_is_declared(step: object) -> None:
    """What is read is what was promised."""
    declared = {spec.name for spec in step.facts}  # type: ignore[attr-defined]
    read = {name for kind in ("stall", "giant", "preempt") for name in (*requests(kind), *steps(kind))}
    mine = {name for name in read if name.split(".")[0] == next(iter(declared)).split(".")[0]}
    assert mine <= declared


@pytest.mark.parametrize("junk", [b"", b"{}", b"\xff\xfe", b"[1,2\n", b'{"columns":3}\n[1]'])
def test_junk_is_no_fact(junk: bytes) -> None:
    """A cut or foreign file."""
    brief = Brief(target="t", now=1.0, onset_at=0.0, opened_at=0.0)
    assert list(step_recorder.read({"a.jsonl": junk}, brief)) == []
    with pytest.raises(ValueError, match="not stored requests"):
        list(request_traces.read({request_traces.FILE: junk}, brief))


def test_redaction_leaves_what_was_recorded() -> None:
    """Numbers and ids are neither secrets nor prompts."""
    for name in ("stall_0.32", "stall_steps_0.32", "giant_0.32", "preempt_steps_0.32"):
        raw = stored(name)
        assert scrub(raw, ())[0] == raw


async def test_request_rows_are_fetched_through_the_scene() -> None:
    """Ten minutes before the onset until now; without a source the reason is told."""
    asked = []

    async def rows(target: Target, inventory: Inventory | None, since: float, until: float) -> bytes:
        asked.append((target.name, since, until))
        return b"rows"

    async def none(target: Target, inventory: Inventory | None, since: float, until: float) -> bytes:
        raise LookupError("nothing came")

    async with make_scene("http://127.0.0.1:9") as scene:
        got = await request_traces.fetch(dataclasses.replace(scene, requests=rows), NoParams())
        assert got.files == {request_traces.FILE: b"rows"}
        assert asked == [(scene.target.name, scene.onset_at - 600, scene.now)]
        assert (await request_traces.fetch(scene, NoParams())).outcome is Outcome.SKIPPED
        silent = await request_traces.fetch(dataclasses.replace(scene, requests=none), NoParams())
        assert (silent.outcome, silent.reason) == (Outcome.SKIPPED, "nothing came")


def with_recorder(scene: Scene, folder: Path, *pids: int) -> Scene:
    """The scene of a server whose environment names a recorder folder."""
    processes = tuple(ProcessInfo(pid=p, ppid=1, started_at=0.0, role="api_server", name="VLLM") for p in pids)
    inventory = Inventory(at=0.0, local=True, processes=processes, environment={"RESPONDER_RECORDER": str(folder)})
    return dataclasses.replace(scene, inventory=inventory, runner=LocalRunner())


async def test_the_ring_of_a_server_that_is_gone_is_fetched(tmp_path: Path) -> None:
    """Its environment is remembered in the inventory; what is older than the incident stays behind."""
    async with make_scene("http://127.0.0.1:9") as plain:
        writer = RingWriter(str(tmp_path), 0, capacity=100)
        for k in range(50):
            at = plain.onset_at - 200 + k * 5
            Steps(writer).record(scheduler(num_running_reqs=k), iteration(iteration_timestamp=at))
        (tmp_path / "steps-0-1-1.ring").write_bytes(b"junk")
        got = await step_recorder.fetch(with_recorder(plain, tmp_path, 4_000_000), NoParams())
        writer.close()
    (raw,) = got.files.values()
    assert restore_steps(raw).records[0].at >= plain.onset_at - 180
    assert restore_steps(raw).records[-1].running == 49


async def test_no_recorder_is_said_with_what_to_do(tmp_path: Path) -> None:
    """Not asked for: skipped. Asked for and not there: failed."""
    async with make_scene("http://127.0.0.1:9") as scene:
        got = await step_recorder.fetch(scene, NoParams())
        assert got.outcome is Outcome.SKIPPED
        assert "RESPONDER_RECORDER=1" in got.reason
        got = await step_recorder.fetch(with_recorder(scene, tmp_path / "none"), NoParams())
        assert (got.outcome, got.reason) == (Outcome.FAILED, f"no ring file in {tmp_path / 'none'}")


def test_charts_have_single_steps() -> None:
    """The same bytes as series."""
    raw = stored("stall_steps_0.32")
    records = restore_steps(raw).records
    lines = step_recorder.charts({"a.jsonl": raw}, records[0].at, records[-1].at)
    assert [line.signal for line in lines][:2] == ["step_latency", "step_running"]
    assert max(v or 0 for _, v in lines[0].points) == pytest.approx(2.02, abs=0.02)
