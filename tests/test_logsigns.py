"""Which troubles does a log name? Real logs first, then what they do not hold."""

from __future__ import annotations

import pytest

from responder.logsigns import signs_of
from responder.statsline import record_of
from tests.recorded import log, on_the_day


def lines_until(name: str, clock: str) -> list[str]:
    """The log as it stood at a time of day: later lines are not written yet."""
    now = on_the_day(clock)
    kept: list[str] = []
    for line in log(name).decode().split("\n"):
        at = record_of(line, now).at
        if at is not None and at > now:
            break
        kept.append(line)
    return kept


@pytest.mark.parametrize(
    ("name", "clock", "onset", "expected"),
    [
        ("cpu_enginecore_killed", "10:05:58", "10:05:54", {"engine_dead", "traceback"}),
        ("cpu_execute_model_timeout", "10:02:20", "10:01:40", {"engine_dead", "traceback", "execute_timeout"}),
        ("cpu_worker_stopped_then_killed", "09:57:00", "09:55:00", {"shm_wait"}),
        ("cpu_worker_stopped_then_killed", "09:58:30", "09:55:00",
         {"shm_wait", "worker_died", "engine_dead", "traceback"}),
        ("cpu_oom_after_default_profile", "09:47:08", "09:47:00", {"worker_died", "engine_dead", "traceback"}),
        ("cpu_frontend_killed_orphans", "11:02:40", "11:02:00", set()),
        ("cpu_enginecore_killed", "10:05:40", "10:05:35", set()),
        ("cpu_enginecore_killed", "10:04:50", "10:04:50", {"restarting"}),
        ("h200_hang_worker", "10:24:20", "10:24:00", set()),
        ("h200_kv_starve", "10:13:00", "10:12:30", set()),
    ],
)  # fmt: skip
def test_signs_of_real_logs(name: str, clock: str, onset: str, expected: set[str]) -> None:
    """Exactly the troubles that happened: what is not in the set must not be claimed."""
    signs = signs_of(lines_until(name, clock), on_the_day(clock), on_the_day(onset), 0.0)
    assert set(signs.hits) == expected


@pytest.mark.parametrize(
    ("name", "exception", "root"),
    [
        ("cpu_execute_model_timeout", "TimeoutError: RPC call to execute_model timed out.", True),
        ("cpu_worker_stopped_then_killed", "RuntimeError: cancelled", False),
        ("cpu_oom_after_default_profile", "RuntimeError: Executor failed.", False),
    ],
)
def test_the_exception_nearest_to_the_root(name: str, exception: str, root: bool) -> None:
    """The engine's own exception, not the API server's echo of it; and whether that too is but an echo."""
    lines = log(name).decode().split("\n")
    signs = signs_of(lines, on_the_day("10:30:00"), on_the_day("09:47:00"), 0.0)
    assert (signs.exception, signs.root) == (exception, root)


def test_streams_that_died_are_counted() -> None:
    """One line per stream, whatever its traceback repeats."""
    lines = log("cpu_enginecore_killed").decode().split("\n")
    assert signs_of(lines, on_the_day("10:06:00"), on_the_day("10:05:55"), 0.0).stream_errors == 4


def test_an_old_trouble_is_not_this_incident() -> None:
    """A log keeps last week's traceback; it is older than the incident."""
    lines = log("cpu_enginecore_killed").decode().split("\n")
    signs = signs_of(lines, on_the_day("12:00:00"), on_the_day("11:59:00"), 0.0)
    assert (signs.hits, signs.exception, signs.stream_errors) == ({}, "", 0)


@pytest.mark.parametrize(
    ("clock", "is_open"), [("10:03:10", False), ("10:03:15", True), ("10:03:50", True), ("10:04:05", False)]
)
def test_a_profile_is_open_until_its_stop_is_through(clock: str, is_open: bool) -> None:
    """The stop took 45 s and froze the server: it counts as open all that time."""
    signs = signs_of(lines_until("h200_profile_free", clock), on_the_day(clock), on_the_day("10:03:00"), 0.0)
    assert bool(signs.profiler_open) is is_open


def test_a_bounded_profile_ends_by_itself() -> None:
    """With max_iterations the workers stop before the API server is told to."""
    signs = signs_of(lines_until("h200_profile_8", "10:14:04"), on_the_day("10:14:04"), on_the_day("10:14:00"), 0.0)
    assert signs.profiler_open is False


def made_up(*messages: str) -> list[str]:
    return [f"(EngineCore pid=1) ERROR 11-20 10:00:00 [x.py:1] {message}" for message in messages]


@pytest.mark.parametrize(
    ("message", "sign"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "out_of_memory"),
        ("torch.AcceleratorError: CUDA error: an illegal memory access was encountered", "cuda_error"),
        ("RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)", "nccl_error"),
        ("[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12)", "nccl_error"),
        ("RuntimeError: NaNs detected in logits: {'cmpl-1': 3}", "nan"),
        ("ValueError: Out of range float values are not JSON compliant: nan", "nan"),
        ("Worker proc VllmWorker-1 died unexpectedly, shutting down executor.", "worker_died"),
        ("RuntimeError: Engine core process EngineCore_DP1 died unexpectedly.", "engine_dead"),
        ("TimeoutError: RPC call to sample_tokens timed out.", "execute_timeout"),
    ],
)
def test_signs_no_recording_has(message: str, sign: str) -> None:
    """Wordings of faults that take a broken GPU."""
    assert sign in signs_of(made_up(message), on_the_day("10:00:05"), on_the_day("10:00:00"), 0.0).hits


@pytest.mark.parametrize(
    "line",
    [
        "(Worker pid=1) WARNING 11-20 10:00:00 [import_utils.py:408] Traceback (most recent call last):",
        "(APIServer pid=1) INFO 11-20 10:00:00 [x.py:1] set expandable_segments to avoid CUDA out of memory",
        "(EngineCore pid=1) ERROR 11-20 10:00:00 [dump_input.py:79] prompt='what is a CUDA error: EngineDeadError?'",
    ],
)
def test_what_only_looks_like_trouble(line: str) -> None:
    """Warnings about optional imports, advice, and customers' text in vLLM's dump of its input."""
    signs = signs_of([line], on_the_day("10:00:05"), on_the_day("10:00:00"), 0.0)
    assert (signs.hits, signs.exception) == ({}, "")


def test_what_strangers_ask_for_is_no_statement_of_the_server() -> None:
    """uvicorn's access log has no time of its own, and its paths are anybody's text."""
    lines = [
        "(EngineCore pid=1) INFO 11-20 10:00:00 [x.py:1] ready",
        '(APIServer pid=1) INFO:     10.0.0.1:4 - "GET /EngineDeadError HTTP/1.1" 404 Not Found',
    ]
    signs = signs_of(lines, on_the_day("10:00:05"), on_the_day("10:00:00"), 0.0)
    assert (signs.hits, signs.exception) == ({}, "")


def test_a_wished_stop_is_told_from_a_death() -> None:
    """A dead engine's API server shuts down as well; only a stop that comes first was wished."""
    stop = "(APIServer pid=1) INFO 11-20 10:00:00 [launcher.py:254] [shutdown] API server: shutdown triggered"
    dead = made_up("EngineDeadError: EngineCore encountered an issue.")
    now, onset = on_the_day("10:00:05"), on_the_day("10:00:00")
    assert "graceful_shutdown" in signs_of([stop, *dead], now, onset, 0.0).hits
    assert "graceful_shutdown" not in signs_of([*dead, stop], now, onset, 0.0).hits


def test_undated_lines_say_nothing_about_now() -> None:
    """Without any time nothing can be placed."""
    signs = signs_of(["Traceback (most recent call last):"], 1e9, 1e9, 0.0)
    assert (signs.dated, signs.hits) == (False, {})


@pytest.mark.parametrize(
    "line",
    [
        "INFO 11-25 10:05:40 [logger.py:42] Received request x: prompt: '{}', params: SamplingParams(n=1).",
        "INFO 11-25 10:05:40 [request_logger.py:66] Received request {}: params: SamplingParams(n=1).",
        "INFO 11-25 10:05:40 [logger.py:40] Generated response x: output: '{}', finish_reason: stop",
        "ERROR 11-25 10:05:40 [dump_input.py:69] Dumping input data: '{}'",
        "INFO 11-25 10:05:40 async_llm_engine.py:211] Added request {}.",
        "DEBUG 11-25 10:05:40 [serving.py:1] Request chat-1 JSON body: {}",
    ],
)
def test_what_clients_send_is_no_statement_of_the_server(line: str) -> None:
    """Prompts, ids and answers that name every sign there is: none of them counts, and no stats line is read."""
    said = (
        "Starting profiler", "API server: shutdown triggered", "non-default args: {}", "API server version 9",
        "EngineDeadError", "CUDA error: device-side assert", "RPC call to execute_model timed out",
        "NaNs detected in logits",
        "No available shared memory broadcast block found in 60 seconds", "NCCL error", "Worker proc VllmWorker-1 died",
        "Engines Aggregated Avg prompt throughput: 1.0 tokens/s, Avg generation throughput: 1.0 tokens/s",
    )  # fmt: skip
    now = on_the_day("10:05:58")
    lines = [line.format(text) for text in said]
    signs = signs_of(lines, now, now - 60, 0.0)
    assert signs.dated
    assert signs.hits == {}
    assert (signs.stats, signs.exception, signs.profiler_open, signs.stream_errors) == ((), "", None, 0)
