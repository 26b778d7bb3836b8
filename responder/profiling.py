"""May this server be profiled, with which bounds - and if not, what must be added to its launch options?

`POST /start_profile` is harmless or an outage of 45 to 260 s depending on how the server was launched. What the options
cost was measured: stacks (all of an idle worker's spinning is recorded), no bound on iterations, a front end that is
recorded from start to stop, and a summary table over too many events. So each of these is a refusal with the option.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from responder.launchargs import number, options_of, profiler_options, truth, word

SAFE_ITERATIONS = 8
MOST_ITERATIONS = 20
"""5 and 20 iterations stopped in 0.2 s, 50 took a minute on a busy host, 100 took 8 s on an idle one."""
MOST_DELAY = 200
BODY_SINCE = (0, 32)
"""From here on the request may bound a profile; older versions ignore the body, answer 200 and profile without end."""
REPEAT_SAFE_SINCE = (0, 32)
CONFIG_SINCE = (0, 13)
LEAST_TIMEOUT_S = 60.0
"""The end of a bounded profile runs inside a model step: a short time-out on steps kills the engine there."""
HEADROOM_BYTES = 2 << 30
SAFE_OPTIONS = (
    '--profiler-config \'{"profiler":"torch","torch_profiler_dir":"/tmp/vllm-traces","torch_profiler_with_stack":false,'
    f'"ignore_frontend":true,"max_iterations":{SAFE_ITERATIONS},"torch_profiler_dump_cuda_time_total":false}}\''
)
SAFE_ENVIRONMENT = (
    "VLLM_TORCH_PROFILER_DIR=/tmp/vllm-traces VLLM_TORCH_PROFILER_WITH_STACK=0 "
    f"VLLM_TORCH_PROFILER_DISABLE_ASYNC_LLM=1 VLLM_PROFILER_MAX_ITERS={SAFE_ITERATIONS}"
)


@dataclass(frozen=True)
class Surroundings:
    """What the preflight knows; None: not known."""

    version: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    """Of the profiler, by the names of --profiler-config."""
    options_complete: bool = False
    """Whether an option not seen is an option not set."""
    execute_timeout_s: float | None = None
    cpu_only: bool | None = None
    session_open: bool | None = None
    """Whether the log shows a profile that somebody began and has not ended."""
    memory_available: int | None = None
    load_per_core: float | None = None
    load_limit: float = 1.5
    running: float | None = None
    progress: bool | None = None
    """Whether the engine makes steps."""
    may_send: bool = True
    """Whether requests of our own may keep an idle engine going."""


@dataclass(frozen=True)
class ProfilePlan:
    """How to profile, or why not."""

    refused: str = ""
    body: Mapping[str, int | str] = field(default_factory=dict)
    """For /start_profile; empty: the version ignores one."""
    iterations: int = 0
    """Steps that will be recorded."""
    steps_until_done: int = 0
    directory: str = ""
    repeat_safe: bool = False
    idle: bool = False
    """The engine has nothing to do: without requests of ours no step would ever be recorded."""


def plan_profile(around: Surroundings) -> ProfilePlan:
    """The plan, or the first reason against it, hardest first."""
    version = version_of(around.version)
    refused = _by_options(around, version) or _by_state(around)
    if refused:
        return ProfilePlan(refused=refused)
    options = around.options
    configured = int(number(options.get("max_iterations")) or 0)
    bounded_by_body = version >= BODY_SINCE
    iterations = min(configured or SAFE_ITERATIONS, SAFE_ITERATIONS) if bounded_by_body else configured
    waits = sum(int(number(options.get(name)) or 0) for name in ("delay_iterations", "warmup_iterations",
                                                                 "wait_iterations"))  # fmt: skip
    return ProfilePlan(
        body={"max_iterations": iterations} if bounded_by_body else {},
        iterations=iterations,
        steps_until_done=iterations + waits,
        directory=options.get("torch_profiler_dir", ""),
        repeat_safe=version >= REPEAT_SAFE_SINCE,
        idle=around.running == 0,
    )


def options_from(command: tuple[str, ...], log_arguments: Mapping[str, str], environment: Mapping[str, str],
                 version: str | None) -> dict[str, str]:  # fmt: skip
    """The profiler's options as the server got them: flags, else what the log printed, else (before 0.16) variables."""
    found = profiler_options(options_of(command)) or profiler_options(log_arguments)
    if found or not environment.get("VLLM_TORCH_PROFILER_DIR") or version_of(version) >= (0, 16):
        return found
    names = {
        "torch_profiler_dir": "VLLM_TORCH_PROFILER_DIR",
        "torch_profiler_with_stack": "VLLM_TORCH_PROFILER_WITH_STACK",
        "torch_profiler_with_memory": "VLLM_TORCH_PROFILER_WITH_PROFILE_MEMORY",
        "ignore_frontend": "VLLM_TORCH_PROFILER_DISABLE_ASYNC_LLM",
        "max_iterations": "VLLM_PROFILER_MAX_ITERS",
        "delay_iterations": "VLLM_PROFILER_DELAY_ITERS",
        "torch_profiler_dump_cuda_time_total": "VLLM_TORCH_PROFILER_DUMP_CUDA_TIME_TOTAL",
    }
    return {"profiler": "torch"} | {k: environment[v] for k, v in names.items() if v in environment}


def version_of(text: str | None) -> tuple[int, ...]:
    """0.32.1+cpu -> (0, 32, 1); () when unknown, which is older than everything."""
    return tuple(int(part) for part in re.findall(r"\d+", (text or "").split("+")[0])[:3])


def _by_options(around: Surroundings, version: tuple[int, ...]) -> str:
    options = around.options
    kind = word(options.get("profiler")) if options else None
    add = SAFE_OPTIONS if not version or version >= CONFIG_SINCE else SAFE_ENVIRONMENT
    if not options:
        if not around.options_complete:
            return "it is not known how the server was launched (set `log_file:`, or run on its host)"
        return f"the server was launched without a profiler; to allow it add {add}"
    if kind != "torch":
        return f"the server's profiler is {kind}, which writes no trace by itself; for a torch trace launch with {add}"
    if not version:
        return "the server's version is not known, and with it whether a profile can be bounded"
    if truth(options.get("torch_profiler_with_stack", "True")) is not False:
        return "it would record Python stacks, which has stopped servers for 45 s and more; add " + _one(
            version, "torch_profiler_with_stack", "false", "VLLM_TORCH_PROFILER_WITH_STACK=0")  # fmt: skip
    if truth(options.get("ignore_frontend", "False")) is not True:
        return "the front end would be recorded without a bound; add " + _one(
            version, "ignore_frontend", "true", "VLLM_TORCH_PROFILER_DISABLE_ASYNC_LLM=1")  # fmt: skip
    if truth(options.get("torch_profiler_with_memory", "False")):
        return "it would record every allocation; remove torch_profiler_with_memory"
    return _by_bounds(around, version)


def _by_bounds(around: Surroundings, version: tuple[int, ...]) -> str:
    options = around.options
    bound = int(number(options.get("max_iterations")) or 0)
    if version < BODY_SINCE and not 0 < bound <= MOST_ITERATIONS:
        said = f"{bound} iterations are too many" if bound else "nothing would end the profile"
        return f"{said}, and vLLM before 0.32 takes no bound with the request; add " + _one(
            version, "max_iterations", str(SAFE_ITERATIONS), f"VLLM_PROFILER_MAX_ITERS={SAFE_ITERATIONS}")  # fmt: skip
    if int(number(options.get("delay_iterations")) or 0) > MOST_DELAY:
        return f"it would wait for more than {MOST_DELAY} steps before it records; lower delay_iterations"
    table = truth(options.get("torch_profiler_dump_cuda_time_total", "True")) is not False
    if table and not around.cpu_only and bound > SAFE_ITERATIONS and version < BODY_SINCE:
        return "the summary table over so many steps would hold up the engine; add " + _one(
            version, "torch_profiler_dump_cuda_time_total", "false", "VLLM_TORCH_PROFILER_DUMP_CUDA_TIME_TOTAL=0"
        )
    if around.execute_timeout_s is not None and around.execute_timeout_s < LEAST_TIMEOUT_S:
        return (
            f"the engine gives up a step after {around.execute_timeout_s:g} s, and a profile ends inside one; "
            f"set VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS to {LEAST_TIMEOUT_S:g} or more"
        )
    return ""


def _by_state(around: Surroundings) -> str:
    if around.session_open:
        return "somebody else's profile is open on this server (its log says so): never touched"
    if around.progress is False and around.running:
        return "the engine makes no step: a profile asked for now would begin whenever it wakes"
    if around.running == 0 and not around.may_send:
        return "the engine is idle, where no bound on steps ends a profile, and requests of our own are switched off"
    if around.running is None:
        return "whether the engine has work is not known (/metrics did not answer)"
    if around.memory_available is not None and around.memory_available < HEADROOM_BYTES:
        left = around.memory_available / (1 << 30)
        return f"{left:.1f} GiB of host memory are left; a profile needs {HEADROOM_BYTES >> 30}"
    if around.load_per_core is not None and around.load_per_core > around.load_limit:
        return (
            f"the host's load is {around.load_per_core:.1f} per core (limit {around.load_limit:g}): there the end of a "
            "profile has taken a minute"
        )
    return ""


def _one(version: tuple[int, ...], option: str, value: str, variable: str) -> str:
    return f"--profiler-config.{option} {value}" if version >= CONFIG_SINCE else variable
