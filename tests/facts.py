"""Facts for tests: every name a step may deliver, and evidence made of plain values."""

from __future__ import annotations

from collections.abc import Mapping

from responder.absence import STEP_OF_PREFIX
from responder.capture import STEPS as REGISTERED
from responder.capture.step import NoParams
from responder.model import Evidence, Fact, Outcome, Scalar
from responder.traces.facts import ACROSS
from responder.traces.facts import FACTS as TRACE

_METRICS = ("baseline", "now", "max", "min", "last", "ratio", "change", "moved_s")
_NAMES = {
    "metrics": "seen running.pinned flat_s flat_with_in_flight reset history_s scrape_gap_s silence_s catch_up "
    "itl_equal_batch_ratio itl_beyond_batch_ratio itl_beyond_work_ratio arrivals_rush_ratio "
    "down_s unasked answers_between_gaps failed_scrape_s answered_scrape_s late_scrapes ended_at_work "
    "itl_with_prefill_ratio delay_in_decode less_done_ratio cached_tokens_ratio prefill_mix_ratio stalls "
    "first_token_steps growth_with_work slowed_alike late_in_stops late_in_short_stops prefill_beyond_tokens "
    "reading_share_of_wait outside_engine_s most_done_ratio "
    "outside_engine_share prompts_being_read light_steps_ratio itl_beyond_reading_ratio "
    "computed_beyond_cache_ratio growth_by_length longest_prompts_ratio long_prompt_share "
    "long_prompt_reads_s "
    "prompt_length_peak_ratio prefill_between_ratio batch_by_arrivals "
    "longest_stall_s stall_prefill_ratio first_mover "
    "movers slowed_before_batch_s signals_unknown ttft_p99.bucket",
    "scrape": "status seconds reachable running waiting kv_usage tokens_moved engines model_name absent version_guess",
    "endpoints": "reachable new_connection health_status health_seconds version models max_model_len load "
    "profiler_mounted dev_mode paused sleeping",
    "config": "version max_num_seqs max_num_batched_tokens max_model_len gpu_memory_utilization num_gpu_blocks "
    "block_size kv_tokens kv_cache_dtype enforce_eager prefix_caching tensor_parallel pipeline_parallel data_parallel "
    "speculative quantization profiler profiler_bounded api_server_count device execute_timeout_s max_num_seqs_known "
    "source num_gpu_blocks_override cpu_kv_space chunked_prefill scheduling_policy",
    "log": "found last_line_age_s stats_running stats_waiting stats_kv_usage stats_generation_rate stats_prompt_rate "
    "stats_hit_rate stats_silent_s traceback exception engine_dead execute_timeout out_of_memory worker_died "
    "nccl_error cuda_error profiler_open graceful_shutdown shm_wait stream_errors root_exception restarting nan",
    "processes": "found count api_server_state engine_state worker_states stopped stopped_names stopped_workers "
    "disk_sleep disk_sleep_names zombies orphans engine_missing worker_missing api_server_missing api_server_cpu "
    "engine_cpu worker_cpu_max worker_cpu_min rss_bytes restarted host_cpu_busy host_steal fds connections",
    "core_time": "api_server_held api_server_stopped api_server_waits_for_core api_server_on_core engine_held "
    "engine_stopped engine_waits_for_core engine_on_core worker_held worker_stopped worker_waits_for_core "
    "worker_on_core engine_held_more api_server_held_more held_alike",
    "stack_shares": "looks engine_for_workers engine_at_work engine_idle workers_for_engine workers_at_work",
    "kernel": "readable oom_killed xid xid_count nvlink_errors cgroup_oom_kills cpu_throttled memory_pressure",
    "gpu": "count util_max util_min mem_util_max power_w_max power_share_max power_share_min sm_clock_share_min "
    "throttled lost throttle_reasons temperature_max memory_used_share_max ecc_uncorrected spinning idle driver_stuck "
    "nvlink_down processes neighbours",
    "ras": "answered seconds listening communicators missing_ranks mismatch summary",
    "aftermath": "silent_s cpu_share held held_for_each_inside finished part_s engine_share",
    "siblings": "count healthy affected_share waiting_ratio running_ratio others_load_ratio idle engine_imbalance",
    "stacks": "dumped failed api_server_waits_for engine_waits_for worker_waits_for outlier unchanged profiler "
    "in_collective summary",
    "signal_stacks": "dumped api_server_waits_for engine_waits_for worker_waits_for",
    "requests": "count usual_ttft usual_per_token usual_prompt_tokens usual_e2e slow slow_share retried "
    "before_queue_share queue_share prefill_share decode_share matched slowest_excess slow_prompt_ratio "
    "bursts burst_share burst_seconds burst_period giants giant_victims giant_share giant_tokens "
    "gateway_usual gateway_longest source pattern slow_where shared slowest",
    "steps": "found count torn_last asleep last_age last_step last_in_flight last_kv_usage recorder_ticks frozen "
    "frozen_s latency_p50 latency_p99 latency_max latency_ratio prefill_ratio largest_prefill stalls "
    "stalls_prefill stalls_preemption stalls_unexplained stalls_front_end stall_share longest_stall "
    "stall_period preemptions preemption_cascades preemption_kv kv_max waiting_max preempted_finished "
    "prefix_hit_rate",
    "canaries": "recorded changed nan token_zero drifted match shift repeats alone_wrong batch_only cache_only "
    "every_way_wrong long_only decode_only replicas replicas_agree odd_one_out odd_here",
    "profile": "possible iterations",
    "trace": " ".join(
        [
            "summary",
            *(row.name.removeprefix("trace.") for row in TRACE),
            *(name.removeprefix("trace.") for name, _, _ in ACROSS),
        ]
    ),
    "nvidia_smi": "stuck_calls odd_gpus odd_gpu link_errors slow_links link_rate all_nvlink slowest_path",
    "infiniband": "ports ports_down slow_ports errors errors_growing sent_rate congested",
    "dcgm": "gpus spinning idle xid ecc_double_bit nvlink_replays nvlink_crc thermal_violation_share "
    "sm_clock.dips sm_clock.ratio gpu_util.now power.ratio "
    "power_violation_share",
    "nccl_log": "lines slowest_way over_sockets warnings first_to_warn timeouts first_diverging_rank",
    "flight_recorder": "ranks behind_ranks first_diverging_rank mismatch",
    "gdb": "threads in_nccl in_driver stands_in",
    "stacks_native": "in_collective outlier groups unchanged",
    "flame_graph": "top top_share tokenizer_share json_share scheduler_share",
    "system": "cpu_busy cpu_steal cpu_iowait io_pressure memory_pressure disk_latency tcp_retransmits fds_share_max",
    "nsys": "under_nsys can_capture relaunch layerwise top_kernel",
    "changes": "known start_before_onset_s healthy_before_onset_s restarted options version environment models ranks "
    "gpus count deploy_before_onset_s from_siblings summary",
    "expected": "source samples itl_s itl_ratio itl_residual_sigmas ttft_s ttft_ratio ttft_residual_sigmas "
    "arrival_rate_vs_yesterday generation_rate_vs_yesterday prompt_token_rate_vs_yesterday running_vs_yesterday "
    "itl_mean_vs_yesterday ttft_mean_vs_yesterday",
    "canary": "ok status seconds ttft_s text_empty token_id nan error ttft_over_server",
}
FACTS = tuple(f"{prefix}.{name}" for prefix, names in _NAMES.items() for name in names.split()) + tuple(
    f"metrics.{{signal}}.{kind}" for kind in _METRICS
)
"""What the capture steps promise (the registry is compared with this in test_playbooks)."""

_HERE = [STEP_OF_PREFIX.get(prefix, prefix) for prefix in _NAMES]
STEPS = {name: REGISTERED[name].params if name in REGISTERED else NoParams for name in _HERE}


def evidence(
    facts: Mapping[str, Scalar], *, at: float = 100.0, without: Mapping[str, str] | None = None
) -> tuple[Evidence, ...]:
    """One piece of evidence for each step whose facts are named; `without` are steps skipped, and why."""
    by_step: dict[str, list[Fact]] = {}
    for name, value in facts.items():
        prefix = name.partition(".")[0]
        step = STEP_OF_PREFIX.get(prefix, prefix)
        by_step.setdefault(step, []).append(Fact(name=name, value=value, step=step, at=at))
    made = [
        Evidence(id=step, step=step, rung=0, outcome=Outcome.OK, started_at=at, seconds=0.1, facts=tuple(items))
        for step, items in by_step.items()
    ]
    made += [
        Evidence(id=step, step=step, rung=0, outcome=Outcome.SKIPPED, reason=why, started_at=at, seconds=0.0)
        for step, why in (without or {}).items()
        if step not in by_step
    ]
    return tuple(made)
