"""Which capture steps are there? One line each; a test notices a file that is not registered."""

from __future__ import annotations

from responder.capture import (
    canary,
    canary_compare,
    dcgm,
    endpoints,
    flame_graph,
    flight_recorder,
    gcore,
    gdb,
    gpu,
    infiniband,
    kernel,
    log_tail,
    metrics_window,
    nccl_log,
    nccl_ras,
    nsys,
    nvidia_smi,
    processes,
    request_traces,
    scrape,
    server_config,
    siblings,
    stacks,
    stacks_blocking,
    stacks_native,
    step_recorder,
    system,
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
        nvidia_smi.STEP,
        dcgm.STEP,
        system.STEP,
        infiniband.STEP,
        nccl_log.STEP,
        flight_recorder.STEP,
        nsys.STEP,
        stacks_blocking.STEP,
        stacks_native.STEP,
        flame_graph.STEP,
        gdb.STEP,
        gcore.STEP,
        canary_compare.STEP,
    )
}
