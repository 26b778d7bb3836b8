"""Does the step see the odd GPU, bad links and slow paths in nvidia-smi's texts, and survive a stuck driver?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from responder.capture import nvidia_smi
from responder.capture.step import Command, Fetched, NoParams
from responder.model import Inventory, Outcome, ProcessInfo, Scalar
from tests.doubles import BRIEF, Files, scene

DATA = Path(__file__).parents[1] / "data" / "nvidia_smi"
TEXTS = {path.stem.removeprefix("rank1_stopped_"): path.read_bytes() for path in DATA.iterdir()}


class Smi(Files):
    """nvidia-smi on two H200s with TP=2, rank 1 stopped; `stuck` names a question it never answers."""

    def __init__(self, stuck: str = "", **instead: bytes) -> None:
        super().__init__()
        self.stuck, self.texts = stuck, TEXTS | instead

    async def run(self, argv: Sequence[str], *, timeout: float, max_bytes: int = 1 << 20) -> Command:
        self.ran.append(list(argv))
        name = "nvlink_" + argv[2].strip("-") if argv[1] == "nvlink" else argv[1]
        if name == self.stuck:
            return Command(None, b"", b"", timeout)
        return Command(0, self.texts[name], b"", 0.0)


def server(*pids: int) -> Inventory:
    processes = tuple(ProcessInfo(pid=p, ppid=1, started_at=1, role="worker", name=f"W{p}", rank=0) for p in pids)
    return Inventory(at=0, local=True, processes=processes)


async def fetch(runner: Files, inventory: Inventory | None) -> Fetched:
    async with scene(inventory=inventory, runner=runner) as where:
        return await nvidia_smi.fetch(where, NoParams())


def facts(fetched: Fetched) -> dict[str, tuple[Scalar, str]]:
    found = list(nvidia_smi.read(fetched.files, BRIEF))
    assert {fact.name for fact in found} <= {spec.name for spec in nvidia_smi.STEP.facts}
    return {fact.name.removeprefix("nvidia_smi."): (fact.value, fact.says) for fact in found}


async def test_the_gpu_of_the_stopped_rank_is_the_odd_one(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Recorded: GPU 0 spins at 100 %, GPU 1 (its rank stopped) idles; links clean and all NVLink."""
    monkeypatch.setattr(nvidia_smi, "APART_S", 0.01)
    said = facts(await fetch(Smi(), server(992, 993)))
    assert said["odd_gpu"][0] == "GPU 1"
    assert "sm 0 % against 100" in said["odd_gpu"][1]
    assert said["link_errors"][0] == 0
    assert said["slow_links"] == (0, "all at 26.562 GB/s")
    assert (said["all_nvlink"][0], said["slowest_path"][0]) == (True, "NV18")
    assert said["link_rate"][0] == 0
    assert said["stuck_calls"][0] == 0


async def test_only_the_servers_own_gpus_count(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A neighbour's busy GPU is no odd one of a server with one GPU."""
    monkeypatch.setattr(nvidia_smi, "APART_S", 0.01)
    said = facts(await fetch(Smi(), server(993)))
    assert "odd_gpu" not in said
    assert "all_nvlink" not in said


async def test_errors_and_a_slow_link_are_counted(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Errors by GPU and kind; a link at half its speed is up, and slow."""
    monkeypatch.setattr(nvidia_smi, "APART_S", 0.01)
    worse = {
        "nvlink_e": TEXTS["nvlink_e"].replace(b"Link 3: CRC Errors: 0", b"Link 3: CRC Errors: 7", 1),
        "nvlink_s": TEXTS["nvlink_s"].replace(b"Link 5: 26.562", b"Link 5: 13.281", 1),
        "topo": TEXTS["topo"].replace(b"NV18", b"SYS"),
    }
    said = facts(await fetch(Smi(**worse), server(992, 993)))
    assert said["link_errors"] == (7, "GPU 0: 7 crc")
    assert said["slow_links"] == (1, "GPU 0: 1 of 18")
    assert (said["all_nvlink"][0], said["slowest_path"][0]) == (False, "SYS")


async def test_a_stuck_driver_is_evidence(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """One question that never ends costs its own answer only, and is named."""
    monkeypatch.setattr(nvidia_smi, "APART_S", 0.01)
    fetched = await fetch(Smi(stuck="dmon"), server(992, 993))
    assert fetched.outcome is Outcome.PARTIAL
    said = facts(fetched)
    assert said["stuck_calls"] == (1, "dmon -c 3")
    assert "odd_gpu" not in said
    assert said["link_errors"][0] == 0


async def test_without_nvidia_smi_it_says_what_is_missing() -> None:
    """No driver, or a container without its utilities."""
    fetched = await fetch(Files(), server(1))
    assert fetched.outcome is Outcome.SKIPPED
    assert "not on PATH" in fetched.reason
    assert (await fetch(Files(), None)).outcome is Outcome.SKIPPED
