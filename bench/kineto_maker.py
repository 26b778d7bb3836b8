"""How is a profiler trace of any size made whose truth is known? Like those of a vLLM worker, written as torch writes.

    python -m bench.kineto_maker OUT.json[.gz] --mb 500 [--no-stack] [--graph] [--layout multi|single] [--cpu]

Beside it OUT.truth.json says what is in it: GPU time by kind, busy and idle, overlap, steps, and what was planted: a
stall of the CPU, a large blocking copy, one slow attention kernel. `--cpu` writes a CPU server's trace, nearly all
Python frames.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import shutil
import tempfile
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from bench.kineto_text import TAIL, flow_event, gpu_args, header, x_event

BASE_NS = 4_310_720_379_633_571
PID = 577

LONG = "cute::tuple<cute::C<64>, cute::C<128>, cute::C<128> >, cutlass::bfloat16_t, float, cutlass::arch::Sm90, true"
ATTENTION = (
    "void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<"
    f"flash::CollectiveMainloopFwdSm90<2, {LONG}>, flash::CollectiveEpilogueFwd<{LONG}> > > >(flash::Params)"
)
FP8_GEMM = f"void cutlass::device_kernel<cutlass::gemm::kernel::GemmUniversal<{LONG}, {LONG}> >(cutlass::Params)"
REDUCE = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
D2H, H2D = "Memcpy DtoH (Device -> Pageable)", "Memcpy HtoD (Pinned -> Device)"

# kernel, kind, us of a prefill of 2048 tokens, us of a decode, operators around the launch, Python frame
LAYER = (
    ("void vllm::fused_add_rms_norm_kernel<c10::BFloat16, 8>(c10::BFloat16*, long, float, int)", "norm_activation",
     14, 2.1, ("_C::fused_add_rms_norm",), "layers/layernorm.py(238): forward_cuda"),
    ("nvjet_tst_128x256_64x4_1x2_h_bz_coopA_TNT", "gemm", 190, 11,
     ("aten::linear", "aten::t", "aten::transpose", "aten::mm"), "layers/linear.py(421): forward"),
    ("void vllm::rotary_embedding_kernel<c10::BFloat16, true>(long const*, c10::BFloat16*, int)", "rope", 17, 1.9,
     ("_C::rotary_embedding",), "layers/rotary_embedding/base.py(161): forward_cuda"),
    ("void vllm::reshape_and_cache_flash_kernel<__nv_bfloat16, (vllm::Fp8KVCacheDataType)0>(int)", "kv_cache", 12, 1.7,
     ("vllm::unified_attention_with_output", "_C_cache_ops::reshape_and_cache_flash"), "flash_attn.py(512): forward"),
    (ATTENTION, "attention", 260, 16, ("vllm_fa3::fwd", "aten::empty"), "flash_attn.py(540): forward"),
    ("nvjet_tst_64x8_64x16_2x1_v_bz_splitK_TNT", "gemm", 120, 7.5,
     ("aten::linear", "aten::t", "aten::mm"), "layers/linear.py(1420): forward"),
    (REDUCE, "collective", 210, 9, ("vllm::all_reduce", "c10d::allreduce_", "record_param_comms"),
     "distributed/parallel_state.py(501): all_reduce"),
    ("void vllm::fused_add_rms_norm_kernel<c10::BFloat16, 8>(c10::BFloat16*, long, float, int)", "norm_activation",
     14, 2.1, ("_C::fused_add_rms_norm",), "layers/layernorm.py(238): forward_cuda"),
    (FP8_GEMM, "gemm", 420, 19, ("aten::linear", "aten::t", "aten::mm"), "layers/linear.py(421): forward"),
    ("void vllm::act_and_mul_kernel<c10::BFloat16, &(vllm::silu_kernel<c10::BFloat16>), true>(c10::BFloat16*)",
     "norm_activation", 33, 2.3, ("_C::silu_and_mul", "aten::empty"), "layers/activation.py(140): forward_cuda"),
    (FP8_GEMM, "gemm", 230, 13, ("aten::linear", "aten::t", "aten::mm"), "layers/linear.py(1420): forward"),
    (REDUCE, "collective", 210, 9, ("vllm::all_reduce", "c10d::allreduce_", "record_param_comms"),
     "distributed/parallel_state.py(501): all_reduce"),
)  # fmt: skip
SAMPLING = (
    ("void at_cuda_detail::cub::DeviceRadixSortOnesweepKernel<float, true>(int*, int*)", "aten::sort", 31),
    ("void at::native::cunn_SoftMaxForwardSmem<8, float, float, float>(float*)", "aten::_softmax", 22),
    ("void at::native::reduce_kernel<512, 1, at::native::ArgMaxOps<float> >()", "aten::argmax", 14),
)  # fmt: skip
INNER_FRAMES = (
    "torch/nn/modules/module.py(1782): _call_impl", "vllm/model_executor/custom_op.py(118): forward",
    "<built-in method apply of type object at 0x7f2ead667c40>", "torch/_ops.py(1254): __call__",
    "torch/nn/modules/module.py(1954): __getattr__",
)  # fmt: skip


@dataclass
class Wish:
    """What to make."""

    megabytes: float
    layout: str = "multi"
    stack: bool = True
    graph: bool = False
    cpu_only: bool = False
    layers: int = 32
    tp: int = 4
    seed: int = 0
    planted: tuple[int, int, int] = (40, 50, 60)
    """Steps with the stall, the copy and the slow kernel."""


@dataclass
class Truth:
    """What is in the trace, noted while it is written."""

    start: array[int] = field(default_factory=lambda: array("q"))
    end: array[int] = field(default_factory=lambda: array("q"))
    kind: list[str] = field(default_factory=list)
    kind_ns: dict[str, int] = field(default_factory=dict)
    steps: list[tuple[str, int]] = field(default_factory=list)
    blocked_ns: int = 0
    events: int = 0


class Maker:
    """Writes one trace; a cursor for the CPU thread and one per stream."""

    def __init__(self, wish: Wish, folder: Path) -> None:
        self.wish, self.dice, self.truth = wish, random.Random(wish.seed), Truth()
        self.files: dict[str, IO[str]] = {
            n: (folder / n).open("w", 1 << 20) for n in ("cpu", "python", "gpu", "ranges")
        }
        self.cpu = self.compute = self.collective = BASE_NS
        self.correlation, self.number, self.size = 1_390_000, 0, 0

    def event(self, file: str, cat: str, name: str, pid: int, tid: int, start: int, dur: int, args: str) -> None:
        """One X event in torch's layout."""
        text = x_event(self.wish.layout, cat, name, pid, tid, start, dur, args)
        self.files[file].write(text)
        self.size += len(text)
        self.truth.events += 1

    def flow(self, ph: str, pid: int, tid: int, start: int, correlation: int) -> None:
        """The arrow from a call to its kernel, as torch draws it."""
        text = flow_event(self.wish.layout, ph, pid, tid, start, correlation)
        self.files["gpu"].write(text)
        self.size += len(text)

    def op(self, name: str, start: int, dur: int, cat: str = "cpu_op") -> None:
        """An operator or annotation."""
        self.number += 1
        args = f'"External id": {self.number},"Record function id": 0, "Ev Idx": {self.number}'
        self.event("cpu", cat, name, PID, PID, start, dur, args)

    def frame(self, name: str, start: int, dur: int) -> None:
        """A Python frame."""
        self.number += 1
        args = f'"Python parent id": {self.number - 1}, "Python id": {self.number}, "Ev Idx": {self.number}'
        self.event("python", "python_function", name, PID, PID, start, dur, args)

    def call(self, name: str, start: int, dur: int, *, arrow: bool = True) -> int:
        """A runtime call."""
        self.correlation += 1
        args = f'"External id": {self.number}, "cbid": 211, "correlation": {self.correlation}'
        self.event("gpu", "cuda_runtime", name, PID, PID, start, dur, args)
        if arrow:
            self.flow("s", PID, PID, start, self.correlation)
        return self.correlation

    def gpu(self, name: str, kind: str, us: float, launched: int, correlation: int, *, size: int = 0) -> int:
        """A kernel or copy on its stream; the answer is its end."""
        dur = max(200, int(us * 1000 * self.dice.lognormvariate(0, 0.08)))
        stream = 17 if kind == "collective" and not self.wish.graph else 7
        start = max((self.collective if stream == 17 else self.compute) + 300, launched + 1800)
        if stream == 17:
            start = max(start, self.compute + 900)
        end = start + dur
        if stream == 17:
            self.collective = end
            if self.dice.random() < 0.67:  # two of three reductions are waited for, the third overlaps what follows
                self.compute = max(self.compute, end + 600)
        else:
            self.compute = end
        cat = "gpu_memcpy" if name.startswith("Memcpy") else "kernel"
        args = gpu_args(cat, kind, self.number, stream, correlation, size or len(name))
        self.event("gpu", cat, name, 0, stream, start, dur, args)
        self.flow("f", 0, stream, start, correlation)
        truth = self.truth
        truth.start.append(start)
        truth.end.append(end)
        truth.kind.append(kind)
        truth.kind_ns[kind] = truth.kind_ns.get(kind, 0) + dur
        return end

    def eager(self, kernel: str, kind: str, us: float, ops: tuple[str, ...], frame: str) -> None:
        """One framework call: frames around operators around a launch."""
        begin, pace = self.cpu, self.dice.randint(350, 900)
        total = 4000 + pace * (len(ops) + 6) * 2 if self.wish.stack else 0
        at = begin + 1500
        if self.wish.stack:
            self.frame(f"vllm/{frame}", begin, total)
            for depth, inner in enumerate(INNER_FRAMES):
                self.frame(inner, begin + 200 * (depth + 1), max(150, total - 400 * (depth + 1)))
            at = begin + 2500
        for depth, name in enumerate(ops):
            self.op(name, at + depth * pace, pace * (2 * (len(ops) - depth) + 3))
        launch = at + len(ops) * pace
        name = "cuLaunchKernelEx" if "nvjet" in kernel or "nccl" in kernel else "cudaLaunchKernel"
        self.gpu(kernel, kind, us, launch, self.call(name, launch, 2200 + self.dice.randint(0, 900)))
        self.cpu = max(launch + 3500, begin + total) + self.dice.randint(200, 1200)

    def step(self, index: int, *, prefill: bool) -> None:
        """One engine step with vLLM's phases."""
        stall, copy, slow = self.wish.planted
        begin, first = self.cpu, len(self.truth.start)
        requests, tokens = (self.dice.randint(1, 4), self.dice.randint(512, 4096)) if prefill else (0, 0)
        running = self.dice.randint(8, 64)
        for _ in range(4):
            self.op("aten::copy_", self.cpu, 9000)
            correlation = self.call("cudaMemcpyAsync", self.cpu + 1500, 4200)
            self.gpu(H2D, "memcpy_h2d", 1.3, self.cpu + 1500, correlation, size=running * 8)
            self.cpu += 14_000
        if index == stall:
            self.cpu += 45_000_000
        self.op("gpu_model_runner: preprocess", begin, self.cpu - begin, "user_annotation")
        self._forward(tokens, prefill=prefill, slow=index == slow)
        sampled = self.cpu
        for kernel, name, us in SAMPLING:
            self.eager(kernel, "sampling", us, (name,), "v1/sample/sampler.py(68): forward")
        self.op("gpu_model_runner: sample", sampled, self.cpu - sampled, "user_annotation")
        self._output(running, large=index == copy)
        name = f"execute_context_{requests}({tokens})_generation_{running}({running})"
        self.op(name, begin, self.cpu - begin, "user_annotation")
        low, high = self.truth.start[first], self.truth.end[-1]
        self.event("ranges", "gpu_user_annotation", name, 0, 7, low, high - low, f'"External id": {self.number}')
        self.truth.steps.append((name, begin))
        self.cpu += self.dice.randint(20_000, 400_000)

    def _forward(self, tokens: int, *, prefill: bool, slow: bool) -> None:
        begin = self.cpu
        replay = self.wish.graph and not prefill
        correlation = self.call("cudaGraphLaunch", begin, 90_000) if replay else 0
        for layer in range(self.wish.layers):
            for kernel, kind, long, short, ops, frame in LAYER:
                us = (
                    long * tokens / 2048
                    if prefill
                    else short * (50 if slow and layer == 7 and kind == "attention" else 1)
                )
                if replay:
                    self.gpu(kernel, kind, us, begin, correlation)
                else:
                    self.eager(kernel, kind, us, ops, frame)
        if replay:
            self.cpu += 110_000
        self.op("gpu_model_runner: forward", begin, self.cpu - begin, "user_annotation")

    def _output(self, running: int, *, large: bool) -> None:
        begin = self.cpu
        if large:
            self.op("aten::copy_", self.cpu, 60_000_000)
            launch = self.cpu + 1500
            self.correlation += 1
            end = self.gpu(D2H, "memcpy_d2h", 54_000, launch, self.correlation, size=268_435_456)
            self.correlation -= 1
            self.call("cudaMemcpyAsync", launch, end + 40_000 - launch)
            self.truth.blocked_ns += end + 40_000 - launch
            self.cpu = end + 50_000
        correlation = self.call("cudaMemcpyAsync", self.cpu, 500)
        end = self.gpu("Memcpy DtoH (Device -> Pinned)", "memcpy_d2h", 1.5, self.cpu, correlation, size=running * 8)
        self.cpu += 600
        wait = max(1500, end + 4000 - self.cpu)
        self.call("cudaStreamSynchronize", self.cpu, wait, arrow=False)
        self.truth.blocked_ns += wait
        self.cpu += wait
        self.op("gpu_model_runner: bookkeep", begin, self.cpu - begin, "user_annotation")
        self.cpu += 150_000 + self.dice.randint(0, 250_000)

    def idle_loop(self) -> None:
        """A CPU server that waits: nearly nothing but frames of the loop that polls for work."""
        if self.dice.random() < 0.02:
            self.op(f"aten::op{self.dice.randint(0, 9)}", self.cpu, 9000)
        for depth in range(40):
            self.frame(INNER_FRAMES[depth % 5], self.cpu + depth * 200, 20_000 - depth * 400)
        self.cpu += 25_000


def make(path: Path, wish: Wish) -> dict[str, object]:
    """Write the trace and its truth; the answer is the truth."""
    folder = Path(tempfile.mkdtemp(dir=path.parent))
    try:
        maker = Maker(wish, folder)
        index = 0
        while maker.size < wish.megabytes * 1e6:
            if wish.cpu_only:
                maker.idle_loop()
            else:
                maker.step(index, prefill=index % 12 == 0)
            index += 1
        for file in maker.files.values():
            file.close()
        _join(path, wish, folder)
    finally:
        shutil.rmtree(folder)
    truth = summary(maker.truth) | {"planted": dict(zip(("stall", "copy", "slow_kernel"), wish.planted, strict=True))}
    name = path.name.removesuffix(".gz").removesuffix(".json")
    path.with_name(f"{name}.truth.json").write_text(json.dumps(truth, indent=1))
    return truth


def _join(path: Path, wish: Wish, folder: Path) -> None:
    with gzip.open(path, "wb", 6) if path.suffix == ".gz" else path.open("wb") as out:
        out.write(header(wish.stack, wish.tp).encode())
        for name in ("cpu", "python", "gpu", "ranges"):
            with (folder / name).open("rb") as part:
                shutil.copyfileobj(part, out, 1 << 20)
        out.write(TAIL.encode())


def summary(truth: Truth) -> dict[str, object]:
    """Plain loops over what was written."""
    kinds, rows = truth.kind, list(zip(truth.start, truth.end, strict=True))
    memory = [k.startswith("memcpy") for k in kinds]
    collective = [r for r, k in zip(rows, kinds, strict=True) if k == "collective"]
    compute = [r for r, k, m in zip(rows, kinds, memory, strict=True) if k != "collective" and not m]
    span = (max(truth.end) - min(truth.start)) if rows else 0
    busy = covered(rows)
    hidden = covered(collective) + covered(compute) - covered(collective + compute)
    return {
        "events": truth.events,
        "gpu_events": len(rows),
        "span_ns": span,
        "busy_ns": busy,
        "idle_share": 1 - busy / span if span else None,
        "kind_ns": truth.kind_ns,
        "overlap_share": hidden / covered(collective) if collective else None,
        "blocked_ns": truth.blocked_ns,
        "steps": len(truth.steps),
        "step_starts": [start - truth.steps[0][1] for _, start in truth.steps],
    }


def covered(rows: list[tuple[int, int]]) -> int:
    """Length of the union."""
    total, reach = 0, -1
    for start, end in sorted(rows):
        if end > reach:
            total, reach = total + end - max(start, reach), end
    return total


def main() -> None:
    """Make one trace."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--mb", type=float, default=50)
    parser.add_argument("--layout", choices=("multi", "single"), default="multi")
    parser.add_argument("--no-stack", action="store_true")
    parser.add_argument("--graph", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    wish = Wish(asked.mb, asked.layout, not asked.no_stack, asked.graph, asked.cpu, seed=asked.seed)
    truth = make(asked.out, wish)
    print(json.dumps({key: value for key, value in truth.items() if key != "step_starts"}))


if __name__ == "__main__":
    main()
