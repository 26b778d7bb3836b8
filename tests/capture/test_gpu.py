"""GPUs of a server, from NVML's answers and from nvidia-smi's text: spinning, idle, throttled, lost, stuck."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from responder.capture import gpu
from responder.capture.step import Command, NoParams
from responder.gpu_text import from_nvidia_smi, from_nvml
from responder.model import Fact, Inventory, Outcome, ProcessInfo, Scalar
from responder.runner import LocalRunner
from tests.doubles import BRIEF, Files, scene

DATA = Path(__file__).parents[1] / "data" / "gpu"
HANG = {
    gpu.CSV: (DATA / "hang_csv.txt").read_bytes(),
    gpu.QUERY: (DATA / "hang_q.txt").read_bytes(),
    gpu.LINKS: (DATA / "hang_nvlink_s.txt").read_bytes(),
}


def server(pids: tuple[int, ...] = (), visible: str | None = None, timed_out: bool = False) -> dict[str, bytes]:
    return {gpu.SERVER: json.dumps({"pids": pids, "visible": visible, "timed_out": timed_out}).encode()}


def facts(files: dict[str, bytes]) -> tuple[dict[str, Scalar], list[Fact]]:
    found = list(gpu.read(files, BRIEF))
    assert {fact.name for fact in found} <= {spec.name for spec in gpu.STEP.facts}
    return {f.name.removeprefix("gpu."): f.value for f in found if not f.subject}, [f for f in found if f.subject]


def card(index: int, **more: Any) -> dict[str, Any]:
    """A healthy, busy H200 as the probe prints it."""
    looks = more.pop("looks", [(96, 40, 540.0, 1980)] * 3)
    samples = [{"util": u, "mem_util": m, "power_w": w, "sm_mhz": c} for u, m, w, c in looks]
    told = {
        "index": index, "samples": samples, "name": "NVIDIA H200", "uuid": f"GPU-{index}", "power_limit_w": 700.0,
        "power_default_w": 700.0, "sm_max_mhz": 1980, "mem_mhz": 3201, "throttle": [], "temperature": 60,
        "memory_used": 75, "memory_total": 100, "ecc_uncorrected": 0, "retired_pages": None, "remapped_rows": None,
        "nvlinks": [{"active": True, "errors": 0}] * 18, "processes": [{"pid": 900 + index, "name": "VLLM::Worker"}],
    }  # fmt: skip
    return told | more


def nvml(*lines: dict[str, Any]) -> dict[str, bytes]:
    return {gpu.NVML: "".join(json.dumps(line) + "\n" for line in lines).encode()}


def test_recorded_hang() -> None:
    """Rank 1 of TP=2 stopped: rank 0 spins at full utilisation and idle power, rank 1 is idle."""
    found, each = facts(HANG | server(pids=(992, 993)))
    assert (found["count"], found["spinning"], found["idle"]) == (2, 1, 1)
    assert (found["util_max"], found["util_min"], found["mem_util_max"]) == (100.0, 0.0, 0.0)
    assert found["power_w_max"] == 161.5
    assert found["power_share_max"] == 0.231
    assert found["sm_clock_share_min"] == 1.0
    assert (found["throttled"], found["throttle_reasons"]) == (False, "")
    assert (found["ecc_uncorrected"], found["nvlink_down"], found["lost"]) == (0, 0, 0)
    assert found["temperature_max"] == 43
    assert found["memory_used_share_max"] == 0.93
    assert found["driver_stuck"] is False
    assert [(fact.subject, fact.value) for fact in each] == [("GPU 0", "spinning"), ("GPU 1", "idle")]


@pytest.mark.parametrize(
    ("name", "doing", "power", "reasons"),
    [
        ("nvml_idle.jsonl", ["idle", "idle"], 0.113, ""),
        ("nvml_busy.jsonl", ["working", "working"], 0.992, "sw_power_cap"),
        ("nvml_stopped.jsonl", ["spinning", "idle"], 0.179, ""),
    ],
)
def test_recorded_probe(name: str, doing: list[str], power: float, reasons: str) -> None:
    """The probe's own output on two H200s: no work, all-reduce and matrix products, then rank 1 stopped."""
    found, each = facts({gpu.NVML: (DATA / name).read_bytes(), **server(pids=(584, 585))})
    assert [fact.value for fact in each] == doing
    assert found["power_share_max"] == power
    assert (found["throttled"], found["throttle_reasons"]) == (False, reasons)
    assert (found["nvlink_down"], found["lost"], found["ecc_uncorrected"]) == (0, 0, 0)


@pytest.mark.parametrize("left_out", [gpu.CSV, gpu.QUERY, gpu.LINKS])
def test_any_of_the_texts_may_be_missing(left_out: str) -> None:
    """One of three queries failed: what the others tell is told, the rest is unknown."""
    found, _ = facts({name: text for name, text in HANG.items() if name != left_out} | server())
    assert (found["count"], found["spinning"], found["idle"]) == (2, 1, 1)
    if left_out == gpu.QUERY:
        assert found["power_share_max"] is None
        assert found["processes"] == 0
    if left_out == gpu.LINKS:
        assert found["nvlink_down"] is None


def test_both_voices_say_the_same() -> None:
    """The table and the long form, read by themselves, agree on every figure both have."""
    table = from_nvidia_smi(HANG[gpu.CSV].decode(), "", "")
    query = from_nvidia_smi("", HANG[gpu.QUERY].decode(), "")
    for one, two in zip(table, query, strict=True):
        assert (one.index, one.name, one.util, one.mem_util) == (two.index, two.name, two.util, two.mem_util)
        assert one.power_w == pytest.approx(two.power_w, rel=0.01)
        assert (one.memory_used, one.temperature, one.throttle) == (two.memory_used, two.temperature, two.throttle)


def test_healthy_busy_card() -> None:
    """Nothing is wrong: known to be none, not unknown."""
    found, _ = facts(nvml({"count": 1}, card(0), {"done": True}) | server(pids=(900,)))
    assert (found["spinning"], found["idle"], found["throttled"], found["lost"]) == (0, 0, False, 0)
    assert found["power_share_max"] == 0.771
    assert found["processes"] == 1


def test_only_the_servers_own_cards_count() -> None:
    """Another server's idle or sick GPU on the same host must not look like ours."""
    idle = card(1, looks=[(0, 0, 75.0, 345)] * 3, throttle=["hw_slowdown"])
    found, _ = facts(nvml(card(0), idle) | server(pids=(900,)))
    assert (found["count"], found["idle"], found["throttled"]) == (1, 0, False)
    found, _ = facts(nvml(card(0), idle) | server(pids=(1,), visible="1"))
    assert (found["count"], found["idle"]) == (1, 1)
    found, _ = facts(nvml(card(0), idle) | server(visible="GPU-0"))
    assert (found["count"], found["idle"]) == (1, 0)
    found, _ = facts(nvml(card(0), idle) | server())
    assert found["count"] == 2


@pytest.mark.parametrize(
    ("pids", "expected"),
    [
        ((900,), 2),  # others beside the server's own
        ((900, 901, 902), 0),  # all of them are its workers
        ((7,), None),  # numbered by another PID namespace: whose they are nobody can tell
    ],
)
def test_who_else_computes_on_the_card(pids: tuple[int, ...], expected: int | None) -> None:
    """Not the server's own processes, nor the daemon through which several share a card."""
    there = [(900, "VLLM::Worker"), (901, "python3"), (902, "train"), (903, "nvidia-cuda-mps-server")]
    listed = [{"pid": pid, "memory": 1, "name": name} for pid, name in there]
    found, _ = facts(nvml(card(0, processes=listed)) | server(pids=pids))
    assert found["neighbours"] == expected


def test_passing_idleness_is_not_idle() -> None:
    """Between two steps every GPU is at 0 % for a moment; idle and spinning must hold in every look."""
    found, _ = facts(nvml(card(0, looks=[(0, 0, 300.0, 1980), (95, 0, 300.0, 1980), (0, 0, 300.0, 1980)])) | server())
    assert (found["idle"], found["spinning"]) == (0, 0)


@pytest.mark.parametrize(
    ("reasons", "limit", "throttled"),
    [
        (["sw_power_cap"], 700.0, False),
        (["sw_power_cap"], 300.0, True),
        (["hw_thermal_slowdown", "hw_slowdown"], 700.0, True),
        (["gpu_idle"], 700.0, False),
        ([], 300.0, False),
    ],
)
def test_throttling(reasons: list[str], limit: float, throttled: bool) -> None:
    """Running into the power limit is normal under full load; a lowered limit, heat and faults are not."""
    found, _ = facts(nvml(card(0, throttle=reasons, power_limit_w=limit)) | server())
    assert found["throttled"] is throttled


def test_lower_clock_counts_only_at_work() -> None:
    """An idle GPU's low clock is its good right, and so is that of one at its normal power limit."""
    found, _ = facts(nvml(card(0, looks=[(0, 0, 70.0, 345)] * 3)) | server())
    assert found["sm_clock_share_min"] is None
    found, _ = facts(nvml(card(0, looks=[(99, 60, 300.0, 990)] * 3)) | server())
    assert found["sm_clock_share_min"] == 0.5
    files = {gpu.NVML: (DATA / "nvml_busy.jsonl").read_bytes(), **server()}
    assert facts(files)[0]["sm_clock_share_min"] is None
    lowered = card(0, looks=[(99, 60, 299.0, 990)] * 3, throttle=["sw_power_cap"], power_limit_w=300.0)
    assert facts(nvml(lowered) | server())[0]["sm_clock_share_min"] == 0.5


def test_missing_links() -> None:
    """Fewer active NVLinks than its sister has; links unused on all are unused by design."""
    down = [{"active": True, "errors": 0}] * 16 + [{"active": False, "errors": 0}] * 2
    found, _ = facts(nvml(card(0), card(1, nvlinks=down)) | server())
    assert found["nvlink_down"] == 2
    found, _ = facts(nvml(card(0, nvlinks=down), card(1, nvlinks=down)) | server())
    assert found["nvlink_down"] == 0


def test_lost_card() -> None:
    """A GPU that has fallen off the bus has no process list any more and counts as ours."""
    found, each = facts(nvml(card(0), {"index": 1, "lost": "GPU is lost"}) | server(pids=(900,)))
    assert (found["lost"], found["count"]) == (1, 2)
    assert ("GPU 1", "lost") in [(fact.subject, fact.value) for fact in each]


def test_stuck_driver() -> None:
    """The probe was cut off in the middle: said so, and what came before counts; a half line does not."""
    files = nvml({"driver": "580", "count": 2}, {"asking": 0}, card(0)) | server(timed_out=True)
    files[gpu.NVML] += b'{"index": 1, "samp'
    found, _ = facts(files)
    assert found["driver_stuck"] is True
    assert found["count"] == 1
    assert facts({gpu.NVML: b"", **server(timed_out=True)})[0] == {"driver_stuck": True}


@pytest.mark.parametrize("text", ["[N/A]", "[Unknown Error]", "ERR!", ""])
def test_what_the_driver_does_not_tell_is_unknown(text: str) -> None:
    """Older cards and broken ones: no figure is made up."""
    table = f"index, name, utilization.gpu [%], power.draw [W]\n0, NVIDIA T4, {text}, {text}\n"
    (only,) = from_nvidia_smi(table, "", "")
    assert (only.util, only.power_w, only.throttle, only.doing) == ((), None, None, "unknown")


@pytest.mark.parametrize("garbage", [b"", b"\xff\x00", b"[]\n3\nnull\n", b'{"samples": 1'])
def test_garbage_is_no_card(garbage: bytes) -> None:
    """Output of something that is no probe."""
    assert from_nvml(garbage) == []


HERE = Inventory(at=0, local=True, processes=(ProcessInfo(pid=992, ppid=1, started_at=1, role="worker", name="w"),))


class Canned(Files):
    """A runner whose Python child ends as told; nvidia-smi gives the recorded texts."""

    def __init__(self, probe: Command, smi: bool) -> None:
        super().__init__()
        self.probe, self.smi = probe, smi

    async def run(self, argv: Any, *, timeout: float, max_bytes: int = 1 << 20) -> Command:
        if argv[0] != "nvidia-smi":
            return self.probe
        if not self.smi:
            raise FileNotFoundError("nvidia-smi")
        name = gpu.CSV if argv[1].startswith("--query") else gpu.QUERY if argv[1] == "-q" else gpu.LINKS
        return Command(0, HANG[name], b"", 0.03)


NO_NVML = Command(3, b'{"error": "NVML Shared Library Not Found"}\n', b"", 0.1)


async def test_without_nvml_nvidia_smi_is_asked() -> None:
    """The same facts by the other voice, and the reason."""
    async with scene(inventory=HERE, runner=Canned(NO_NVML, smi=True)) as where:
        fetched = await gpu.fetch(where, NoParams())
    assert fetched.outcome is Outcome.PARTIAL
    assert "NVML Shared Library Not Found" in fetched.reason
    assert facts(dict(fetched.files))[0]["spinning"] == 1


async def test_a_stuck_driver_is_not_asked_twice() -> None:
    """NVML gave no answer: nvidia-smi would hang in the same place."""
    async with scene(inventory=HERE, runner=Canned(Command(None, b"", b"", 10.0), smi=True)) as where:
        fetched = await gpu.fetch(where, NoParams())
    assert fetched.outcome is Outcome.PARTIAL
    assert facts(dict(fetched.files))[0] == {"driver_stuck": True}


async def test_machine_without_gpu() -> None:
    """Skipped, with both things that are missing."""
    async with scene(inventory=HERE, runner=Canned(NO_NVML, smi=False)) as where:
        fetched = await gpu.fetch(where, NoParams())
    assert fetched.outcome is Outcome.SKIPPED
    assert "NVML Shared Library Not Found" in fetched.reason
    assert "nvidia-smi is not on PATH" in fetched.reason
    assert list(gpu.read(fetched.files, BRIEF)) == []


async def test_the_real_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child starts from any directory and ends with JSON lines, GPU or not."""
    monkeypatch.chdir(tmp_path)
    async with scene(inventory=HERE, runner=LocalRunner()) as where:  # type: ignore[arg-type]
        fetched = await gpu.fetch(where, NoParams())
    assert fetched.outcome in (Outcome.OK, Outcome.PARTIAL, Outcome.SKIPPED)
    assert "ModuleNotFoundError" not in fetched.reason


async def test_another_host_is_skipped() -> None:
    """Our GPUs are not its GPUs."""
    async with scene(inventory=Inventory(at=0, local=False)) as where:
        assert (await gpu.fetch(where, NoParams())).outcome is Outcome.SKIPPED
