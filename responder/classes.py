"""Which classes of trouble and which causes are there? The canonical names that reports, playbooks and rules share."""

from __future__ import annotations

UNKNOWN = "unknown"
"""The hypothesis that no known cause fits; it always competes and needs no file."""

PRECEDENCE = (
    "hang_or_crash", "wrong_output", "high_ttft", "slow_decode", "low_throughput", "sporadic_slow", "unwatched",
)  # fmt: skip
"""All classes; of an incident with several, the first one here names it."""

CAUSES_OF: dict[str, tuple[str, ...]] = {
    "low_throughput": ("insufficient_load", "frontend_bottleneck", "scheduler_stall"),
    "slow_decode": (
        "kv_pressure_preemption",
        "batch_saturation",
        "slow_accelerator",
        "prefill_interference",
        "long_context_decode",
        "slow_kernel",
        "slow_collective",
        "speculation_ineffective",
    ),
    "high_ttft": (
        "capacity_exceeded",
        "prefix_cache_collapse",
        "long_prompt_blocking",
        "frontend_bottleneck",
        "routing_imbalance",
        "kv_pressure_preemption",
    ),
    "sporadic_slow": ("engine_stalls", "sporadic_preemption", "giant_prompt", "accelerator_jitter", "retry_upstream"),
    "wrong_output": (
        "nan_logits",
        "weights_mismatch",
        "cuda_graph_defect",
        "speculation_defect",
        "quantization_defect",
        "attention_backend_defect",
    ),
    "hang_or_crash": (
        "worker_hang",
        "collective_hang",
        "engine_hang",
        "engine_crash",
        "frontend_frozen",
        "gpu_fault",
    ),
    "unwatched": ("not_scraped",),
}
"""The causes each class must let compete. More may be listed by its playbook."""

CAUSES_OF_ANY_CLASS = ("client_abort_storm", "capture_in_progress", "server_restart")

CAUSES = tuple(sorted({cause for causes in CAUSES_OF.values() for cause in causes} | {*CAUSES_OF_ANY_CLASS}))
"""Every canonical cause but `unknown`. A cause of one's own refines one of these: `capacity_exceeded/one_tenant`."""


def canonical(cause: str) -> str:
    """The canonical cause that `cause` is or refines: the part before the slash."""
    return cause.partition("/")[0]
