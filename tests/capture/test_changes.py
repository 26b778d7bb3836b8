"""changes: what does it learn of a server, and what does it say was changed?"""

from __future__ import annotations

from dataclasses import replace

from responder.capture import changes
from responder.capture.step import Brief, NoParams
from responder.changes import History, Snapshot, fold
from responder.model import Inventory, Outcome, ProcessInfo, Scalar
from tests.doubles import NOW, ONSET, Files, answer, refused_url, scene, serving

METRICS = """process_start_time_seconds 1.7999999e+09
vllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="512"} 1.0
"""
SMI = {"nvidia-smi": b"NVIDIA H100, 550.54, 1980 MHz, 700.00 W\n"}
API = ProcessInfo(pid=7, ppid=1, started_at=NOW - 240, role="api_server", name="vllm")
WORKER = ProcessInfo(pid=9, ppid=7, started_at=NOW - 230, role="worker", name="w")


def inventory(*command: str, **environment: str) -> Inventory:
    return Inventory(at=NOW, local=True, processes=(API, WORKER), command=("vllm", "serve", "m", *command),
                     environment=environment)  # fmt: skip


def facts(files: dict[str, bytes] | object, onset: float = ONSET) -> dict[str, Scalar]:
    brief = Brief(target="t", now=NOW, onset_at=onset, opened_at=NOW)
    found = list(changes.STEP.read(files, brief))  # type: ignore[arg-type]
    assert {fact.name for fact in found} <= {spec.name for spec in changes.STEP.facts}
    return {fact.name.removeprefix("changes."): fact.value for fact in found}


def remembered(*shots: Snapshot) -> dict[str, dict[str, str]]:
    history = History()
    for one in shots:
        history = fold(history, one)
    return {"t": {changes.SNAPSHOT: history.model_dump_json()}}


async def test_a_snapshot_of_a_live_server() -> None:
    """Command line, answers and GPUs; values of variables only as digests."""
    routes = {
        "/version": answer({"version": "0.32.0"}),
        "/v1/models": answer({"data": [{"id": "m"}]}),
        "/metrics": answer(METRICS),
    }
    async with serving(routes) as server:
        where = scene(
            server.url, inventory=inventory("--max-num-seqs", "256", VLLM_X="private"), runner=Files(commands=SMI)
        )
        async with where as here:
            fetched = await changes.STEP.fetch(here, NoParams())
    now = Snapshot.model_validate_json(fetched.files[changes.NOW])
    assert now.options == {"max_num_seqs": "256"}
    assert (now.version, now.models, now.ranks) == ("0.32.0", ("m",), 1)
    assert now.started_at == 1.7999999e9
    assert now.gpus == ("NVIDIA H100, 550.54, 1980 MHz, 700.00 W",)
    assert b"private" not in fetched.files[changes.NOW]
    assert facts(fetched.files)["known"] is False


async def test_a_changed_option_and_a_restart_before_the_onset() -> None:
    """The line on top of the report."""
    before = Snapshot(at=NOW - 900, started_at=NOW - 90_000, options={"max_num_seqs": "64"}, ranks=1)
    async with scene(await refused_url(), inventory=inventory("--max-num-seqs", "256")) as here:
        fetched = await changes.STEP.fetch(replace(here, remembered=remembered(before)), NoParams())
    found = facts(fetched.files)
    assert fetched.outcome is Outcome.OK
    assert (found["known"], found["options"], found["restarted"], found["count"]) == (True, 1, True, 1)
    assert found["start_before_onset_s"] == 180.0
    assert found["deploy_before_onset_s"] == 180.0
    assert found["summary"] == "--max-num-seqs 64 → 256; restarted 3 min before the onset"
    assert (found["version"], found["gpus"]) == (None, None)


async def test_nothing_changed_is_said_as_nothing() -> None:
    """No line, and zeros where both are known."""
    before = Snapshot(at=NOW - 900, started_at=NOW - 240, options={"max_num_seqs": "256"})
    async with scene(await refused_url(), inventory=inventory("--max-num-seqs", "256")) as here:
        fetched = await changes.STEP.fetch(replace(here, remembered=remembered(before)), NoParams())
    found = facts(fetched.files)
    assert (found["summary"], found["count"], found["options"], found["restarted"]) == ("", 0, 0, False)
    assert found["deploy_before_onset_s"] is None


async def test_a_deploy_that_was_healthy_first_is_still_told() -> None:
    """It was well with the new options for some minutes: they are the last change all the same."""
    old = Snapshot(at=NOW - 9000, started_at=NOW - 90_000, options={"max_num_seqs": "64"})
    new = Snapshot(at=NOW - 600, started_at=NOW - 960, options={"max_num_seqs": "256"})
    async with scene(await refused_url(), inventory=inventory("--max-num-seqs", "256")) as here:
        kept = remembered(old, new)
        fetched = await changes.STEP.fetch(replace(here, remembered=kept), NoParams())
    found = facts(fetched.files)
    assert found["count"] == 0
    assert found["deploy_before_onset_s"] == 900.0


async def test_what_lies_in_the_files_may_be_anything() -> None:
    """Broken memory is no memory; a broken snapshot brings no facts."""
    good = Snapshot(at=NOW, options={}).model_dump_json().encode()
    assert facts({changes.NOW: good, changes.HEALTHY: b"{nonsense", changes.SIBLINGS: b"[1]"})["known"] is False
    assert facts({changes.NOW: b"\xff"}) == {}
