"""Episodes with known truth, as facts: what the steps would say, and which cause is right.

`SERVER` is a healthy GPU server under load; an episode says only what differs. Numbers marked H200 are those of the
recordings; the others follow the fault's mechanism.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from responder.model import Incident, Scalar, Severity, Symptom

Facts = dict[str, Scalar]

_RATIOS = (
    "arrival_rate finish_rate generation_rate prompt_token_rate prompt_computed_rate iteration_rate "
    "tokens_per_iteration running prompt_tokens_mean prompt_tokens_p99 generation_tokens_mean prefill_time_mean "
    "itl_mean itl_p50 itl_p99 ttft_p99 e2e_p99 queue_time_p99"
)

SERVER: Facts = {
    **{f"metrics.{name}.ratio": 1.0 for name in _RATIOS.split()},
    "metrics.arrival_rate.baseline": 8.0,
    "metrics.arrival_rate.now": 8.0,
    "metrics.waiting.max": 0.0,
    "metrics.waiting.now": 0.0,
    "metrics.waiting_deferred.max": 0.0,
    "metrics.running.pinned": False,
    "metrics.kv_usage.max": 0.05,
    "metrics.preemption_rate.max": 0.0,
    "metrics.preemption_rate.now": 0.0,
    "metrics.prefix_hit_rate.baseline": 0.38,
    "metrics.prefix_hit_rate.now": 0.38,
    "metrics.prefix_hit_rate.ratio": 1.0,
    "metrics.prefix_hit_rate.change": 0.0,
    "metrics.itl_equal_batch_ratio": 1.0,
    "metrics.itl_with_prefill_ratio": 1.05,
    "metrics.unfinished_rate.change": 0.0,
    "metrics.unfinished_share.now": 0.0,
    "metrics.abort_rate.change": 0.0,
    "metrics.http_5xx_rate.now": 0.0,
    "metrics.http_5xx_rate.change": 0.0,
    "metrics.http_4xx_rate.now": 0.0,
    "metrics.http_4xx_rate.max": 0.0,
    "metrics.http_4xx_rate.change": 0.0,
    "metrics.http_4xx_share.now": 0.0,
    "metrics.repetition_rate.max": 0.0,
    "metrics.api_server_cpu.now": 0.3,
    "metrics.api_server_cpu.max": 0.4,
    "metrics.flat_s": 0.0,
    "metrics.flat_with_in_flight": False,
    "metrics.catch_up": False,
    "metrics.stalls": 0,
    "metrics.reset": False,
    "scrape.reachable": "ok",
    "scrape.seconds": 0.01,
    "scrape.tokens_moved": True,
    "endpoints.reachable": "ok",
    "endpoints.health_status": 200,
    "endpoints.health_seconds": 0.001,
    "endpoints.profiler_mounted": False,
    "endpoints.dev_mode": False,
    "config.tensor_parallel": 1,
    "config.pipeline_parallel": 1,
    "config.data_parallel": 1,
    "config.device": "cuda",
    "config.enforce_eager": False,
    "config.prefix_caching": True,
    "config.speculative": "none",
    "config.quantization": "none",
    "config.kv_cache_dtype": "auto",
    "config.profiler": "none",
    "log.found": True,
    "log.stats_kv_usage": 0.05,
    "log.engine_dead": False,
    "log.execute_timeout": False,
    "log.out_of_memory": False,
    "log.worker_died": False,
    "log.nccl_error": False,
    "log.cuda_error": False,
    "log.profiler_open": False,
    "log.graceful_shutdown": False,
    "log.shm_wait": False,
    "log.restarting": False,
    "log.nan": False,
    "processes.found": True,
    "processes.api_server_state": "S",
    "processes.engine_state": "S",
    "processes.stopped": 0,
    "processes.stopped_workers": 0,
    "processes.disk_sleep": 0,
    "processes.engine_missing": False,
    "processes.worker_missing": False,
    "processes.api_server_missing": False,
    "processes.api_server_cpu": 0.3,
    "processes.engine_cpu": 0.5,
    "processes.restarted": False,
    "processes.host_cpu_busy": 0.3,
    "processes.host_steal": 0.0,
    "kernel.readable": True,
    "kernel.oom_killed": False,
    "kernel.xid": 0,
    "kernel.xid_count": 0,
    "kernel.nvlink_errors": 0,
    "kernel.cgroup_oom_kills": 0,
    "kernel.cpu_throttled": 0.0,
    "gpu.count": 1,
    "gpu.util_max": 96.0,
    "gpu.util_min": 96.0,
    "gpu.mem_util_max": 40.0,
    "gpu.power_share_max": 0.77,
    "gpu.sm_clock_share_min": 0.99,
    "gpu.throttled": False,
    "gpu.ecc_uncorrected": 0,
    "gpu.spinning": 0,
    "gpu.idle": 0,
    "gpu.lost": 0,
    "gpu.driver_stuck": False,
    "gpu.nvlink_down": 0,
    "siblings.count": 0,
    "siblings.idle": 0,
    "stacks.api_server_waits_for": "network",
    "stacks.engine_waits_for": "worker_response",
    "stacks.worker_waits_for": "gpu",
    "stacks.profiler": False,
    "stacks.in_collective": False,
    "canary.ok": True,
    "canary.seconds": 0.05,
    "canary.nan": False,
    "canary.text_empty": False,
    "canary.token_id": 1234,
    "canary.ttft_over_server": 0.01,
}

STUCK: Facts = {
    "metrics.flat_s": 12.0,
    "metrics.flat_with_in_flight": True,
    "metrics.itl_equal_batch_ratio": None,
    "metrics.itl_with_prefill_ratio": None,
    "scrape.tokens_moved": False,
    "canary.ok": False,
    "canary.seconds": 8.0,
    "canary.text_empty": None,
    "canary.nan": None,
    "canary.token_id": None,
    "canary.ttft_over_server": None,
}

CPU_ONLY = ("gpu.", "ras.", "stacks.worker_cpu")
"""Prefixes of facts that a machine without GPUs does not have."""


@dataclass(frozen=True)
class Episode:
    """One episode and its truth."""

    alerts: Mapping[str, str]
    """Alert -> class."""
    cause: str
    differs: Facts = field(default_factory=dict)
    without: tuple[str, ...] = ()
    """Prefixes of facts that nobody could collect."""
    beats_by: float = 0.0
    """How far, at least, the cause's probability is above the second's."""

    def facts(self) -> Facts:
        """All facts of the episode."""
        both = {**SERVER, **self.differs}
        return {name: value for name, value in both.items() if not name.startswith(self.without or ("-",))}

    def incident(self) -> Incident:
        """The incident as it was opened."""
        symptoms = tuple(
            Symptom(
                alert=alert,
                incident_class=incident_class,
                severity=Severity.CRITICAL,
                target="a",
                since=90.0,
                fired_at=95.0,
            )
            for alert, incident_class in self.alerts.items()
        )
        return Incident(
            id="i",
            target="a",
            incident_class=symptoms[0].incident_class,
            severity=Severity.CRITICAL,
            onset_at=90.0,
            opened_at=95.0,
            symptoms=symptoms,
        )


TTFT = {"VLLMTTFTHigh": "high_ttft", "VLLMQueueGrowing": "high_ttft"}
ITL = {"VLLMITLHigh": "slow_decode"}
ABOVE = {"VLLMITLAboveUsual": "slow_decode"}
KV = {"VLLMKVCachePressure": "slow_decode", "VLLMQueueGrowing": "high_ttft"}
HANG = {"VLLMNoProgress": "hang_or_crash"}
HANG_IDLE = {"VLLMNoProgressCanary": "hang_or_crash"}
DOWN = {"VLLMConnectionRefused": "hang_or_crash", "VLLMTargetDown": "hang_or_crash"}
TAIL = {"VLLMTailLatency": "sporadic_slow"}
WRONG = {"VLLMCorruptedRequests": "wrong_output"}
NO_RESTART: dict[str, Scalar] = {"processes.restarted": False, "metrics.reset": False}
UNQUANTISED: dict[str, Scalar] = {"config.quantization": "none", "config.speculative": "none",
                                  "config.kv_cache_dtype": "auto"}  # fmt: skip
PINNED_WRONG: dict[str, Scalar] = {
    "canaries.recorded": True, "canaries.changed": False, "canaries.drifted": True, "canaries.every_way_wrong": True,
    "canaries.nan": False, "canaries.batch_only": False, "canaries.cache_only": False, "canaries.long_only": False,
    "canaries.shift": 20.0, "canaries.match": 0.4, "canaries.token_zero": False,
}  # fmt: skip
"""Pinned prompts answered wrong in every way, with real numbers."""
REPEATS = {"VLLMRepetition": "wrong_output"}
LOW = {"VLLMThroughputLow": "low_throughput"}

TWO_GPUS: Facts = {"config.tensor_parallel": 2, "gpu.count": 2}
SPIKE: Facts = {  # H200: 8 -> 90 requests/s, 64 slots
    "metrics.arrival_rate.ratio": 11.2,
    "metrics.arrival_rate.now": 89.0,
    "metrics.running.pinned": True,
    "metrics.running.ratio": 4.6,
    "metrics.waiting.max": 2158.0,
    "metrics.waiting.now": 900.0,
    "metrics.generation_rate.ratio": 3.4,
    "metrics.prompt_token_rate.ratio": 6.0,
    "metrics.prompt_computed_rate.ratio": 6.0,
    "metrics.finish_rate.ratio": 3.3,
    "metrics.ttft_p99.ratio": 600.0,
    "metrics.itl_p99.ratio": 3.0,
    "metrics.itl_mean.ratio": 2.1,
    "metrics.itl_p50.ratio": 1.9,
    "metrics.itl_equal_batch_ratio": None,
    "metrics.itl_with_prefill_ratio": 1.3,
    "gpu.power_share_max": 0.98,
    "gpu.util_max": 100.0,
    "canary.ok": False,
    "canary.seconds": 8.0,
    "canary.ttft_over_server": None,
}
KV_STARVE: Facts = {  # H200: 2,000 KV blocks, long answers
    "metrics.kv_usage.max": 1.0,
    "log.stats_kv_usage": 0.998,
    "metrics.preemption_rate.max": 1.1,
    "metrics.preemption_rate.now": 1.0,
    "metrics.arrival_rate.ratio": 7.0,
    "metrics.generation_tokens_mean.ratio": 4.0,
    "metrics.prompt_tokens_mean.ratio": 1.5,
    "metrics.prompt_tokens_mean.change": 200,
    "metrics.running.ratio": 7.0,
    "metrics.waiting.max": 339.0,
    "metrics.waiting.now": 150.0,
    "metrics.prefix_hit_rate.baseline": None,
    "metrics.prefix_hit_rate.ratio": None,
    "metrics.prefix_hit_rate.change": None,
    "metrics.itl_equal_batch_ratio": None,
    "metrics.itl_p99.ratio": 3.0,
    "gpu.power_share_max": 0.9,
    "canary.ok": False,
    "canary.seconds": 8.0,
}
CATCH_UP: Facts = {  # H200, right after a freeze: 64 running, 210-250 waiting, 5,500 generated/s
    "metrics.catch_up": True,
    "metrics.stalls": 1,
    "metrics.longest_stall_s": 33.0,
    "metrics.arrival_rate.ratio": 4.0,
    "metrics.running.pinned": True,
    "metrics.running.ratio": 4.5,
    "metrics.waiting.max": 250.0,
    "metrics.waiting.now": 120.0,
    "metrics.prompt_computed_rate.ratio": 4.8,
    "metrics.generation_rate.ratio": 4.7,
    "metrics.itl_p99.ratio": 8.0,
    "metrics.itl_equal_batch_ratio": None,
    "metrics.itl_with_prefill_ratio": 1.6,
}
WORKER_STOPPED: Facts = {  # H200, TP=2, rank 1 stopped
    **TWO_GPUS,
    **STUCK,
    "processes.stopped": 1,
    "processes.stopped_names": "VLLM::Worker_TP1",
    "processes.stopped_workers": 1,
    "gpu.util_max": 100.0,
    "gpu.util_min": 0.0,
    "gpu.power_share_max": 0.23,
    "gpu.spinning": 1,
    "gpu.idle": 1,
    "ras.listening": True,
    "ras.answered": False,
    "stacks.worker_waits_for": "new_requests",
}
PROFILE_OPEN: Facts = {  # H200: /stop_profile with default options
    **STUCK,
    "config.profiler": "torch",
    "config.profiler_bounded": False,
    "endpoints.profiler_mounted": True,
    "log.profiler_open": True,
    "stacks.engine_waits_for": "profiler",
    "stacks.profiler": True,
    "processes.engine_cpu": 1.0,
    "gpu.util_max": 0.0,
    "gpu.util_min": 0.0,
    "gpu.power_share_max": 0.18,
    "gpu.idle": 1,
}
ENGINE_STOPPED: Facts = {  # CPU 0.32: gauges frozen at 0
    **STUCK,
    "metrics.flat_with_in_flight": False,
    "processes.stopped": 1,
    "processes.stopped_names": "VLLM::EngineCore",
    "processes.engine_state": "T",
    "stacks.engine_waits_for": "stopped",
    "stacks.worker_waits_for": "new_requests",
}
REFUSED: Facts = {
    **STUCK,
    "metrics.flat_s": None,
    "scrape.reachable": "refused",
    "scrape.tokens_moved": None,
    "endpoints.reachable": "refused",
    "endpoints.health_status": None,
    "endpoints.health_seconds": None,
}
GONE: Facts = {
    **REFUSED,
    "processes.engine_missing": True,
    "processes.worker_missing": True,
    "processes.api_server_missing": True,
    "processes.engine_state": None,
    "processes.api_server_state": None,
    "processes.api_server_cpu": None,
}
NEW_START: Facts = {"metrics.reset": True, "processes.restarted": True}

EPISODES: dict[str, Episode] = {
    # one for each cause
    "capacity_exceeded": Episode(TTFT, "capacity_exceeded", SPIKE, beats_by=0.5),
    "kv_pressure_preemption": Episode(KV, "kv_pressure_preemption", KV_STARVE, beats_by=0.5),
    "prefix_cache_collapse": Episode(
        {**TTFT, "VLLMPrefixCacheCollapse": "high_ttft"},
        "prefix_cache_collapse",
        {
            "metrics.prefix_hit_rate.now": 0.02,
            "metrics.prefix_hit_rate.ratio": 0.05,
            "metrics.prefix_hit_rate.change": -0.36,
            "metrics.prompt_computed_rate.ratio": 1.6,
            "metrics.waiting.max": 60.0,
            "metrics.running.ratio": 3.0,
            "metrics.running.pinned": True,
        },
        beats_by=0.5,
    ),
    "long_prompt_blocking": Episode(
        TTFT,
        "long_prompt_blocking",
        {
            "metrics.prompt_tokens_mean.ratio": 4.0, "metrics.prompt_tokens_mean.change": 1200,
            "metrics.prompt_tokens_p99.ratio": 3.0,
            "metrics.prompt_computed_rate.ratio": 3.5,
            "metrics.prefix_hit_rate.ratio": 0.5,
            "metrics.prefix_hit_rate.change": -0.19,
            "metrics.tokens_per_iteration.ratio": 4.0,
            "metrics.waiting.max": 12.0,
            "metrics.running.ratio": 1.8,
            "metrics.kv_usage.max": 0.3,
            "metrics.itl_with_prefill_ratio": 2.0,
        },
        beats_by=0.5,
    ),
    "routing_imbalance": Episode(
        TTFT,
        "routing_imbalance",
        {
            "metrics.arrival_rate.ratio": 3.0,
            "metrics.running.pinned": True,
            "metrics.running.ratio": 4.0,
            "metrics.waiting.max": 80.0,
            "siblings.count": 3,
            "siblings.idle": 3,
            "siblings.affected_share": 0.25,
            "siblings.running_ratio": 6.0,
            "siblings.others_load_ratio": 0.4,
        },
    ),
    "frontend_bottleneck": Episode(
        {"VLLMTTFTHigh": "high_ttft"},
        "frontend_bottleneck",
        {
            "metrics.api_server_cpu.now": 1.0,
            "metrics.api_server_cpu.max": 1.0,
            "processes.api_server_cpu": 1.0,
            "endpoints.health_seconds": 1.2,
            "scrape.seconds": 1.4,
            "stacks.api_server_waits_for": "tokenizer",
            "canary.ttft_over_server": 2.5,
            "canary.seconds": 2.6,
            "gpu.power_share_max": 0.3,
        },
        beats_by=0.5,
    ),
    "batch_saturation": Episode(
        ITL,
        "batch_saturation",
        {
            "metrics.running.ratio": 4.0,
            "metrics.arrival_rate.ratio": 3.0,
            "metrics.itl_p50.ratio": 2.0,
            "metrics.itl_p99.ratio": 2.5,
        },
        beats_by=0.3,
    ),
    "slow_accelerator": Episode(
        ABOVE,
        "slow_accelerator",
        {
            "metrics.itl_equal_batch_ratio": 2.4,
            "metrics.itl_p50.ratio": 2.4,
            "metrics.running.ratio": 1.4,
            "gpu.throttled": True,
            "gpu.sm_clock_share_min": 0.45,
        },
        beats_by=0.5,
    ),
    "prefill_interference": Episode(
        ITL,
        "prefill_interference",
        {
            "metrics.itl_with_prefill_ratio": 4.0,
            "metrics.itl_p99.ratio": 5.0,
            "metrics.prompt_computed_rate.ratio": 2.0,
        },
        beats_by=0.5,
    ),
    "long_context_decode": Episode(
        ABOVE,
        "long_context_decode",
        {
            "metrics.prompt_tokens_mean.ratio": 5.0, "metrics.prompt_tokens_mean.change": 1600,
            "metrics.kv_usage.max": 0.75,
            "metrics.itl_equal_batch_ratio": 1.9,
            "metrics.itl_p50.ratio": 1.9,
            "gpu.mem_util_max": 80.0,
        },
        beats_by=0.2,
    ),
    "slow_kernel": Episode(
        ABOVE,
        "slow_kernel",
        {
            **NEW_START,
            "metrics.itl_equal_batch_ratio": 1.8,
            "metrics.itl_p50.ratio": 1.8,
            "config.enforce_eager": True,
        },
    ),
    "slow_collective": Episode(
        ABOVE,
        "slow_collective",
        {
            **TWO_GPUS,
            "metrics.itl_equal_batch_ratio": 2.2,
            "metrics.itl_p50.ratio": 2.2,
            "gpu.nvlink_down": 1,
            "kernel.nvlink_errors": 12,
            "gpu.util_min": 99.0,
            "gpu.power_share_max": 0.4,
        },
    ),
    "speculation_ineffective": Episode(
        ITL,
        "speculation_ineffective",
        {
            "config.speculative": "eagle3",
            "metrics.spec_acceptance.now": 0.12,
            "metrics.spec_acceptance.ratio": 0.2,
            "metrics.itl_equal_batch_ratio": 1.35,
            "metrics.itl_p50.ratio": 1.4,
        },
    ),
    "insufficient_load": Episode(  # H200: 20 -> 0.5 requests/s
        LOW,
        "insufficient_load",
        {
            "metrics.arrival_rate.ratio": 0.03,
            "metrics.finish_rate.ratio": 0.03,
            "metrics.generation_rate.ratio": 0.01,
            "metrics.iteration_rate.ratio": 0.05,
            "metrics.running.ratio": 0.05,
            "gpu.util_max": 3.0,
            "gpu.power_share_max": 0.21,
        },
        beats_by=0.5,
    ),
    "scheduler_stall": Episode(
        LOW,
        "scheduler_stall",
        {
            "metrics.waiting.max": 20.0,
            "metrics.waiting_deferred.max": 20.0,
            "metrics.iteration_rate.ratio": 0.3,
            "metrics.running.ratio": 0.3,
            "metrics.generation_rate.ratio": 0.3,
            "metrics.finish_rate.ratio": 0.4,
            "gpu.power_share_max": 0.3,
            "stacks.engine_waits_for": "python",
        },
        beats_by=0.5,
    ),
    "engine_stalls": Episode(
        TAIL,
        "engine_stalls",
        {"metrics.stalls": 4, "metrics.longest_stall_s": 2.5, "metrics.itl_p99.ratio": 6.0},
        beats_by=0.5,
    ),
    "sporadic_preemption": Episode(
        {"VLLMPreemptionsSporadic": "sporadic_slow"},
        "sporadic_preemption",
        {
            "metrics.preemption_rate.max": 0.2,
            "metrics.preemption_rate.now": 0.04,
            "metrics.kv_usage.max": 0.97,
            "metrics.waiting.max": 2.0,
        },
    ),
    "giant_prompt": Episode(
        TAIL,
        "giant_prompt",
        {
            "metrics.prompt_tokens_p99.ratio": 12.0,
            "metrics.prompt_tokens_mean.ratio": 1.3,
            "metrics.itl_with_prefill_ratio": 3.0,
            "metrics.itl_p99.ratio": 3.0,
            "metrics.waiting.max": 3.0,
        },
    ),
    "accelerator_jitter": Episode(
        TAIL,
        "accelerator_jitter",
        {"gpu.throttled": True, "gpu.sm_clock_share_min": 0.6, "metrics.itl_p99.ratio": 3.0},
        beats_by=0.3,
    ),
    "retry_upstream": Episode(
        TAIL,
        "retry_upstream",
        {"metrics.arrival_rate.ratio": 1.25, "metrics.unfinished_rate.change": 0.25},
        beats_by=0.3,
    ),
    "not_scraped": Episode(
        {"VLLMTargetUnseen": "unwatched"},
        "not_scraped",
        {"metrics.seen": False, "scrape.engines": 1},
        beats_by=0.5,
    ),
    "nan_logits": Episode(
        WRONG,
        "nan_logits",
        {"metrics.corrupted_rate.max": 0.5, "canary.nan": True, "canary.token_id": 0, "canary.text_empty": True},
        beats_by=0.5,
    ),
    "weights_mismatch": Episode(
        REPEATS,
        "weights_mismatch",
        {**NEW_START, "metrics.repetition_rate.max": 0.4, "metrics.generation_tokens_mean.ratio": 2.5},
    ),
    "nan_logits, by pinned prompts": Episode(
        {"VLLMCanaryNaN": "wrong_output"},
        "nan_logits",
        {**NO_RESTART, **UNQUANTISED, "canaries.recorded": True, "canaries.changed": False, "canaries.nan": True,
         "canaries.drifted": True, "canaries.every_way_wrong": True, "canaries.batch_only": False,
         "canaries.cache_only": False},
        beats_by=0.5,
    ),
    "weights_mismatch, silently, while running": Episode(
        {"VLLMCanaryDrift": "wrong_output"},
        "weights_mismatch",
        {**NO_RESTART, **UNQUANTISED, **PINNED_WRONG, "metrics.generation_tokens_mean.ratio": 1.0,
         "canaries.odd_here": True},
        beats_by=0.5,
    ),
    "weights_mismatch, rolled out": Episode(
        {"VLLMCanaryDrift": "wrong_output"},
        "weights_mismatch",
        {**NEW_START, **UNQUANTISED, **PINNED_WRONG, "canaries.replicas_agree": True, "canaries.replicas": 2},
        beats_by=0.5,
    ),
    "cuda_graph_defect, by pinned prompts": Episode(
        {"VLLMCanaryDrift": "wrong_output"},
        "cuda_graph_defect",
        {**NO_RESTART, **UNQUANTISED, **PINNED_WRONG, "canaries.every_way_wrong": False, "canaries.batch_only": True,
         "canaries.decode_only": True, "config.enforce_eager": False, "config.device": "cuda"},
        beats_by=0.5,
    ),
    "speculation_defect, by pinned prompts": Episode(
        {"VLLMCanaryDrift": "wrong_output"},
        "speculation_defect",
        {**NO_RESTART, **PINNED_WRONG, "canaries.decode_only": True, "config.speculative": "ngram",
         "config.quantization": "none", "metrics.spec_acceptance.ratio": 1.5, "config.enforce_eager": True},
    ),
    "attention_backend_defect, by pinned prompts": Episode(
        {"VLLMCanaryDrift": "wrong_output"},
        "attention_backend_defect",
        {**NO_RESTART, **UNQUANTISED, **PINNED_WRONG, "canaries.every_way_wrong": False, "canaries.cache_only": True,
         "canaries.long_only": True, "config.enforce_eager": True},
        beats_by=0.5,
    ),
    "cuda_graph_defect": Episode(
        REPEATS,
        "cuda_graph_defect",
        {"metrics.repetition_rate.max": 0.3, "metrics.running.ratio": 2.0},
    ),
    "speculation_defect": Episode(
        REPEATS,
        "speculation_defect",
        {
            "config.speculative": "ngram",
            "metrics.spec_acceptance.now": 0.995,
            "metrics.spec_acceptance.ratio": 1.6,
            "metrics.repetition_rate.max": 0.3,
        },
    ),
    "quantization_defect": Episode(
        REPEATS,
        "quantization_defect",
        {
            **NEW_START,
            "config.quantization": "fp8",
            "config.kv_cache_dtype": "fp8",
            "metrics.repetition_rate.max": 0.2,
            "config.enforce_eager": True,
        },
    ),
    "attention_backend_defect": Episode(
        REPEATS,
        "attention_backend_defect",
        {
            "config.enforce_eager": True,
            "metrics.prompt_tokens_mean.ratio": 3.0, "metrics.prompt_tokens_mean.change": 800,
            "metrics.prompt_tokens_p99.ratio": 6.0,
            "metrics.repetition_rate.max": 0.2,
        },
    ),
    "worker_hang": Episode(HANG, "worker_hang", WORKER_STOPPED, beats_by=0.8),
    "collective_hang": Episode(
        HANG,
        "collective_hang",
        {
            **TWO_GPUS,
            **STUCK,
            "gpu.spinning": 2,
            "gpu.util_min": 100.0,
            "gpu.power_share_max": 0.23,
            "ras.listening": True,
            "ras.answered": True,
            "ras.mismatch": True,
            "ras.missing_ranks": 0,
        },
        beats_by=0.5,
    ),
    "engine_hang": Episode(HANG_IDLE, "engine_hang", ENGINE_STOPPED, beats_by=0.8),
    "engine_hang/paused": Episode(
        HANG_IDLE,
        "engine_hang/paused",
        {
            **STUCK,
            "endpoints.dev_mode": True,
            "endpoints.paused": True,
            "endpoints.sleeping": False,
            "stacks.engine_waits_for": "new_requests",
            "stacks.worker_waits_for": "new_requests",
        },
        beats_by=0.5,
    ),
    "engine_crash": Episode(DOWN, "engine_crash", {**GONE, "log.engine_dead": True}, beats_by=0.8),
    "frontend_frozen": Episode(
        {"VLLMFrontendFrozen": "hang_or_crash", "VLLMTargetDown": "hang_or_crash"},
        "frontend_frozen",
        {
            **STUCK,
            "metrics.flat_s": None,
            "scrape.reachable": "timeout",
            "scrape.tokens_moved": None,
            "endpoints.reachable": "timeout",
            "endpoints.health_status": None,
            "endpoints.health_seconds": None,
            "processes.stopped": 1,
            "processes.api_server_state": "T",
            "stacks.api_server_waits_for": "stopped",
            "stacks.engine_waits_for": "new_requests",
        },
        beats_by=0.8,
    ),
    "gpu_fault": Episode(
        DOWN,
        "gpu_fault",
        {
            **GONE,
            "log.engine_dead": True,
            "log.cuda_error": True,
            "kernel.xid": 79,
            "kernel.xid_count": 2,
            "gpu.ecc_uncorrected": 0,
        },
    ),
    "client_abort_storm": Episode(
        {"VLLMClientAborts": "low_throughput"},
        "client_abort_storm",
        {
            "metrics.unfinished_rate.change": 3.0,
            "metrics.unfinished_share.now": 0.7,
            "metrics.unfinished_rate.ratio": 40.0,
            "metrics.finish_rate.ratio": 0.6,
            "metrics.arrival_rate.ratio": 0.7,
            "metrics.waiting.max": 1.0,
        },
        beats_by=0.5,
    ),
    "client_abort_storm/bad_requests": Episode(
        {"VLLMClientErrors": "low_throughput"},
        "client_abort_storm/bad_requests",
        {
            "metrics.http_4xx_share.now": 0.9,
            "metrics.http_4xx_rate.now": 9.0,
            "metrics.http_4xx_rate.max": 9.0,
            "metrics.http_4xx_rate.change": 9.0,
            "metrics.arrival_rate.ratio": 0.2,
            "metrics.finish_rate.ratio": 0.2,
            "metrics.running.ratio": 0.2,
        },
    ),
    "capture_in_progress": Episode(HANG, "capture_in_progress", PROFILE_OPEN, beats_by=0.8),
    "server_restart": Episode(
        {"VLLMRestarted": "hang_or_crash"},
        "server_restart",
        {**NEW_START, "log.graceful_shutdown": True, "log.restarting": True},
        beats_by=0.5,
    ),
    # the same faults seen with less, and the look-alikes
    "spike on a CPU server from idle": Episode(
        TTFT,
        "capacity_exceeded",
        {
            **SPIKE,
            "config.device": "cpu",
            "metrics.arrival_rate.baseline": 0.0,
            "metrics.arrival_rate.ratio": None,
            "metrics.running.ratio": None,
            "processes.host_cpu_busy": 1.0,
        },
        without=CPU_ONLY,
        beats_by=0.3,
    ),
    "spike that also slows decoding": Episode({**TTFT, **ITL}, "capacity_exceeded", SPIKE, beats_by=0.3),
    "KV starvation on a CPU server": Episode(
        KV, "kv_pressure_preemption", {**KV_STARVE, "config.device": "cpu"}, without=CPU_ONLY, beats_by=0.5
    ),
    "KV starvation while running looks pinned": Episode(
        {**KV, **TTFT}, "kv_pressure_preemption", {**KV_STARVE, "metrics.running.pinned": True}, beats_by=0.5
    ),
    "collapse on a CPU server": Episode(
        TTFT,
        "prefix_cache_collapse",
        {
            "config.device": "cpu",
            "metrics.prefix_hit_rate.baseline": 0.8,
            "metrics.prefix_hit_rate.now": 0.0,
            "metrics.prefix_hit_rate.ratio": 0.0,
            "metrics.prefix_hit_rate.change": -0.8,
            "metrics.prompt_computed_rate.ratio": 2.5,
            "metrics.waiting.max": 30.0,
            "metrics.running.pinned": True,
            "processes.host_cpu_busy": 1.0,
            "canary.ok": False,
        },
        without=CPU_ONLY,
        beats_by=0.5,
    ),
    "worker stopped on a CPU server, gauges frozen at 0": Episode(
        HANG_IDLE,
        "worker_hang",
        {
            **STUCK,
            "config.device": "cpu",
            "metrics.flat_with_in_flight": False,
            "processes.stopped": 1,
            "processes.stopped_workers": 1,
            "stacks.worker_waits_for": "stopped",
        },
        without=CPU_ONLY,
        beats_by=0.8,
    ),
    "one of two CPU ranks stopped, the other spins": Episode(
        HANG,
        "worker_hang",
        {
            **STUCK,
            "config.device": "cpu",
            "config.tensor_parallel": 2,
            "processes.stopped": 1,
            "processes.stopped_workers": 1,
            "stacks.in_collective": True,
            "processes.worker_cpu_max": 0.97,
        },
        without=CPU_ONLY,
        beats_by=0.5,
    ),
    "worker of one GPU waits in a kernel": Episode(
        HANG,
        "worker_hang",
        {**STUCK, "processes.disk_sleep": 1, "log.shm_wait": True},
    ),
    "engine stopped on a CPU server": Episode(
        HANG_IDLE,
        "engine_hang",
        {**ENGINE_STOPPED, "config.device": "cpu", "processes.engine_state": "t"},
        without=CPU_ONLY,
        beats_by=0.8,
    ),
    "engine at a lock": Episode(
        HANG,
        "engine_hang",
        {**STUCK, "stacks.engine_waits_for": "lock", "stacks.worker_waits_for": "new_requests"},
    ),
    "engine killed, worker left as an orphan": Episode(
        DOWN,
        "engine_crash",
        {**GONE, "processes.worker_missing": False, "processes.orphans": 1, "config.device": "cpu"},
        without=CPU_ONLY,
        beats_by=0.5,
    ),
    "front end killed": Episode(
        DOWN,
        "engine_crash",
        {**REFUSED, "processes.api_server_missing": True, "processes.orphans": 2},
    ),
    "out of memory, already restarted by its supervisor": Episode(
        {"VLLMRestarted": "hang_or_crash", "VLLMTargetDown": "hang_or_crash"},
        "engine_crash",
        {**NEW_START, "processes.engine_missing": None, "kernel.oom_killed": True, "log.worker_died": True},
    ),
    "asked to stop, not yet back": Episode(
        DOWN, "server_restart", {**GONE, "log.graceful_shutdown": True, "processes.restarted": None}
    ),
    "profile without log access": Episode(
        HANG, "capture_in_progress", PROFILE_OPEN, without=("log.",), beats_by=0.3
    ),
    "catch-up after a freeze": Episode(TTFT, "engine_stalls", CATCH_UP, beats_by=0.3),
    "decode slow on a starved CPU host": Episode(
        ABOVE,
        "slow_accelerator",
        {
            "config.device": "cpu",
            "metrics.itl_equal_batch_ratio": 8.6,
            "metrics.itl_p50.ratio": 8.6,
            "metrics.running.ratio": 2.0,
            "kernel.cpu_throttled": 0.6,
            "processes.host_cpu_busy": 1.0,
        },
        without=CPU_ONLY,
        beats_by=0.5,
    ),
    "clients leave because the engine is stuck": Episode(
        {**HANG_IDLE, "VLLMClientAborts": "low_throughput"},
        "worker_hang",
        {**WORKER_STOPPED, "metrics.unfinished_share.now": 0.9, "metrics.finish_rate.ratio": 0.0},
        beats_by=0.5,
    ),
    "nothing known fits": Episode(TTFT, "unknown", {"metrics.waiting.max": 0.0, "metrics.ttft_p99.ratio": 9.0}),
    "nothing could be collected": Episode(TTFT, "unknown", {}, without=tuple(f"{p}." for p in (
        "metrics", "scrape", "endpoints", "config", "log", "processes", "kernel", "gpu", "siblings", "stacks", "canary"
    ))),
}  # fmt: skip
