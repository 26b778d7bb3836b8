"""What did vLLM's stats line and record prefix say, in every wording since 0.6?"""

from __future__ import annotations

import pytest

from responder.statsline import combined, hit_rate_of, offset_of, record_of, stats_of
from tests.recorded import log, on_the_day

NOW = on_the_day("10:30:00")
AVG = "Avg prompt throughput: 22.0 tokens/s, Avg generation throughput: 458.5 tokens/s, "


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            AVG
            + "Running: 4 reqs, Swapped: 1 reqs, Pending: 7 reqs, GPU KV cache usage: 12.5%, CPU KV cache usage: 3.0%.",
            {"engine": None, "running": 4, "swapped": 1, "waiting": 7, "kv_usage": 0.125, "hit_rate": None},
        ),
        (
            "Engine 000: "
            + AVG
            + "Running: 4 reqs, Waiting: 2 reqs, GPU KV cache usage: 0.2%, Prefix cache hit rate: 38.3%",
            {"engine": "000", "running": 4, "waiting": 2, "kv_usage": 0.002, "hit_rate": 0.383, "deferred": None},
        ),
        (
            "Engine 001: " + AVG + "Running: 4 reqs, Waiting: 2 reqs, Deferred: 5 reqs, Preemptions: 1, "
            "CPU KV cache usage: 99.9%, External prefix cache hit rate: 10.0%, MM cache hit rate: 50.0%",
            {"engine": "001", "deferred": 5, "kv_usage": 0.999, "hit_rate": None, "external_hit_rate": 0.1},
        ),
        (
            "4 Engines Aggregated: " + AVG + "Running: 40 reqs, Waiting: 0 reqs, GPU KV cache usage: 1.0%",
            {"engine": None, "engines": 4, "running": 40},
        ),
        (
            "Engine 000: " + AVG + "Running: 1 reqs, Waiting: 0 reqs, KV fetch: 1 waiting to start, 2 in progress, "
            "3 completed waiting, GPU KV cache usage: 5.0%, Prefix cache hit rate: 1.0%",
            {"running": 1, "waiting": 0, "kv_usage": 0.05},
        ),
        (AVG + "Running: 0 reqs, Waiting: 0 reqs, GPU KV cache usage: -100.0%", {"kv_usage": None}),
    ],
)
def test_every_wording(line: str, expected: dict[str, object]) -> None:
    """Fields are found by name; absent ones are unknown."""
    stats = stats_of(line)
    assert stats is not None
    assert (stats.prompt_rate, stats.generation_rate) == (22.0, 458.5)
    assert {name: getattr(stats, name) for name in expected} == pytest.approx(expected)


def test_other_lines_are_no_stats() -> None:
    """Neither a metric in prose nor a broken number."""
    assert stats_of("SpecDecoding metrics: Mean acceptance length: 2.1") is None
    assert stats_of("Avg prompt throughput: . tokens/s, Avg generation throughput: 1.0 tokens/s") is None


def test_the_separate_hit_rate_line_of_v0() -> None:
    """The old engine printed the hit rate on a line of its own."""
    assert hit_rate_of("Prefix cache hit rate: GPU: 41.5%, CPU: 0.0%") == 0.415
    assert hit_rate_of("a Prefix cache hit rate: GPU: 41.5%") is None


def test_engines_become_one_server() -> None:
    """Amounts add up, the fullest cache counts, a hit rate they disagree on is unknown."""
    lines = [
        stats_of(f"Engine 00{n}: {AVG}Running: {n + 1} reqs, Waiting: 3 reqs, GPU KV cache usage: {n}0.0%, "
                 f"Prefix cache hit rate: {n}0.0%")
        for n in range(2)
    ]  # fmt: skip
    both = combined(tuple(line for line in lines if line))
    assert both is not None
    assert (both.running, both.waiting, both.kv_usage, both.generation_rate) == (3, 6, 0.1, 917.0)
    assert (both.hit_rate, both.engines) == (None, 2)
    assert combined(()) is None


@pytest.mark.parametrize(
    ("line", "role", "pid", "rank", "level", "where", "message"),
    [
        ("INFO 11-20 10:05:52 metrics.py:449] hello", "", None, None, "INFO", "metrics.py:449", "hello"),
        ("(APIServer pid=9955) INFO 11-20 10:05:52 [loggers.py:335] hello", "APIServer", 9955, None, "INFO",
         "loggers.py:335", "hello"),
        ("\x1b[1;36m(VllmWorker rank=1 pid=7)\x1b[0;0m ERROR 11-20 10:05:52 [x.py:1] no", "VllmWorker", 7, 1, "ERROR",
         "x.py:1", "no"),
        ("(Worker_TP3 pid=8) WARNING 11-20 10:05:52 [a/b.py:12] w", "Worker_TP3", 8, 3, "WARNING", "a/b.py:12", "w"),
        ("prefix (EngineCore_DP1 pid=8) INFO 11-20 10:05:52 [core.py:1] w", "", None, None, "INFO", "core.py:1", "w"),
        ("INFO:     127.0.0.1:1 - \"GET /health HTTP/1.1\" 200 OK", "", None, None, "INFO", "",
         "INFO:     127.0.0.1:1 - \"GET /health HTTP/1.1\" 200 OK"),
    ],
)  # fmt: skip
def test_record_prefixes(
    line: str, role: str, pid: int | None, rank: int | None, level: str, where: str, message: str
) -> None:
    """Role, process, rank, level, place and message, in every form of the prefix."""
    record = record_of(line, NOW)
    assert (record.role, record.pid, record.rank, record.level) == (role, pid, rank, level)
    assert (record.where, record.message) == (where, message)
    assert record.at == (on_the_day("10:05:52") if level and "GET" not in line else None)


def test_times_with_a_year_a_zone_and_a_journal() -> None:
    """An ISO stamp's own zone beats ours; the journal's time beats both."""
    assert record_of("2026-11-20T10:05:52.500+02:00 INFO hello", NOW).at == on_the_day("08:05:52") + 0.5
    assert record_of("2026-11-20 10:05:52,250 - INFO - hi", NOW, 3600.0).at == on_the_day("09:05:52") + 0.25
    line = "1700000000.125 host vllm[7]: (APIServer pid=7) INFO 11-20 10:05:52 [x.py:1] hi"
    record = record_of(line, NOW)
    assert (record.at, record.message, record.pid) == (1700000000.125, "hi", 7)


def test_a_stamp_without_a_year_is_the_nearest_one() -> None:
    """On 1 January, December is last year; 29 February exists only in leap years."""
    new_year = 1798761600.0 + 60  # 2027-01-01 00:01
    assert record_of("INFO 12-31 23:59:30 [x.py:1] m", new_year).at == new_year - 90
    leap = 1835431200.0  # 2028-02-29 10:00
    assert record_of("INFO 02-29 10:00:00 [x.py:1] m", leap + 86400).at == leap
    assert record_of("INFO 02-29 10:00:00 [x.py:1] m", NOW).at is None
    assert record_of("INFO 13-45 10:00:00 [x.py:1] m", NOW).at is None


def test_the_zone_of_a_log_is_told_by_its_file() -> None:
    """A stamp is never later than the write; a container may run in UTC on a host that does not."""
    written = 1_000_000.0
    eight, minus_five = 8 * 3600.0, -5 * 3600.0
    assert offset_of(written + eight - 3, written, eight) == eight
    assert offset_of(written - 3, written, eight) == 0.0
    assert offset_of(written + minus_five - 3, written, minus_five) == minus_five
    assert offset_of(written - 3, written, minus_five) == 0.0
    assert offset_of(written + 5.5 * 3600 - 3, written, 0.0) == 5.5 * 3600


@pytest.mark.parametrize("name", ["h200_hang_worker", "h200_kv_starve", "cpu_worker_stopped_then_killed"])
def test_every_stats_line_of_real_logs_is_understood(name: str) -> None:
    """As many stats lines as the text holds, all dated, all with every field."""
    lines = log(name).decode().split("\n")
    records = [record_of(line, NOW) for line in lines]
    stats = [(r, s) for r in records if (s := stats_of(r.message)) is not None]
    assert len(stats) == sum("Avg prompt throughput" in line for line in lines)
    assert all(r.at is not None and s.running is not None and s.kv_usage is not None for r, s in stats)
