"""Traces written for tests: a list of events with known times, in every layout that torch writes.

Times are integer nanoseconds from 0; the files carry them as microseconds since torch's base time, as torch does.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Layout = Literal["multi", "single", "compact", "other"]
LAYOUTS: tuple[Layout, ...] = ("multi", "single", "compact", "other")

BASE_NS = 4_310_717_043_765_000

ATTENTION = "void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<int> > >(int)"
GEMM = "nvjet_sm90_tst_128x8_64x12_2x1_v_bz_TNT"
NORM = "void vllm::fused_add_rms_norm_kernel<c10::BFloat16, 8>(c10::BFloat16*)"
SILU = "void vllm::act_and_mul_kernel<c10::BFloat16, &(vllm::silu_kernel<c10::BFloat16>)>(c10::BFloat16*)"
CACHE = "void vllm::reshape_and_cache_flash_kernel<__nv_bfloat16, (vllm::Fp8KVCacheDataType)0>(int)"
REDUCE = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
SORT = "void at_cuda_detail::cub::DeviceRadixSortOnesweepKernel<float>(int*)"
D2H = "Memcpy DtoH (Device -> Pageable)"
H2D = "Memcpy HtoD (Pinned -> Device)"


@dataclass(frozen=True)
class Made:
    """One X event."""

    cat: str
    name: str
    pid: int
    tid: int
    start: int
    dur: int
    args: dict[str, object] = field(default_factory=dict)


@dataclass
class Scene:
    """A trace in the making. The CPU thread is (577, 577), the GPU device 0."""

    rank: int | None = None
    world: int = 1
    events: list[Made] = field(default_factory=list)
    _next: int = 1000

    def add(self, cat: str, name: str, start: int, dur: int, *, pid: int = 577, tid: int = 577, **args: object) -> None:
        """Any event."""
        self.events.append(Made(cat, name, pid, tid, start, dur, args))

    def op(self, name: str, start: int, dur: int) -> None:
        """A CPU operator."""
        self.add("cpu_op", name, start, dur)

    def mark(self, name: str, start: int, dur: int) -> None:
        """A user annotation."""
        self.add("user_annotation", name, start, dur)

    def step(self, start: int, dur: int, *, context: int = 0, tokens: int = 0, generation: int = 8) -> None:
        """vLLM's step annotation."""
        self.mark(f"execute_context_{context}({tokens})_generation_{generation}({generation})", start, dur)

    def frame(self, name: str, start: int, dur: int) -> None:
        """A Python frame."""
        self.add("python_function", name, start, dur)

    def call(self, name: str, start: int, dur: int, *, tid: int = 577) -> int:
        """A runtime call; the answer is its correlation."""
        self._next += 1
        self.add("cuda_runtime", name, start, dur, tid=tid, correlation=self._next)
        return self._next

    def gpu(
        self,
        name: str,
        start: int,
        dur: int,
        *,
        stream: int = 7,
        correlation: int | None = None,
        grid: tuple[int, int, int] = (1, 1, 1),
        size: int = 0,
        device: int = 0,
    ) -> None:
        """A kernel, copy or memset, by its name."""
        cat = "gpu_memcpy" if name.startswith("Memcpy") else "gpu_memset" if name.startswith("Memset") else "kernel"
        args: dict[str, object] = {"device": device, "stream": stream}
        if correlation is not None:
            args["correlation"] = correlation
        if cat == "kernel":
            args["grid"] = list(grid)
            if size:
                args["In msg nelems"] = size
        elif size:
            args["bytes"] = size
        self.add(cat, name, start, dur, pid=device, tid=stream, **args)

    def launch(self, name: str, cpu: int, start: int, dur: int, *, took: int = 2_000, **more: object) -> None:
        """A kernel with the call that launched it."""
        call = "cudaMemcpyAsync" if name.startswith("Memcpy") else "cudaLaunchKernel"
        self.gpu(name, start, dur, correlation=self.call(call, cpu, took), **more)  # type: ignore[arg-type]

    def write(self, path: Path, layout: Layout = "multi", *, ending: bool = True) -> Path:
        """Write the file (gzip by its name); without `ending` it stops as if still being written."""
        text = self.text(layout, ending=ending).encode()
        path.write_bytes(gzip.compress(text, 1) if path.suffix == ".gz" else text)
        return path

    def text(self, layout: Layout, *, ending: bool = True) -> str:
        """The file's content. Order as torch has it: CPU, Python, CUDA."""
        place = {"cpu_op": 0, "user_annotation": 0, "python_function": 1}
        events = sorted(self.events, key=lambda e: (place.get(e.cat, 2), e.start))
        head = _header(self, layout)
        if layout == "other":
            body = json.dumps([_plain(e) for e in events])[1:-1]
            return head + body + ("]}" if ending else ', {"ph": "X", "na')
        joined = ",\n".join(_one(e, layout) for e in events)
        if not ending:
            return head + joined + ",\n" + _one(events[0], layout)[:40] if events else head
        return (
            head + joined + ('\n],\n"traceName": "x"\n}\n' if layout == "compact" else '\n  ],\n  "traceName": "x"\n}')
        )


def micros(ns: int) -> str:
    """Nanoseconds as torch writes them."""
    return f"{ns // 1000}.{ns % 1000:03d}"


def _header(scene: Scene, layout: Layout) -> str:
    group = ""
    if scene.rank is not None:
        group = f'"distributedInfo": {{"backend": "nccl", "rank": {scene.rank}, "world_size": {scene.world}}}, '
    cards = '"deviceProperties": [{"id": 0, "name": "NVIDIA H200"}], '
    if layout == "other":
        return f'{{"schemaVersion": 1, {cards}{group}"traceEvents": ['
    return f'{{\n"schemaVersion": 1, {cards}{group}\n"displayTimeUnit": "ms",\n  "traceEvents": [\n'


def _plain(event: Made) -> dict[str, object]:
    return {
        "ph": "X", "cat": event.cat, "name": event.name, "pid": event.pid, "tid": event.tid,
        "ts": micros(BASE_NS + event.start), "dur": event.dur / 1000, "args": event.args,
    }  # fmt: skip


def _one(event: Made, layout: Layout) -> str:
    """One event; names are written raw, exactly as torch fails to escape them."""
    args = ", ".join(f'"{key}": {json.dumps(value)}' for key, value in event.args.items()) or '"Ev Idx": 0'
    ts, dur = micros(BASE_NS + event.start), micros(event.dur)
    if layout == "compact":
        return (
            f'{{"ph":"X","cat":"{event.cat}","name":"{event.name}","pid":{event.pid},"tid":{event.tid},'
            f'"ts":{ts},"dur":{dur},"args":{{{args}}}}}'
        )
    if layout == "multi":
        return (
            f'  {{\n    "ph": "X", "cat": "{event.cat}", "name": "{event.name}", "pid": {event.pid}, '
            f'"tid": {event.tid},\n    "ts": {ts}, "dur": {dur},\n    "args": {{\n      {args}\n    }}\n  }}'
        )
    return (
        f'  {{\n    "ph": "X",\n    "cat": "{event.cat}",\n    "name": "{event.name}",\n    "pid": {event.pid},\n'
        f'    "tid": {event.tid},\n    "ts": {ts},\n    "dur": {dur}\n    ,\n    "args": {{\n      {args}\n    }}\n  }}'
    )


def transformer(steps: int = 6, layers: int = 4, *, slow_layer: int | None = None, ranks_late: int = 0) -> Scene:
    """Decode steps of a small transformer with vLLM's phases; layer `slow_layer` has an MLP three times as long."""
    scene = Scene()
    cpu = gpu = 10_000
    for _ in range(steps):
        begin = cpu
        scene.mark("gpu_model_runner: preprocess", cpu, 20_000)
        scene.launch(H2D, cpu + 2_000, max(gpu, cpu + 4_000), 1_500, size=512)
        cpu, gpu = cpu + 22_000, max(gpu, cpu + 6_000) + 2_000
        for layer in range(layers):
            gemm = 9_000 * (3 if layer == slow_layer else 1)
            for name, took in ((NORM, 2_000), (GEMM, 6_000), (CACHE, 1_000), (ATTENTION, 8_000), (GEMM, 5_000),
                               (REDUCE, 4_000 + ranks_late), (NORM, 2_000), (GEMM, 9_000), (SILU, 1_500), (GEMM, gemm),
                               (REDUCE, 4_000)):  # fmt: skip
                gpu = max(gpu + 500, cpu + 3_000)
                scene.launch(name, cpu, gpu, took, size=4096 if name == REDUCE else 0)
                cpu, gpu = cpu + 3_000, gpu + took
        scene.mark("gpu_model_runner: sample", cpu, 10_000)
        scene.launch(SORT, cpu + 1_000, gpu + 500, 7_000)
        gpu += 8_000
        done = max(gpu, cpu + 12_000) + 2_000
        scene.launch("Memcpy DtoH (Device -> Pinned)", cpu + 10_000, done - 1_500, 1_000, size=64)
        scene.call("cudaStreamSynchronize", cpu + 13_000, max(done - cpu - 13_000, 1_000) + 500)
        cpu = max(done, cpu + 14_000) + 1_000
        scene.step(begin, cpu - begin)
        cpu, gpu = cpu + 5_000, done
    return scene
