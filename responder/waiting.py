"""What does this stack wait for? Pure: the text of a py-spy dump in, a category per thread and process out.

One table, to be reviewed as a whole. It names functions of vLLM 0.6 to 0.32, torch and Python whose presence on a stack
says what everything inside of them waits for. It is walked from the innermost frame outwards, so the most specific
place decides; what only says *how* one waits (a poll, a lock) is asked last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

CATEGORIES = (
    "worker_response", "engine_output", "new_requests", "gpu", "collective", "network", "lock", "tokenizer", "profiler",
    "disk", "python", "stopped", "unknown",
)  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """One Python frame: function (qualified where py-spy knows it) and file as py-spy shortens it."""

    function: str
    file: str
    line: int = 0

    @property
    def is_python(self) -> bool:
        """Not a native frame (`--native` dumps mix them in)."""
        return self.file.endswith(".py") or self.file.startswith("<")


@dataclass(frozen=True)
class Thread:
    """One thread of a dump, innermost frame first."""

    tid: int
    name: str
    active: bool
    """On a CPU or about to be, rather than asleep in a system call."""
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class Dump:
    """One process as py-spy saw it."""

    pid: int
    threads: tuple[Thread, ...]

    @property
    def main(self) -> Thread | None:
        named = [thread for thread in self.threads if thread.name == "MainThread" or thread.tid == self.pid]
        return named[0] if named else next(iter(self.threads), None)


@dataclass(frozen=True)
class Waits:
    """What a stack waits for, and the frame that says so (index into the stack)."""

    category: str
    at: int = 0
    says: str = ""


@dataclass(frozen=True)
class Place:
    """A row of the table: a frame whose function and file match says `category`.

    Functions and files are words separated by spaces, `*` stands for anything within a name; a function is compared
    without its class, a file by how its path ends or goes on.
    """

    category: str
    functions: str
    files: str
    says: str
    inside: str = ""
    """If set: only when a frame further in has one of these functions."""


ABOVE_ALL = (
    Place("profiler",
          "stop export_chrome_trace export_stacks export_memory_timeline key_averages *stop_trace *start_trace "
          "*prepare_trace *transit_action table *build_table step", "torch/profiler/ torch/autograd/profiler",
          "starts, stops or writes a profile"),
    Place("profiler", "stop *_stop start *_start shutdown *export*", "vllm/profiler/",
          "starts, stops or writes a profile"),
    Place("profiler", "profile start_profile stop_profile",
          "vllm/v1/worker/ vllm/worker/ vllm/v1/engine/ vllm/engine/ vllm/v1/executor/ vllm/executor/",
          "starts or stops a profile"),
    Place("new_requests", "*get_worker_input_from_broadcast", "vllm/worker/",
          "V0 worker: waits for the next step's input"),
)  # fmt: skip
"""Decides wherever it stands on the stack: whatever goes on inside belongs to it."""

PLACES = (
    # a host thread that waits for a kernel or a copy to end
    Place("gpu", "synchronize wait_event wait_stream",
          "torch/cuda/ torch/xpu/ torch/accelerator/ torch/mps/ torch_npu/", "waits for work on the GPU to end"),
    Place("gpu",
          "cuEventSynchronize cuStreamSynchronize cuCtxSynchronize cudaEventSynchronize cudaStreamSynchronize "
          "cudaDeviceSynchronize", "libcuda* libcudart*", "waits for work on the GPU to end"),
    Place("gpu", "get_output", "vllm/v1/worker/", "waits for a step's output to come from the GPU"),
    Place("gpu", "_to_list _bookkeeping_sync _sync_device synchronize_input_prep", "vllm/v1/worker/",
          "waits for sampled tokens from the GPU"),
    Place("gpu", "capture_model capture *_capture_cudagraphs", "vllm/v1/worker/ vllm/worker/ torch/cuda/graphs",
          "captures CUDA graphs"),
    # ranks that wait for each other
    Place("collective", "nccl* pnccl*", "*pynccl* libnccl*", "is in an NCCL call"),
    Place("collective",
          "*all_reduce* allreduce *all_gather* *reduce_scatter* *broadcast* *barrier *gather *scatter send* "
          "recv* isend* irecv* *all_to_all* *all2all* dispatch combine",
          "vllm/distributed/parallel_state vllm/distributed/communication_op vllm/distributed/utils "
          "device_communicators/pynccl* device_communicators/custom_* device_communicators/quick_* "
          "device_communicators/symm_* device_communicators/*_communicator* device_communicators/all2all* "
          "device_communicators/flashinfer*", "is in a collective operation"),
    Place("collective",
          "*all_reduce* *all_gather* *reduce_scatter* *broadcast* *barrier* send recv isend irecv *all_to_all* "
          "*gather* *scatter* reduce wait init_process_group *new_group* _new_process_group_helper",
          "torch/distributed/", "is in a collective operation"),
    # one process of the server that waits for another
    Place("worker_response", "get_response *wait_for_response _get_response aggregate", "vllm/v1/executor/",
          "waits for the workers' answer"),
    Place("worker_response",
          "collective_rpc execute_model sample_tokens _run_workers _driver_execute_model get_output "
          "check_health take_draft_token_ids", "executor/multiproc* executor/mp_* executor/ray* executor/abstract*",
          "waits for the workers' answer"),
    Place("worker_response", "get wait",
          "ray/_private/worker ray/dag/ ray/experimental/channel vllm/executor/multiproc_worker_utils",
          "waits for a worker's answer", inside="get wait poll recv* acquire"),
    Place("engine_output", "get_output *call_utility *wait_for_engine* _send_input",
          "vllm/v1/engine/core_client vllm/v1/engine/utils vllm/engine/multiprocessing/client",
          "waits for the engine"),
    # nothing to do, each in its own way
    Place("new_requests", "_process_input_queue *wait_for_new_requests *wait_for_requests", "vllm/v1/engine/",
          "has nothing to do: waits for requests"),
    Place("new_requests", "run_engine_loop", "vllm/engine/multiprocessing/", "has nothing to do: waits for requests",
          inside="poll"),
    # CPU work in front of the engine
    Place("tokenizer", "*", "tokenizers/ tiktoken/ sentencepiece/ mistral_common/ jinja2/",
          "tokenizes or fills a template"),
    Place("tokenizer", "*encode* *decode* __call__ _call_one *chat_template* tokenize convert_*",
          "transformers/tokenization* transformers/processing* transformers/utils/chat_template*", "tokenizes"),
    Place("tokenizer", "*tokenize* *encode* *decode* *chat_template* render* convert_* update",
          "vllm/inputs/preprocess vllm/transformers_utils/tokenizer* vllm/transformers_utils/detokenizer* "
          "vllm/tokenizers/ vllm/renderers/ vllm/v1/engine/detokenizer", "tokenizes or detokenizes"),
    # files
    Place("disk", "load_file safe_open get_tensor load _load save fsync flush emit write",
          "safetensors/ torch/serialization torch/storage logging/__init__ gzip. shutil. tempfile.",
          "reads or writes a file (a full pipe or disk blocks here)"),
    Place("disk", "*weights_iterator download_weights* load_weights load_model", "vllm/model_executor/",
          "loads weights"),
    # at work
    Place("python", "execute_model sample_tokens _dummy_run profile_run forward",
          "vllm/v1/worker/ vllm/worker/ vllm/model_executor/", "runs a model step"),
    Place("python", "schedule update_from_output postprocess step* process_outputs _handle_client_request",
          "vllm/v1/core/ vllm/core/ vllm/v1/engine/ vllm/engine/", "does the engine's own work"),
    # the loops around everything
    Place("new_requests", "worker_busy_loop", "vllm/v1/executor/", "waits for the engine's next message",
          inside="dequeue acquire_read"),
    Place("new_requests", "_run_worker_process start_worker_execution_loop", "vllm/", "waits for the next task",
          inside="get recv* dequeue poll wait"),
    Place("python", "worker_busy_loop", "vllm/v1/executor/", "handles a message of the engine"),
)  # fmt: skip

HOW = (
    Place("network", "*poll *recv* *select accept getresponse readinto read_into connect _run_once",
          "zmq/ selectors. socket. ssl. multiprocessing/connection http/client urllib3/ asyncio/ httpx/ "
          "httpcore/ anyio/", "waits for a socket or a pipe"),
    Place("network", "run run_until_complete run_forever _run_once", "asyncio/ uvloop/",
          "event loop: waits for sockets"),
    Place("lock", "acquire* wait join _wait_for_tstate_lock result get put __enter__ _worker",
          "threading. queue. concurrent/futures/ multiprocessing/synchronize multiprocessing/queues "
          "multiprocessing/popen* multiprocessing/process subprocess. filelock/",
          "waits for a lock, a queue or a thread"),
    Place("lock", "dequeue enqueue acquire_read acquire_write", "*shm_broadcast", "waits for a shared-memory queue"),
)  # fmt: skip
"""How a sleeping thread waits when nothing above says what for; only its innermost Python frames are asked."""
INNERMOST = 4


@dataclass(frozen=True)
class _Row:
    place: Place
    function: re.Pattern[str]
    file: re.Pattern[str]
    inside: re.Pattern[str] | None


def _compile(place: Place) -> _Row:
    def words(text: str, anything: str) -> str:
        return "|".join(re.escape(word).replace(r"\*", anything) for word in text.split())

    function = re.compile(rf"(?:.*\.)?(?:{words(place.functions, r'[^.]*')})")
    file = re.compile(rf"(?:^|/)(?:{words(place.files, r'[^/]*')})")
    inside = re.compile(rf"(?:.*\.)?(?:{words(place.inside, r'[^.]*')})") if place.inside else None
    return _Row(place, function, file, inside)


_ABOVE_ALL, _PLACES, _HOW = (tuple(map(_compile, table)) for table in (ABOVE_ALL, PLACES, HOW))


def classify(thread: Thread) -> Waits:
    """What one thread waits for."""
    for rows in (_ABOVE_ALL, _PLACES):
        for at, frame in enumerate(thread.frames):
            for row in rows:
                if _matches(row, frame) and _has(thread.frames[:at], row.inside):
                    return Waits(row.place.category, at, row.place.says)
    python = [at for at, frame in enumerate(thread.frames) if frame.is_python][:INNERMOST]
    if python and thread.active and not _is_loop(thread.frames[python[0]]):
        return Waits("python", 0, "runs Python code")
    for at in python:
        for row in _HOW:
            if _matches(row, thread.frames[at]):
                return Waits(row.place.category, at, row.place.says)
    return Waits("unknown", 0, "" if thread.frames else "no Python on the stack: the process is starting or ending")


def _matches(row: _Row, frame: Frame) -> bool:
    return bool(row.function.fullmatch(frame.function) and row.file.search(frame.file))


def _has(frames: Iterable[Frame], inside: re.Pattern[str] | None) -> bool:
    return inside is None or any(inside.fullmatch(frame.function) for frame in frames)


def _is_loop(frame: Frame) -> bool:
    """The event loop itself on the CPU, between two callbacks or in uvloop's C code."""
    return frame.file.startswith(("asyncio/", "uvloop/"))


def process_waits(dump: Dump) -> Waits:
    """What a process waits for: its main thread, unless that merely waits while a thread of its own stands at the GPU,
    in a collective or in a profiler (with asynchronous scheduling Python's main thread has long moved on)."""
    if dump.main is None:
        return Waits("unknown")
    main = classify(dump.main)
    others = [classify(thread) for thread in dump.threads if thread is not dump.main]
    for decisive in ("profiler", "gpu", "collective"):
        if main.category == decisive:
            return main
        passive = ("new_requests", "lock", "network", "unknown", "worker_response")
        if main.category in passive or decisive == "profiler":
            for waits in others:
                if waits.category == decisive:
                    return waits
    return main


def same_place(before: Dump, after: Dump) -> bool:
    """Whether a process stands where it stood: same calls down to what it waits for (how it polls there may differ)."""
    if before.main is None or after.main is None:
        return False
    first, second = process_waits(before), process_waits(after)
    return first.category == second.category and _path(before.main) == _path(after.main)


def _path(thread: Thread) -> tuple[tuple[str, str], ...]:
    waits = classify(thread)
    return tuple((frame.function, frame.file) for frame in thread.frames[waits.at :])


# ------------------------------------------------------------------------------------------------------ parsing

PROCESS = re.compile(r"^Process (\d+):", re.MULTILINE)
THREAD = re.compile(r'^Thread (?:0x)?([0-9A-Fa-f]+) \(([^)]*)\)(?:: "(.*)")?')
FRAME = re.compile(r"^\s+(.+) \(([^()]*?)(?::(\d+))?\)$")


def parse(text: str) -> Dump | None:
    """The dump of `py-spy dump`; None when there is no thread in it (an error message, an empty file)."""
    head = PROCESS.search(text)
    threads: list[Thread] = []
    for line in text.splitlines():
        if found := THREAD.match(line):
            state = found[2].split("+")[0].strip()
            tid = int(found[1], 10 if found[1].isdigit() else 16)
            threads.append(Thread(tid, found[3] or "", state == "active", ()))
        elif threads and (frame := FRAME.match(line)):
            last = threads[-1]
            seen = Frame(frame[1].strip(), frame[2], int(frame[3] or 0))
            threads[-1] = Thread(last.tid, last.name, last.active, (*last.frames, seen))
    return Dump(int(head[1]) if head else 0, tuple(threads)) if threads else None
