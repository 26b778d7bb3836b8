"""server_config, log_tail: what do they bring from files and commands, and what do they make of it?"""

from __future__ import annotations

import json

import pytest

from responder import startuplog
from responder.capture import log_tail, server_config
from responder.capture.step import Brief, Fetched, NoParams, Step
from responder.model import Fact, Inventory, Outcome, ProcessInfo
from tests.doubles import BRIEF, NOW, Files, answer, refused_url, scene, serving
from tests.recorded import exposition, log, on_the_day

LOG = "/var/log/vllm.log"
PROCESS = ProcessInfo(pid=7, ppid=1, started_at=0.0, role="api_server", name="vllm")


def facts(step: Step, fetched: Fetched, brief: Brief = BRIEF) -> dict[str, Fact]:
    """Facts by name without the step's prefix; each is declared."""
    found = list(step.read(fetched.files, brief))
    assert {fact.name for fact in found} <= {spec.name for spec in step.facts}
    return {fact.name.split(".", 1)[1]: fact for fact in found}


# ------------------------------------------------------------------------------------------------------ server_config


async def test_all_sources_of_a_live_server() -> None:
    """Command line, log, version and metrics, each found and each named as the source of what it said."""
    inventory = Inventory(at=NOW, local=True, command=("vllm", "serve", "/m", "--max-num-seqs", "8"), log_file=LOG)
    routes = {"/version": answer({"version": "0.32.0"}), "/metrics": answer(exposition())}
    runner = Files({LOG: log("cpu_enginecore_killed")})
    async with serving(routes) as server, scene(server.url, inventory=inventory, runner=runner) as where:
        fetched = await server_config.STEP.fetch(where, NoParams())
    assert (fetched.outcome, fetched.reason) == (Outcome.OK, "")
    found = facts(server_config.STEP, fetched)
    assert (found["max_num_seqs"].value, found["max_num_seqs"].says) == (8, "from the command line")
    assert (found["version"].value, found["device"].value) == ("0.32.0", "cpu")
    assert (found["num_gpu_blocks"].value, found["kv_tokens"].file) == (4096, "cache_config.txt")


async def test_a_dead_server_still_has_its_log() -> None:
    """What could not be asked is said; what the log knows is known."""
    async with scene(await refused_url(), log_file=LOG, runner=Files({LOG: log("h200_hang_worker")})) as where:
        fetched = await server_config.STEP.fetch(where, NoParams())
    assert fetched.outcome is Outcome.PARTIAL
    assert fetched.reason == "without command line, /metrics"
    found = facts(server_config.STEP, fetched)
    assert (found["max_num_seqs"].value, found["tensor_parallel"].value) == (64, 2)
    assert (found["profiler"].value, found["profiler_bounded"].value) == ("torch", True)
    assert found["num_gpu_blocks"].value is None


async def test_nothing_at_all_is_a_failure_that_says_what_to_do() -> None:
    """No facts, and how to get them."""
    async with scene(await refused_url()) as where:
        fetched = await server_config.STEP.fetch(where, NoParams())
    assert fetched.outcome is Outcome.FAILED
    assert "set `log_file:`" in fetched.reason


def test_only_the_latest_start_in_a_log_counts() -> None:
    """An appended log holds the configuration of the server before; its version banner goes with its own start."""
    one = b"vLLM API server version 0.9.2\nnon-default args: {'max_num_seqs': 1}\nnoise\n"
    two = (
        b"vLLM API server version 0.10.0\nnon-default args: {'max_num_seqs': 2}\n LLM engine (v0.10.0) with config: x\n"
    )
    assert startuplog.latest_start(one + two) == two.splitlines()
    assert startuplog.latest_start(two + one)[:2] == one.splitlines()[:2]
    assert startuplog.latest_start(b"nothing\n") == []


async def test_a_restart_beyond_the_head_is_found_in_the_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head of a long log is the oldest start."""
    monkeypatch.setattr(startuplog, "HEAD_BYTES", 100)
    monkeypatch.setattr(startuplog, "TAIL_BYTES", 100)
    start = b"non-default args: {'max_num_seqs': %d}\n"
    raw = start % 1 + b"x" * 300 + b"\n" + start % 2
    async with scene(await refused_url(), log_file=LOG, runner=Files({LOG: raw})) as where:
        fetched = await server_config.STEP.fetch(where, NoParams())
    assert facts(server_config.STEP, fetched)["max_num_seqs"].value == 2


# ----------------------------------------------------------------------------------------------------------- log_tail


async def tail(raw: bytes, now: float, onset: float, commands: dict[str, bytes] | None = None) -> dict[str, Fact]:
    async with scene(log_file=LOG, runner=Files({LOG: raw}, commands or {})) as where:
        fetched = await log_tail.STEP.fetch(where, NoParams())
    assert fetched.outcome is Outcome.OK
    return facts(log_tail.STEP, fetched, Brief(target="t", now=now, onset_at=onset, opened_at=onset))


async def test_the_tail_of_a_dead_engine() -> None:
    """Every sign is decided, the stats line is read, the exception is named."""
    now = on_the_day("10:05:58")
    found = await tail(log("cpu_enginecore_killed"), now, now - 4)
    assert (found["engine_dead"].value, found["out_of_memory"].value, found["shm_wait"].value) == (True, False, False)
    assert (found["stats_running"].value, found["stats_kv_usage"].value) == (4.0, 0.002)
    assert found["stats_silent_s"].value == 4.0
    assert found["stream_errors"].value == 4
    assert "EngineDeadError" in str(found["exception"].value)
    assert found["engine_dead"].at == on_the_day("10:05:55")


async def test_a_hang_is_a_silence_in_the_stats() -> None:
    """The last line is 20 s old although 19 requests run."""
    raw = b"\n".join(
        line for line in log("h200_hang_worker").split(b"\n") if b" 10:24:3" not in line and b" 10:24:4" not in line
    )
    now = on_the_day("10:24:21")
    found = await tail(raw, now, now - 20)
    assert (found["stats_running"].value, found["stats_generation_rate"].value) == (19.0, 0.0)
    assert found["stats_silent_s"].value == 20.0
    assert found["traceback"].value is False


async def test_a_log_of_another_time_zone() -> None:
    """The container runs in UTC, the host does not: the file's modification time tells."""
    now = on_the_day("10:05:58")
    commands = {"stat": b"%d\n" % (now - 1), "date": b"+0800\n"}
    found = await tail(log("cpu_enginecore_killed"), now, now - 4, commands)
    assert (found["stats_silent_s"].value, found["last_line_age_s"].value) == (4.0, 1.0)
    assert found["engine_dead"].value is True


async def test_undated_text_decides_nothing() -> None:
    """Another logging configuration: found, but no sign is placed in time."""
    found = await tail(b'{"msg":"Traceback (most recent call last)"}\n', NOW, NOW - 5)
    assert found["found"].value is True
    assert (found["traceback"].value, found["profiler_open"].value, found["stream_errors"].value) == (None, None, None)


async def test_a_cut_tail_may_have_lost_the_start_of_a_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole log without a word on profiling: none is open. A cut one: unknown."""
    raw = b"(APIServer pid=1) INFO 11-20 10:00:00 [x.py:1] hello\n" * 3
    now = on_the_day("10:00:05")
    assert (await tail(raw, now, now))["profiler_open"].value is False
    monkeypatch.setattr(log_tail, "MAX_BYTES", 60)
    assert (await tail(raw, now, now))["profiler_open"].value is None


async def test_a_log_that_cannot_be_read() -> None:
    """Failed, with the path and the reason."""
    async with scene(log_file="/root/vllm.log") as where:
        fetched = await log_tail.STEP.fetch(where, NoParams())
    assert (fetched.outcome, fetched.files) == (Outcome.FAILED, {})
    assert "/root/vllm.log: No such file" in fetched.reason


async def test_without_a_file_the_journal_is_asked() -> None:
    """By process, with exact times."""
    line = b"%d.5 host vllm[7]: (EngineCore pid=8) ERROR 11-20 10:00:00 [x.py:1] EngineDeadError: x\n" % (NOW - 10)
    runner = Files(commands={"journalctl": line})
    inventory = Inventory(at=NOW, local=True, processes=(PROCESS,))
    async with scene(inventory=inventory, runner=runner) as where:
        fetched = await log_tail.STEP.fetch(where, NoParams())
    assert "_PID=7" in runner.ran[0]
    found = facts(log_tail.STEP, fetched)
    assert (found["engine_dead"].value, found["engine_dead"].at) == (True, NOW - 9.5)
    assert found["last_line_age_s"].value == 9.5


@pytest.mark.parametrize("commands", [{}, {"journalctl": b""}])
async def test_without_file_and_journal_it_says_what_to_configure(commands: dict[str, bytes]) -> None:
    """Skipped is evidence, with the option to add."""
    inventory = Inventory(at=NOW, local=True, processes=(PROCESS,))
    for known in (None, inventory):
        async with scene(inventory=known, runner=Files(commands=commands)) as where:
            fetched = await log_tail.STEP.fetch(where, NoParams())
        assert fetched.outcome is Outcome.SKIPPED
        assert "set `log_file:`" in fetched.reason


@pytest.mark.parametrize("step", [server_config.STEP, log_tail.STEP], ids=lambda step: step.name)
@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xff\x00", json.dumps([1]).encode()])
def test_damaged_files_never_raise(step: Step, raw: bytes) -> None:
    """A stored folder may be damaged."""
    names = ("launch.json", "startup.txt", "version.json", "cache_config.txt", "log.txt", "log.json")
    found = list(step.read(dict.fromkeys(names, raw), BRIEF))
    assert {f.value for f in found} <= {None, False, True}


def test_a_cut_tail_that_starts_after_the_onset_does_not_prove_absence() -> None:
    """What it shows is there; what it does not show may have been in the part that is lost."""
    lines = log("cpu_worker_stopped_then_killed").decode().split("\n")
    now = on_the_day("09:57:00")
    late = [text for text in lines if "09:56:" in text or "09:57:" in text]
    raw = "\n".join(late).encode()

    def signs(onset: str, cut: bool) -> dict[str, object]:
        files = {log_tail.LOG: raw, log_tail.META: json.dumps({"cut": cut}).encode()}
        brief = Brief(target="a", now=now, onset_at=on_the_day(onset), opened_at=now)
        return {fact.name: fact.value for fact in log_tail.STEP.read(files, brief)}

    assert late
    assert signs("09:50:00", cut=True)["log.nan"] is None
    assert signs("09:50:00", cut=False)["log.nan"] is False
    assert signs("09:56:50", cut=True)["log.nan"] is False
