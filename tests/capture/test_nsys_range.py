"""A capture range is only opened where the server lives on when it closes; its end is owed first, and always comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from responder.capture import nsys_range
from responder.capture.step import Fetched
from responder.model import Inventory, Obligation, Outcome, ProcessInfo, Target
from tests.doubles import BRIEF, Files, answer, scene, serving

VLLM = ("/opt/venv/bin/vllm", "serve", "m", '--profiler-config={"profiler":"cuda"}')
UNDER = ("/usr/bin/nsys", "profile", "-c", "cudaProfilerApi", "--capture-range-end=stop", "-o", "/traces/run", *VLLM)
STATS = b'Total Time (ns),Name\n600,"gemm<float, 4>"\n400,softmax\n'


class Owing:
    """Duties that write down the order of things; an end is one POST."""

    def __init__(self, http: Any, url: str) -> None:
        self.http, self.url, self.told = http, url, list[str]()

    async def owe(self, target: Target, step: str, *, incident: str, within_s: float, repeat_safe: bool) -> Obligation:
        self.told.append("owed")
        return Obligation(id="1", target="t", url=self.url, step=step, incident=incident, opened_at=5.0,
                          due_at=5.0 + within_s, born_at=None, repeat_safe=repeat_safe)  # fmt: skip

    def settle(self, obligation: str) -> Any:
        import asyncio

        return asyncio.ensure_future(self._end())

    async def _end(self) -> Obligation:
        self.told.append("ended")
        async with self.http.post(f"{self.url}/stop_profile") as said:
            ended = await self.owe(Target(name="t", url=""), "", incident="", within_s=1.0, repeat_safe=True)
            return ended.model_copy(update={"note": f"stopped: HTTP {said.status}"})

    async def void(self, obligation: str, why: str) -> None:
        self.told.append("void")


class Host(Files):
    """A host whose nsys has written a report once the range has been closed."""

    def __init__(self, argv: tuple[str, ...], asked: Any, before: bool = False) -> None:
        super().__init__({"/proc/40/cmdline": "\0".join(argv).encode(), "/proc/40/stat": b"40 (nsys) S 1 1"})
        self.asked, self.before = asked, before

    async def run(self, argv: Any, *, timeout: float, max_bytes: int = 1 << 20) -> Any:
        there = self.before or "/stop_profile" in self.asked()
        self.commands = {"nsys": STATS, "ls": b"run.nsys-rep\n" if there else b"", "find": b"x" if there else b""}
        return await super().run(argv, timeout=timeout, max_bytes=max_bytes)


@asynccontextmanager
async def ran(
    argv: tuple[str, ...] = UNDER, command: tuple[str, ...] = VLLM, *, before: bool = False, status: int = 200
) -> AsyncIterator[tuple[Fetched, list[str], list[str]]]:
    """(what came of it, the duties in order, what the server was asked)."""
    process = ProcessInfo(pid=50, ppid=40, started_at=1.0, role="api_server", name="api")
    known = Inventory(at=0, local=True, command=command, processes=(process,), version="0.32.0")
    async with serving({"/start_profile": answer("", status), "/stop_profile": answer("")}) as server:
        host = Host(argv, server.paths, before)
        async with scene(server.url, inventory=known, runner=host) as where:
            duties = Owing(where.http, server.url)
            params = nsys_range.Range(seconds=0.2)
            fetched = await nsys_range.fetch(replace(where, duties=duties), params)  # type: ignore[arg-type]
        yield fetched, duties.told, server.paths()


async def test_a_range_is_opened_closed_and_read() -> None:
    """Owed before the start; the end before the report; the kernels of it."""
    async with ran() as (fetched, told, asked):
        assert fetched.outcome is Outcome.OK, fetched.reason
        assert told[:2] == ["owed", "ended"]
        assert asked == ["/start_profile", "/stop_profile"]
        found = {f.name: f.value for f in nsys_range.read(fetched.files, BRIEF)}
        assert found == {
            "nsys_range.possible": True, "nsys_range.report": "/traces/run.nsys-rep",
            "nsys_range.top_kernel": "gemm<float, 4>", "nsys_range.top_kernel_share": 0.6,
        }  # fmt: skip
        assert set(found) == {spec.name for spec in nsys_range.STEP.facts}
        assert fetched.disturbed is not None


@pytest.mark.parametrize(
    ("argv", "command", "before", "word"),
    [
        (("bash",), VLLM, False, "not started under nsys"),
        (tuple(w for w in UNDER if "range-end" not in w), VLLM, False, "end the server"),
        (tuple(w.replace("=stop", "=stop-shutdown") for w in UNDER), VLLM, False, "end the server"),
        (tuple(w.replace("=stop", "=repeat-shutdown:3") for w in UNDER), VLLM, False, "end the server"),
        (tuple(w for w in UNDER if w not in ("-c", "cudaProfilerApi")), VLLM, False, "no range to open"),
        (UNDER, VLLM[:3], False, "lacks --profiler-config"),
        (UNDER, VLLM, True, "has been used"),
    ],
)
async def test_refused_without_a_word_to_the_server(
    argv: tuple[str, ...], command: tuple[str, ...], before: bool, word: str
) -> None:
    """The reason says what to add; nothing is owed and nothing is asked."""
    async with ran(argv, command, before=before) as (fetched, told, asked):
        assert fetched.outcome is Outcome.SKIPPED
        assert word in fetched.reason
        assert told == asked == []


async def test_somebody_elses_range_is_not_ours() -> None:
    """409: theirs; never closed."""
    async with ran(status=409) as (fetched, told, asked):
        assert fetched.outcome is Outcome.SKIPPED
        assert told == ["owed", "void"]
        assert asked == ["/start_profile"]
