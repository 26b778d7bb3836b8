"""Which servers may be profiled, with which bounds, and what the others are told to add."""

from __future__ import annotations

from dataclasses import replace

import pytest

from responder.profiling import HEADROOM_BYTES, Surroundings, options_from, plan_profile

SAFE = {"profiler": "torch", "torch_profiler_dir": "/t", "torch_profiler_with_stack": "False",
        "ignore_frontend": "True", "max_iterations": "5"}  # fmt: skip
GOOD = Surroundings(version="0.32.0", options=SAFE, options_complete=True, execute_timeout_s=300.0, session_open=False,
                    memory_available=HEADROOM_BYTES * 4, load_per_core=0.5, running=3.0, progress=True)  # fmt: skip


def without(name: str, **more: str) -> dict[str, str]:
    return {key: value for key, value in SAFE.items() if key != name} | more


def test_a_safely_launched_server_is_profiled_with_a_bound_in_the_request() -> None:
    """Since 0.32 the request carries the bound too; the launch bound is never exceeded."""
    plan = plan_profile(GOOD)
    assert (plan.refused, plan.body, plan.iterations, plan.directory) == ("", {"max_iterations": 5}, 5, "/t")
    assert plan.repeat_safe


def test_older_versions_get_no_body_and_must_be_bounded_by_their_launch() -> None:
    """0.26 ignores the body, answers 200 and profiles without end: measured, 45 s of outage."""
    plan = plan_profile(replace(GOOD, version="0.26.0"))
    assert (plan.refused, plan.body, plan.iterations, plan.repeat_safe) == ("", {}, 5, False)
    plan = plan_profile(replace(GOOD, version="0.26.0", options=without("max_iterations")))
    assert "add --profiler-config.max_iterations 8" in plan.refused


def test_since_0_32_the_request_bounds_an_unbounded_launch() -> None:
    """Eight steps, the figure that was measured to be harmless."""
    assert plan_profile(replace(GOOD, options=without("max_iterations"))).body == {"max_iterations": 8}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"options": without("torch_profiler_with_stack")}, "add --profiler-config.torch_profiler_with_stack false"),
        ({"options": without("ignore_frontend")}, "add --profiler-config.ignore_frontend true"),
        ({"options": SAFE | {"torch_profiler_with_memory": "True"}}, "remove torch_profiler_with_memory"),
        ({"options": SAFE | {"max_iterations": "100"}, "version": "0.30.0"}, "100 iterations are too many"),
        ({"options": SAFE | {"delay_iterations": "900"}}, "lower delay_iterations"),
        ({"options": SAFE | {"profiler": "cuda"}}, "profiler is cuda"),
        ({"options": {}}, "launched without a profiler; to allow it add --profiler-config"),
        ({"options": {}, "version": "0.11.0"}, "VLLM_TORCH_PROFILER_DIR="),
        ({"options": {}, "options_complete": False}, "not known how the server was launched"),
        ({"version": None}, "version is not known"),
        ({"execute_timeout_s": 3.0}, "gives up a step after 3 s"),
        ({"session_open": True}, "somebody else's profile"),
        ({"progress": False}, "makes no step"),
        ({"running": 0.0, "may_send": False}, "the engine is idle"),
        ({"running": None}, "not known"),
        ({"memory_available": 1 << 30}, "1.0 GiB of host memory"),
        ({"load_per_core": 9.0}, "load is 9.0 per core"),
    ],
)
def test_refusals_name_the_reason_and_the_option(change: dict[str, object], words: str) -> None:
    """A woken person reads what to add, not that something failed."""
    plan = plan_profile(replace(GOOD, **change))  # type: ignore[arg-type]
    assert words in plan.refused
    assert plan.body == {}


def test_an_idle_engine_is_profiled_with_requests_of_ours() -> None:
    """Only executed steps count towards the bound."""
    assert plan_profile(replace(GOOD, running=0.0, progress=False)).idle


def test_options_come_from_flags_then_log_then_old_variables() -> None:
    """Variables count only where vLLM still read them: before 0.16."""
    flags = ("vllm", "serve", "m", "--profiler-config.profiler", "torch", "--profiler-config.max_iterations", "4")
    env = {"VLLM_TORCH_PROFILER_DIR": "/t", "VLLM_TORCH_PROFILER_WITH_STACK": "0"}
    assert options_from(flags, {}, env, "0.15.0") == {"profiler": "torch", "max_iterations": "4"}
    assert options_from((), {"profiler_config": "ProfilerConfig(profiler='torch')"}, {}, "0.32.0") == {
        "profiler": "torch"}  # fmt: skip
    assert options_from((), {}, env, "0.12.0")["torch_profiler_with_stack"] == "0"
    assert options_from((), {}, env, "0.16.0") == {}
