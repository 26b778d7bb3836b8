"""Real stacks, and the shapes of other versions, are put into the right category."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from responder.waiting import CATEGORIES, Dump, classify, parse, process_waits, same_place

DATA = Path(__file__).parent / "data" / "stacks"

REAL = {
    "hang_VLLM_EngineCore_885.txt": "worker_response",
    "hang_VLLM_Worker_TP0_992.txt": "gpu",
    "hang_APIServer.txt": "network",
    "hang_native_EngineCore.txt": "worker_response",
    "hang_native_Worker_TP0.txt": "gpu",
    "hang_native_APIServer.txt": "network",
    "busy_EngineCore_885--nonblocking.txt": "python",
    "busy_EngineCore_885.txt": "worker_response",
    "busy_Worker_TP0_992.txt": "python",
    "busy_Worker_TP1_993.txt": "collective",
    "busy_Worker_TP1_993--native.txt": "collective",
}


def dump(name: str) -> Dump:
    found = parse((DATA / name).read_text())
    assert found is not None
    return found


@pytest.mark.parametrize(("name", "category"), REAL.items())
def test_recorded_stacks(name: str, category: str) -> None:
    """Dumps of vLLM 0.26 on two H200s: rank 1 stopped (hang), and under load (busy)."""
    assert process_waits(dump(name)).category == category


def test_worker_that_waits_for_the_gpu_in_another_thread() -> None:
    """With asynchronous scheduling the main thread has moved on; only the output thread stands at the GPU."""
    worker = dump("hang_VLLM_Worker_TP0_992.txt")
    assert worker.main is not None
    assert classify(worker.main).category == "new_requests"
    assert {thread.name: classify(thread).category for thread in worker.threads}["WorkerAsyncOutputCopy"] == "gpu"


def test_failed_dump_is_no_dump() -> None:
    """py-spy's complaint about a torn stack is not taken for a process without threads."""
    assert parse((DATA / "busy_Worker_TP0_992--nonblocking.txt").read_text()) is None
    assert parse("") is None


def stack(*frames: str, state: str = "idle", name: str = "MainThread") -> str:
    lines = "".join(f"    {frame}\n" for frame in frames)
    return f'Process 7: x\nPython v3.12.3 (/usr/bin/python3.12)\n\nThread 7 ({state}): "{name}"\n{lines}'


SHAPES = {
    # engines
    ("new_requests", "idle engine"): [
        "wait (threading.py:355)",
        "get (queue.py:171)",
        "_process_input_queue (vllm/v1/engine/core.py:800)",
        "run_busy_loop (vllm/v1/engine/core.py:780)",
    ],
    ("worker_response", "0.8 engine"): [
        "acquire_read (vllm/distributed/device_communicators/shm_broadcast.py:420)",
        "dequeue (vllm/distributed/device_communicators/shm_broadcast.py:460)",
        "collective_rpc (vllm/v1/executor/multiproc_executor.py:170)",
        "execute_model (vllm/v1/executor/multiproc_executor.py:149)",
        "step (vllm/v1/engine/core.py:210)",
    ],
    ("worker_response", "Ray executor"): [
        "wait (threading.py:355)",
        "get (ray/_private/worker.py:2700)",
        "execute_model (vllm/v1/executor/ray_distributed_executor.py:60)",
        "step (vllm/v1/engine/core.py:210)",
    ],
    ("gpu", "engine without workers"): [
        "synchronize (torch/cuda/streams.py:231)",
        "_to_list (vllm/v1/worker/gpu_model_runner.py:4000)",
        "sample_tokens (vllm/v1/worker/gpu_model_runner.py:2700)",
        "sample_tokens (vllm/v1/executor/uniproc_executor.py:90)",
        "step (vllm/v1/engine/core.py:400)",
    ],
    ("profiler", "stop_profile in a worker"): [
        "_build_table (torch/autograd/profiler_util.py:900)",
        "key_averages (torch/autograd/profiler.py:520)",
        "stop (vllm/profiler/wrapper.py:80)",
        "profile (vllm/v1/worker/gpu_worker.py:800)",
        "worker_busy_loop (vllm/v1/executor/multiproc_executor.py:999)",
    ],
    ("profiler", "engine during stop_profile"): [
        "poll (zmq/sugar/poll.py:106)",
        "dequeue (vllm/distributed/device_communicators/shm_broadcast.py:779)",
        "collective_rpc.<locals>.get_response (vllm/v1/executor/multiproc_executor.py:390)",
        "collective_rpc (vllm/v1/executor/multiproc_executor.py:400)",
        "profile (vllm/v1/executor/abstract.py:200)",
        "profile (vllm/v1/engine/core.py:600)",
    ],
    ("new_requests", "V0 engine"): [
        "poll (zmq/sugar/socket.py:1)",
        "run_engine_loop (vllm/engine/multiprocessing/engine.py:190)",
        "start (vllm/engine/multiprocessing/engine.py:150)",
    ],
    # workers
    ("new_requests", "idle worker"): [
        "dequeue (vllm/distributed/device_communicators/shm_broadcast.py:460)",
        "worker_busy_loop (vllm/v1/executor/multiproc_executor.py:370)",
    ],
    ("new_requests", "V0 idle worker"): [
        "recv_bytes (multiprocessing/connection.py:216)",
        "get (multiprocessing/queues.py:103)",
        "_run_worker_process (vllm/executor/multiproc_worker_utils.py:200)",
    ],
    ("new_requests", "V0 worker between steps"): [
        "broadcast_object (vllm/distributed/parallel_state.py:400)",
        "broadcast_tensor_dict (vllm/distributed/communication_op.py:30)",
        "_get_worker_input_from_broadcast (vllm/worker/worker_base.py:280)",
        "start_worker_execution_loop (vllm/worker/worker_base.py:70)",
    ],
    ("collective", "CPU all-reduce"): [
        "all_reduce (vllm/distributed/device_communicators/cpu_communicator.py:140)",
        "forward (vllm/model_executor/layers/linear.py:1695)",
        "execute_model (vllm/v1/worker/cpu_model_runner.py:200)",
        "worker_busy_loop (vllm/v1/executor/multiproc_executor.py:999)",
    ],
    ("collective", "gloo"): [
        "barrier (torch/distributed/distributed_c10d.py:4600)",
        "execute_dummy_batch (vllm/v1/worker/gpu_worker.py:100)",
        "worker_busy_loop (vllm/v1/executor/multiproc_executor.py:999)",
    ],
    ("python", "model step"): [
        "silu (torch/nn/functional.py:1)",
        "forward (vllm/model_executor/models/llama.py:1)",
        "execute_model (vllm/v1/worker/gpu_model_runner.py:1)",
        "worker_busy_loop (vllm/v1/executor/multiproc_executor.py:999)",
    ],
    # front ends
    ("network", "uvloop idle"): ["run (asyncio/runners.py:118)", "run (uvloop/__init__.py:96)"],
    ("tokenizer", "tokenizing on the loop"): [
        "_batch_encode_plus (transformers/tokenization_utils_fast.py:530)",
        "_tokenize_prompt (vllm/inputs/preprocess.py:200)",
        "run (asyncio/runners.py:118)",
    ],
    ("tokenizer", "chat template"): ["render (jinja2/environment.py:1290)", "run (asyncio/runners.py:118)"],
    ("disk", "blocked log pipe"): [
        "flush (logging/__init__.py:1100)",
        "emit (logging/__init__.py:1113)",
        "info (logging/__init__.py:1489)",
        "foo (vllm/entrypoints/openai/api_server.py:1)",
    ],
    ("lock", "waits for a lock"): ["wait (threading.py:355)", "foo (bar.py:1)"],
    ("unknown", "nothing we know"): ["foo (bar.py:1)"],
}


@pytest.mark.parametrize(("key", "frames"), SHAPES.items(), ids=[name for _, name in SHAPES])
def test_shapes_of_other_versions(key: tuple[str, str], frames: list[str]) -> None:
    """Function and file names as they are in vLLM 0.6 to 0.32, torch and Ray."""
    found = parse(stack(*frames))
    assert found is not None
    assert process_waits(found).category == key[0]


def test_running_python_is_python_and_no_wait() -> None:
    """A thread on the CPU in code we do not know is at work, whatever it may have called before."""
    found = parse(stack("loop (my.py:1)", "get (queue.py:171)", state="active+gil"))
    assert found is not None
    assert process_waits(found).category == "python"


def test_same_place_forgives_how_one_waits() -> None:
    """Polling goes on while one waits; the place is the same. Another call is another place."""
    one = parse(stack("poll (zmq/sugar/poll.py:1)",
                      "dequeue (vllm/distributed/device_communicators/shm_broadcast.py:2)",
                      "worker_busy_loop (vllm/v1/executor/multiproc_executor.py:3)"))  # fmt: skip
    two = parse(stack("dequeue (vllm/distributed/device_communicators/shm_broadcast.py:9)",
                      "worker_busy_loop (vllm/v1/executor/multiproc_executor.py:3)"))  # fmt: skip
    other = parse(stack("execute_model (vllm/v1/worker/gpu_worker.py:3)",
                        "worker_busy_loop (vllm/v1/executor/multiproc_executor.py:3)"))  # fmt: skip
    assert one is not None
    assert two is not None
    assert other is not None
    assert same_place(one, two)
    assert not same_place(one, other)


@given(st.text(alphabet='Thread 0123456789abcdef()":.\n <>+/pyidle', max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_text_is_parsed_without_complaint(text: str) -> None:
    """py-spy's output may be cut anywhere, or be something else."""
    found = parse(text)
    if found:
        assert process_waits(found).category in CATEGORIES
