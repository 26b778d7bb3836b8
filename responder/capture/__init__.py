"""Which capture steps are there? One line each; a test notices a file that is not registered."""

from __future__ import annotations

from responder.capture import (
    canary,
    canary_compare,
    endpoints,
    gpu,
    kernel,
    log_tail,
    metrics_window,
    nccl_ras,
    processes,
    request_traces,
    scrape,
    server_config,
    siblings,
    stacks,
    stacks_blocking,
    stacks_native,
    step_recorder,
    torch_profiler,
)
from responder.capture.step import Step

STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        metrics_window.STEP,
        scrape.STEP,
        endpoints.STEP,
        server_config.STEP,
        log_tail.STEP,
        processes.STEP,
        kernel.STEP,
        gpu.STEP,
        nccl_ras.STEP,
        siblings.STEP,
        request_traces.STEP,
        step_recorder.STEP,
        stacks.STEP,
        canary.STEP,
        torch_profiler.STEP,
        stacks_blocking.STEP,
        stacks_native.STEP,
        canary_compare.STEP,
    )
}
