"""Every other kind of file: nsys exports, PyTorch tables, Ascend's files, py-spy's stacks."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from responder.traces.engine import run
from responder.traces.forms import read_any
from responder.traces.views import Rank
from tests.traces import real
from tests.traces.scene import D2H, GEMM, NORM, REDUCE, Made, Scene, transformer
from tests.traces.test_reference import view


def one(path: Path) -> Rank:
    (found,) = read_any(path)
    return found.view


def nsys_sqlite(scene: Scene, path: Path) -> Path:
    """The scene as nsys 2024 exports it."""
    strings: dict[str, int] = {}

    def text(name: str) -> int:
        return strings.setdefault(name, len(strings) + 1)

    thread = (577 << 24) | 577
    process = 577 << 24
    with sqlite3.connect(path) as base:
        base.executescript(
            "CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT);"
            "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER, end INTEGER, deviceId INTEGER, streamId INTEGER,"
            " correlationId INTEGER, globalPid INTEGER, demangledName INTEGER, shortName INTEGER, gridX INTEGER,"
            " gridY INTEGER, gridZ INTEGER);"
            "CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INTEGER, end INTEGER, deviceId INTEGER, streamId INTEGER,"
            " correlationId INTEGER, globalPid INTEGER, bytes INTEGER, copyKind INTEGER, srcKind INTEGER,"
            " dstKind INTEGER);"
            "CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER, end INTEGER, globalTid INTEGER,"
            " correlationId INTEGER, nameId INTEGER);"
            "CREATE TABLE NVTX_EVENTS (start INTEGER, end INTEGER, globalTid INTEGER, eventType INTEGER, text TEXT,"
            " textId INTEGER);"
        )
        for e in scene.events:
            number, end = e.args.get("correlation"), e.start + e.dur
            if e.cat == "kernel":
                name = text(e.name)
                row = (e.start, end, e.pid, e.tid, number, process, name, name, *e.args["grid"])  # type: ignore[misc]
                base.execute(f"INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES ({', '.join('?' * 11)})", row)
            elif e.cat == "gpu_memcpy":
                kind, source, target = (2, 2, 1 if "Pinned" in e.name else 0) if "DtoH" in e.name else (1, 1, 2)
                row = (e.start, end, e.pid, e.tid, number, process, e.args.get("bytes", 0), kind, source, target)
                base.execute(f"INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES ({', '.join('?' * 10)})", row)
            elif e.cat == "cuda_runtime":
                row = (e.start, end, thread, number, text(f"{e.name}_v7000"))
                base.execute("INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (?, ?, ?, ?, ?)", row)
            elif e.cat == "user_annotation":
                row = (e.start, end, thread, 59, None, text(e.name))
                base.execute("INSERT INTO NVTX_EVENTS VALUES (?, ?, ?, ?, ?, ?)", row)
        base.executemany("INSERT INTO StringIds VALUES (?, ?)", [(n, s) for s, n in strings.items()])
    return path


def test_an_nsys_sqlite_export_tells_what_the_kineto_trace_of_the_same_run_tells(tmp_path: Path) -> None:
    """Steps, gaps, layers, launches and blocking copies, under other names."""
    scene = transformer(5, 4, slow_layer=2)
    scene.launch(D2H, 0, 4_000, 60_000, took=70_000, size=1 << 20)
    got, want = one(nsys_sqlite(scene, tmp_path / "x.sqlite")), view(scene, tmp_path)
    assert got.busy == want.busy
    assert got.categories == want.categories
    assert got.kernels == want.kernels
    assert got.steps == want.steps
    assert got.layers == want.layers
    assert got.blocked == want.blocked
    assert got.launches == want.launches
    assert got.copies == want.copies


def test_a_damaged_or_foreign_database_is_a_clear_problem(tmp_path: Path) -> None:
    """And the others are still read."""
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as base:
        base.execute("CREATE TABLE recipes (name TEXT)")
    damaged = nsys_sqlite(transformer(2, 2), tmp_path / "damaged.sqlite")
    damaged.write_bytes(damaged.read_bytes()[:5_000] + b"\xff" * 9_000)
    report = run([foreign, damaged])
    assert report.ranks == []
    assert "without nsys tables" in report.problems[0]
    assert "not a readable nsys SQLite export" in report.problems[1]


NSYS_TABLES = """Processing [x.sqlite] with [/opt/nvidia/reports/cuda_api_sum.py]...
Time (%),Total Time (ns),Num Calls,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),Name
80.0,8000000,10,800000.0,700000.0,1,2000000,1.0,cudaStreamSynchronize
20.0,2000000,100,20000.0,20000.0,1,30000,1.0,cudaLaunchKernel

Processing [x.sqlite] with [/opt/nvidia/reports/cuda_gpu_kern_sum.py]...
Time (%),Total Time (ns),Instances,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),Name
75.0,6000000,60,100000.0,90000.0,1,400000,1.0,"void flash::flash_fwd_kernel<a, b>(flash::Params)"
25.0,2000000,40,50000.0,50000.0,1,60000,1.0,nvjet_tst_64x8

Processing [x.sqlite] with [/opt/nvidia/reports/cuda_gpu_mem_time_sum.py]...
Time (%),Total Time (ns),Count,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),Operation
100.0,500000,5,100000.0,100000.0,1,100000,1.0,[CUDA memcpy Host-to-Device]

Processing [x.sqlite] with [/opt/nvidia/reports/nvtx_sum.py]...
Time (%),Total Time (ns),Instances,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),Style,Range
100.0,9000000,3,3000000.0,3000000.0,1,3000000,1.0,PushPop,:execute_context_0(0)_generation_8(8)
"""


def test_nsys_stats_tables_give_kinds_kernels_calls_and_ranges(tmp_path: Path) -> None:
    """Four reports in one file, as nsys prints them."""
    path = tmp_path / "stats.csv"
    path.write_text(NSYS_TABLES)
    rank = one(path)
    assert {row.name: row.sum_ms for row in rank.categories} == {"attention": 6.0, "gemm": 2.0, "memcpy_h2d": 0.5}
    assert (rank.kernels[0].count, rank.kernels[0].median_us, rank.kernels[0].max_us) == (60, 90.0, 400.0)
    assert rank.blocked is not None
    assert rank.blocked.stream_synchronize_ms == 8.0
    assert [(row.name, row.count) for row in rank.annotations] == [("execute_context_0(0)_generation_8(8)", 3)]
    assert any("no timeline" in note for note in rank.notes)


def test_an_nsys_event_list_is_a_timeline(tmp_path: Path) -> None:
    """cuda_gpu_trace, with other units than the default."""
    path = tmp_path / "trace.csv"
    path.write_text(
        "Start (us),Duration (us),CorrId,GrdX,GrdY,GrdZ,BlkX,BlkY,BlkZ,Bytes (MB),Throughput (MB/s),Device,Ctx,Strm,"
        "Name\n"
        "10,5,1,4,1,1,128,1,1,,,NVIDIA H200 (0),1,7,nvjet_tst_64x8\n"
        "20,10,2,,,,,,,2.5,100,NVIDIA H200 (0),1,7,[CUDA memcpy Host-to-Device]\n"
    )
    rank = one(path)
    assert rank.busy is not None
    assert (rank.busy.span_ms, rank.busy.busy_ms) == (0.02, 0.015)
    assert rank.copies[0].bytes == 2_500_000


def test_pytorchs_text_table_gives_operators(tmp_path: Path) -> None:
    """A real one, of a CPU."""
    rank = one(real.DATA / "profiler_out_0.txt")
    assert [(r.name, r.count, r.self_ms) for r in rank.operators[:2]] == [
        ("aten::addmm", 24, 285.59),
        ("<built-in function sleep>", 1, 5.081),
    ]
    assert rank.operator_categories[0].name == "gemm"


def test_pytorchs_text_table_of_a_gpu_counts_kernels_once(tmp_path: Path) -> None:
    """An operator's row repeats the time of the kernels it launched."""
    widths = (40, 12, 12, 12, 12, 12)
    rule = "  ".join("-" * width for width in widths)
    rows = [("Name", "Self CPU", "CPU total", "Self CUDA", "CUDA total", "# of Calls"),
            ("aten::mm", "1.000ms", "2.000ms", "9.000ms", "9.000ms", "30"),
            ("nvjet_tst_64x8", "0.000us", "0.000us", "9.000ms", "9.000ms", "30"),
            ("ncclDevKernel_AllReduce_Sum_bf16", "0.000us", "0.000us", "1.000s", "1.000s", "3")]  # fmt: skip
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    path = tmp_path / "profiler_out_0.txt"
    path.write_text("\n".join([rule, lines[0], rule, *lines[1:], rule, "Self CPU time total: 1.0ms"]))
    rank = one(path)
    assert {row.name: row.sum_ms for row in rank.kernels} == {
        "ncclDevKernel_AllReduce_Sum_bf16": 1000.0,
        "nvjet_tst_64x8": 9.0,
    }
    assert [(row.name, row.self_ms) for row in rank.operators] == [("aten::mm", 1.0)]


KINDS = (("MatMulV2", 50_000), ("FlashAttentionScore", 20_000), ("RmsNorm", 4_000))


def kernel_details(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "kernel_details.csv"
    columns = "Step Id,Device_id,Model ID,Task ID,Stream ID,Name,Type,OP State,Accelerator Core"
    rows = [f"{columns},Start Time(us),Duration(us),Wait Time(us),Block Dim,Input Shapes"]
    start = 1_700_000_000_000_000_000
    for step in range(4):
        for number, (kind, took) in enumerate(
            (("MatMulV2", 50_000), ("FlashAttentionScore", 20_000), ("RmsNorm", 4_000))
        ):
            at = start + step * 1_000_000 + number * 100_000
            rows.append(
                f"{step},0,1,{number},2,aclnn_{kind}_{step},{kind},static,AI_CORE,{at // 1000}.{at % 1000:03d}\t,"
                f'{took / 1000},0,24,"8,4096"'
            )
    path.write_text("\n".join(rows))
    return path


def test_ascend_kernel_details_give_kernels_and_steps(tmp_path: Path) -> None:
    """By operator type, with the step each belongs to and the rank named beside."""
    path = kernel_details(tmp_path / "host_ascend_pt" / "ASCEND_PROFILER_OUTPUT")
    (tmp_path / "host_ascend_pt" / "profiler_info_3.json").write_text("{}")
    rank = one(path)
    assert rank.rank == 3
    assert {row.name: row.sum_ms for row in rank.categories} == pytest.approx(
        {"gemm": 0.2, "attention": 0.08, "norm_activation": 0.016}
    )
    assert rank.steps is not None
    assert (rank.steps.count, rank.steps.source) == (4, "profiler")
    assert rank.busy is not None
    assert rank.busy.busy_ms == pytest.approx(0.296)


def test_ascend_communication_gives_transit_and_wait(tmp_path: Path) -> None:
    """Per kind of collective; totals are no operation."""
    info = {"Start Timestamp(us)": 1_700_000_000_000.5, "Elapse Time(ms)": 2.0, "Transit Time(ms)": 0.5,
            "Wait Time(ms)": 1.4, "Synchronization Time(ms)": 1.0, "Idle Time(ms)": 0.1}  # fmt: skip
    path = tmp_path / "communication.json"
    path.write_text(json.dumps({"step0": {"p2p": {}, "collective": {
        "hcom_allReduce__123_0_1@99": {"Communication Time Info": info},
        "hcom_allReduce__123_1_1@99": {"Communication Time Info": info},
        "Total Op Info": {"Communication Time Info": info}}}}))  # fmt: skip
    rank = one(path)
    (row,) = rank.communication
    assert (row.name, row.count, row.elapsed_ms, row.wait_ms) == ("hcom_allReduce", 2, 4.0, 2.8)


def x(name: str, pid: int, tid: int, ts: str, dur: float) -> dict[str, object]:
    """One event as Ascend writes it: times as text."""
    return {"ph": "X", "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": dur, "args": {}}


def trace_view(folder: Path) -> Path:
    events: list[dict[str, object]] = []
    for number in range(3):
        base = 1_700_000_000_000_000 + number * 1_000
        events += [
            x("MatMulV2", 5, 2, f"{base}.250", 300.5),
            x("EVENT_WAIT", 5, 2, f"{base + 400}.0", 500.0),
            x("hcom_allReduce__12_0@1", 6, 1, f"{base + 200}.0", 300.0),
            x("Notify_Wait", 6, 3, f"{base + 200}.0", 90.0),
            x("Communication(Not Overlapped)", 7, 1, f"{base + 300}.0", 199.0),
            x(f"ProfilerStep#{number}", 1, 1, f"{base}.0", 990.0),
            x("aten::mm", 1, 1, f"{base}.1", 50.0),
        ]
    names = {1: "Python", 5: "Ascend Hardware", 6: "Communication", 7: "Overlap Analysis"}
    events += [{"ph": "M", "name": "process_name", "pid": p, "tid": 0, "args": {"name": n}} for p, n in names.items()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "trace_view.json"
    path.write_text(json.dumps(events))
    return path


def test_ascends_timeline_is_told_apart_by_process_names_that_come_last(tmp_path: Path) -> None:
    """NPU work is work, waiting for events is none, the overlap analysis is kept; times are text and exact."""
    rank = one(trace_view(tmp_path))
    assert rank.busy is not None
    assert rank.busy.busy_ms == pytest.approx(3 * 0.49975)
    assert rank.busy.overlap_share == pytest.approx(100.75 / 300, rel=1e-6)
    assert {row.name: row.count for row in rank.categories} == {"gemm": 3, "collective": 3}
    assert rank.steps is not None
    assert rank.steps.count == 3
    (overlap,) = [row for row in rank.annotations if row.name.startswith("Overlap Analysis")]
    assert overlap.gpu_ms == pytest.approx(0.597)


def test_a_folder_counts_ascends_kernels_once(tmp_path: Path) -> None:
    """kernel_details.csv repeats what trace_view.json has."""
    kernel_details(tmp_path)
    trace_view(tmp_path)
    report = run([tmp_path])
    assert [Path(rank.file).name for rank in report.ranks] == ["trace_view.json"]
    assert report.problems == []


def test_folded_stacks_say_where_samples_were_taken(tmp_path: Path) -> None:
    """py-spy record --format raw."""
    path = tmp_path / "stacks.txt"
    path.write_text("main (a.py:1);run (a.py:2);poll (zmq.py:3) 60\nmain (a.py:1);run (a.py:2) 30\nmain (a.py:1) 10\n")
    rows = {row.frame: (row.leaf_share, row.share) for row in one(path).stacks}
    assert rows == {"poll (zmq.py:3)": (0.6, 0.6), "run (a.py:2)": (0.3, 0.9), "main (a.py:1)": (0.1, 1.0)}


def test_speedscope_says_the_same(tmp_path: Path) -> None:
    """py-spy record --format speedscope; samples that point nowhere are counted, not believed."""
    path = tmp_path / "x.speedscope"
    document = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "shared": {
            "frames": [{"name": "main", "file": "a.py", "line": 1}, {"name": "poll", "file": "zmq.py", "line": 3}]
        },
        "profiles": [{"type": "sampled", "name": "t", "samples": [[0, 1], [0], [0, 9]], "weights": [3, 1, 5]}],
    }
    path.write_text(json.dumps(document))
    rank = one(path)
    rows = {row.frame: (row.leaf_share, row.share) for row in rank.stacks}
    assert rows == {"poll (zmq.py:3)": (0.75, 0.75), "main (a.py:1)": (0.25, 1.0)}
    assert rank.bad_events == 1


def test_a_single_process_with_several_gpus_gives_one_view_per_gpu(tmp_path: Path) -> None:
    """Device is part of who an event is."""
    scene = Scene()
    for number in range(20):
        scene.launch(GEMM, number * 1_000, number * 10_000 + 5_000, 5_000, device=0)
        scene.launch(NORM, number * 1_000, number * 10_000 + 5_000, 9_000, device=1)
    found = read_any(scene.write(tmp_path / "t.json"))
    assert [(one.view.device, one.view.busy.busy_ms) for one in found if one.view.busy] == [("0", 0.1), ("1", 0.18)]


def test_what_is_beside_traces_is_not_read_as_one(tmp_path: Path) -> None:
    """A folder with notes, plots and a truncated trace."""
    Scene(rank=0).write(tmp_path / "empty_trace.json")
    (tmp_path / "notes.md").write_text("# notes")
    (tmp_path / "plot.png").write_bytes(b"\x89PNG")
    (tmp_path / "torch_info.json").write_text("[]")
    scene = Scene(events=[Made("kernel", REDUCE, 0, 7, 0, 900, {"correlation": 1})])
    scene.write(tmp_path / "rank0.json")
    report = run([tmp_path])
    assert sum(rank.gpu_events for rank in report.ranks) == 1
