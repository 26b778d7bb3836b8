"""Does what we ship recognise every cause it claims to know, and tell look-alikes apart?"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from responder.absence import STEP_OF_PREFIX
from responder.claims import evaluate_test
from responder.classes import CAUSES, CAUSES_OF, CAUSES_OF_ANY_CLASS, PRECEDENCE, canonical
from responder.diagnose import diagnose
from responder.load import load_content
from responder.model import Content, Fact, Status, Truth, Verdict
from responder.problems import render
from tests.facts import FACTS, STEPS, evidence
from tests.scenarios import (
    CATCH_UP,
    EPISODES,
    HANG,
    KV,
    KV_STARVE,
    PROFILE_OPEN,
    SERVER,
    SPIKE,
    TTFT,
    WORKER_STOPPED,
    Episode,
    Facts,
)

ROOT = Path(__file__).resolve().parent.parent


@cache
def content() -> Content:
    """What we ship."""
    loaded, problems = load_content([ROOT / "rules"], [ROOT / "playbooks"], STEPS, FACTS)
    assert not problems, render(problems)
    return loaded


def verdict(episode: Episode, *looks: Facts) -> Verdict:
    """The verdict on an episode; with `looks` on several rounds of captures."""
    rounds = [evidence(facts, at=100.0 + 60 * n) for n, facts in enumerate(looks or (episode.facts(),))]
    runs = tuple(
        item.model_copy(update={"id": f"{item.id}-{n}"}) for n, items in enumerate(rounds, start=1) for item in items
    )
    return diagnose(episode.incident(), content().playbooks, content().causes, runs)


def facts_of(values: Facts) -> dict[str, Fact]:
    return {name: Fact(name=name, value=value, step="x") for name, value in values.items() if value is not None}


@pytest.mark.parametrize("name", sorted(EPISODES))
def test_every_episode_is_recognised(name: str) -> None:
    """The true cause comes first, by the margin the evidence deserves; every canonical cause has an episode."""
    episode = EPISODES[name]
    first, second = verdict(episode).hypotheses[:2]
    assert first.cause == episode.cause, f"{first.cause} {first.probability} before {second.cause}"
    assert first.probability - second.probability >= episode.beats_by


@pytest.mark.parametrize("seen", [0, 2, None])
def test_who_else_uses_the_gpu_is_to_be_ended_first(seen: int | None) -> None:
    """A busy host beside it is the smaller suspect; where nobody else is there, or nobody can tell, it is not said."""
    episode = next(e for e in EPISODES.values() if e.cause == "slow_accelerator")
    looks = {"gpu.neighbours": seen, "processes.host_cpu_busy": 1.0}
    (found,) = (h for h in verdict(episode, {**episode.facts(), **looks}).hypotheses if h.cause == "slow_accelerator")
    named = [remedy.says.startswith("Others' processes") for remedy in found.remedies]
    assert named.index(True) == 0 if seen else not any(named)
    assert any("compute on the server's GPU" in finding.says for finding in found.supports) == bool(seen)


def test_every_canonical_cause_is_known_and_has_an_episode() -> None:
    """Nothing of the canon is missing, and nothing is shipped untested."""
    shipped = {cause.id for cause in content().causes}
    assert set(CAUSES) <= shipped
    assert shipped == {episode.cause for episode in EPISODES.values()} - {"unknown"}
    assert {canonical(cause) for cause in shipped} == set(CAUSES)


def test_every_class_lets_its_causes_compete() -> None:
    """One playbook for each class, with at least the canonical causes of the class and those of any class."""
    books = {book.incident_class: book for book in content().playbooks}
    assert sorted(books) == sorted(PRECEDENCE)
    for name, book in books.items():
        assert set(CAUSES_OF[name]) | set(CAUSES_OF_ANY_CLASS) <= set(book.causes), name


def test_every_rule_leads_to_a_playbook() -> None:
    """An alert that fires is listed in the playbook of its class."""
    books = {book.incident_class: book for book in content().playbooks}
    for rule in content().rules:
        assert rule.alert in books[rule.incident_class].alerts, rule.alert


def test_every_alert_is_explained_by_a_cause_of_its_class() -> None:
    """A symptom that no competing cause explains would count against all of them."""
    causes = {cause.id: cause for cause in content().causes}
    for book in content().playbooks:
        for alert in book.alerts:
            assert any(alert in causes[c].explains or "*" in causes[c].explains for c in book.causes), alert


@pytest.mark.parametrize("cause", content().causes, ids=lambda cause: cause.id)
def test_every_cause_is_complete(cause) -> None:  # type: ignore[no-untyped-def]
    """Evidence in several groups both ways, proof of its own, a way to be proven wrong, remedies with their price.

    What counts where it is not so has words for that: "it is not so that …" is nothing to read at night.
    """
    groups = {weight.group for weight in cause.evidence}
    assert len(groups) >= 3
    assert any(weight.yes > 0 for weight in cause.evidence)
    assert any(min(weight.yes, weight.no) < 0 for weight in cause.evidence)
    assert [weight.id for weight in cause.evidence if weight.no and not weight.says_not] == []
    assert cause.confirm
    assert cause.disproved_by
    assert cause.would_disprove.command
    assert cause.explains
    assert cause.seen_in
    assert all(remedy.tradeoff for remedy in cause.remedies)
    assert any(remedy.safe_now or "restart" in remedy.tradeoff for remedy in cause.remedies)


@pytest.mark.parametrize("name", ["swap-space", "scheduler-delay-factor", "num-scheduler-steps", "VLLM_USE_V1"])
def test_no_remedy_names_an_option_that_is_gone(name: str) -> None:
    """Options removed from vLLM must not be advised."""
    for cause in content().causes:
        for remedy in cause.remedies:
            assert name not in remedy.option, cause.id


@pytest.mark.parametrize("name", sorted(n for n, e in EPISODES.items() if e.cause != "unknown"))
def test_the_true_cause_is_not_disproved_by_its_own_episode(name: str) -> None:
    """A disproof that holds in the textbook case is wrong."""
    episode = EPISODES[name]
    cause = next(cause for cause in content().causes if cause.id == episode.cause)
    facts = facts_of(episode.facts())
    assert all(evaluate_test(test, facts) is not Truth.YES for test in cause.disproved_by)


@pytest.mark.parametrize("cause", content().causes, ids=lambda cause: cause.id)
def test_a_healthy_server_confirms_nothing(cause) -> None:  # type: ignore[no-untyped-def]
    """On a healthy server no cause finds its proof complete."""
    healthy = facts_of(SERVER)
    held = {w.id for w in cause.evidence if evaluate_test(w.test, healthy) is Truth.YES}
    assert not all(held & ({way} if isinstance(way, str) else set(way)) for way in cause.confirm)


@pytest.mark.parametrize("alerts", [TTFT, HANG, KV, {"VLLMITLHigh": "slow_decode"}], ids=lambda a: min(a))
def test_an_alarm_over_a_healthy_server_is_not_confirmed(alerts: dict[str, str]) -> None:
    """Symptoms alone make no cause probable when every fact says healthy."""
    first = verdict(Episode(alerts, "unknown")).hypotheses[0]
    assert first.cause == "unknown"


@pytest.mark.parametrize(
    ("frozen", "cause"), [(WORKER_STOPPED, "worker_hang"), (PROFILE_OPEN, "capture_in_progress")]
)  # fmt: skip
def test_a_hang_that_ends_is_not_rediagnosed_as_capacity(frozen: Facts, cause: str) -> None:
    """After the freeze a burst follows that looks like a traffic spike; the second look must not change the verdict."""
    episode = Episode({**HANG, **TTFT}, cause, frozen)
    thawed = {**SERVER, **CATCH_UP, "config.tensor_parallel": frozen.get("config.tensor_parallel", 1)}
    assert verdict(episode, episode.facts(), thawed).hypotheses[0].cause == cause


def test_capacity_that_turns_into_a_hang_is_a_hang() -> None:
    """What the second look finds counts, too."""
    episode = Episode({**TTFT, **HANG}, "worker_hang", SPIKE)
    assert verdict(episode, episode.facts(), {**SERVER, **WORKER_STOPPED}).hypotheses[0].cause == "worker_hang"


def test_the_resolved_look_does_not_change_the_verdict() -> None:
    """One more look at the metrics, when all is well again, leaves the cause where it was."""
    episode = Episode(KV, "kv_pressure_preemption", KV_STARVE)
    later = {name: value for name, value in SERVER.items() if name.startswith("metrics.")}
    assert (
        verdict(episode, episode.facts(), {**later, "metrics.kv_usage.max": 1.0}).hypotheses[0].cause == episode.cause
    )


def metrics_only(**facts: float | bool) -> Facts:
    """What a window of metrics says, and nobody else."""
    return {f"metrics.{name.replace('__', '.')}": value for name, value in facts.items()}


SLOW_SPELL = metrics_only(
    itl_long_gaps__max=301.0, itl_long_gaps__baseline=0.0, late_in_stops=0.1, slowed_alike=1.1, itl_p50__ratio=49.0,
    itl_p99__ratio=20.0, itl_mean__ratio=34.0, less_done_ratio=1.5, stalls=0, flat_s=0.0, longest_stall_s=0.0,
    catch_up=False, running__ratio=29.0, running__pinned=False, waiting__max=12.0, generation_rate__ratio=0.66,
    generation_rate__last=198.0, prompt_computed_rate__ratio=0.75, prompt_tokens_mean__ratio=1.06,
    generation_tokens_mean__ratio=0.82, prefill_mix_ratio=0.97, preemption_rate__max=0.0,
    prompt_length_peak_ratio=1.2, longest_prompts_ratio=2.5,
)  # fmt: skip
"""A device that is slow for a minute, again and again."""


def test_a_server_that_hangs_after_it_was_started_anew_hangs() -> None:
    """One incident: no scrape was answered while it was gone, and since it is back no step has come back."""
    gone = metrics_only(down_s=30.0, failed_scrape_s=0.002, reset=True, flat_s=0.0)
    back = metrics_only(down_s=0.0, reset=True, flat_s=30.7, running__last=2.0)
    alerts = dict.fromkeys(["VLLMTargetDown", "VLLMNoProgress"], "hang_or_crash")
    got = verdict(Episode(alerts, "engine_hang"), gone, back)
    assert got.hypotheses[0].cause in ("engine_hang", "worker_hang")
    assert got.hypotheses[0].status != "confirmed"


def test_callers_who_ask_again_make_no_slow_device_of_an_engine_that_reads_them_again() -> None:
    """Each step reads more than ever and answers little; later few are left, with tokens as late."""
    rush = metrics_only(
        arrival_rate__ratio=2.9, arrivals_rush_ratio=1.71, catch_up=False, running__ratio=2.2, running__pinned=False,
        waiting__now=118, waiting__max=214, kv_usage__max=0.24, preemption_rate__max=0.0,
        prompt_tokens_mean__ratio=1.02, prefix_hit_rate__change=0.0, generation_tokens_mean__ratio=1.02,
        generation_rate__ratio=0.3, prompt_computed_rate__ratio=1.7,
        prefill_mix_ratio=5.7, itl_mean__ratio=7.8, itl_equal_batch_ratio=10.5, unfinished_share__now=0.42,
        prompt_token_rate__ratio=1.85, finish_rate__ratio=0.0, flat_s=0.0,
    )  # fmt: skip
    later = metrics_only(
        arrival_rate__ratio=0.03, running__ratio=0.3, itl_p50__ratio=13.8, growth_with_work=-0.06, slowed_alike=1.26
    )
    alerts = dict.fromkeys(["VLLMQueueGrowing", "VLLMTTFTHigh", "VLLMClientAborts"], "high_ttft")
    got = verdict(Episode(alerts, "client_abort_storm"), rush, later)
    assert got.hypotheses[0].cause != "slow_accelerator"


def test_a_look_between_two_slow_spells_makes_no_stops_of_them() -> None:
    """There the median token comes as before while the late ones of the spell are still in sight."""
    between = {**SLOW_SPELL, **metrics_only(itl_p50__ratio=0.99, late_in_stops=0.03, less_done_ratio=1.0)}
    between["metrics.slowed_alike"] = None
    alerts = dict.fromkeys(["VLLMITLAboveUsual", "VLLMITLHigh", "VLLMITLStaysAboveUsual"], "slow_decode")
    got = verdict(Episode(alerts, "slow_accelerator"), SLOW_SPELL, between)
    assert got.hypotheses[0].cause in ("slow_accelerator", "scheduler_stall")


def test_an_equal_batch_between_two_slow_spells_clears_no_device() -> None:
    """It was slow at others, of which no batch from before was equal."""
    slow = {**SLOW_SPELL, **metrics_only(itl_beyond_work_ratio=2.4)}
    between = {**SLOW_SPELL, **metrics_only(itl_equal_batch_ratio=1.0, itl_p50__ratio=1.0, itl_beyond_work_ratio=1.0)}
    between.update({"metrics.slowed_alike": None, "metrics.less_done_ratio": None})
    episode = Episode({"VLLMITLHigh": "slow_decode"}, "slow_accelerator")

    def ruled_out(*looks: Facts) -> bool:
        known = verdict(episode, *looks).hypotheses
        return any(f.group == "disproof" for h in known if h.cause == "slow_accelerator" for f in h.contradicts)

    assert not ruled_out(slow, between)
    assert "slow_accelerator" in [h.cause for h in verdict(episode, slow, between).hypotheses]


def test_stops_are_named_beside_more_traffic() -> None:
    """Who runs and waits for a token waits for a second and more, which no queue explains; slow steps are no stops."""
    rush = metrics_only(
        arrival_rate__ratio=14.2, catch_up=False, running__pinned=True, waiting__max=67.0, kv_usage__max=0.02,
        preemption_rate__max=0.0, prefix_hit_rate__change=0.0, prompt_tokens_mean__ratio=1.02, prefill_mix_ratio=1.7,
        prompt_length_peak_ratio=1.2, itl_p50__ratio=1.03, itl_p99__ratio=1.3, late_in_stops=1.0,
        itl_long_gaps__max=21.6, itl_long_gaps__baseline=0.0, stalls=0, flat_s=0.0, generation_rate__last=300.0,
        prompt_tokens_mean__last=200.0, queue_time_mean__last=4.0, prompt_computed_rate__last=900.0,
    )  # fmt: skip
    alerts = {**dict.fromkeys(["VLLMQueueGrowing", "VLLMTTFTHigh"], "high_ttft"), "VLLMTokenGaps": "sporadic_slow"}
    episode = Episode(alerts, "capacity_exceeded")
    rush = {**rush, "siblings.count": 0}
    assert verdict(episode, rush).together == ("capacity_exceeded", "engine_stalls")
    some = {**rush, "metrics.late_in_stops": 0.3}
    assert verdict(episode, some).together == ()
    read = metrics_only(
        itl_long_gaps__max=136.0, prefill_time_mean__max=0.1, prefill_mix_ratio=0.9, itl_p50__ratio=1.6,
        itl_p50__max=0.07,
    )  # fmt: skip
    read = {name: value for name, value in read.items() if value is not None}
    assert verdict(episode, {**some, **read}).together == ("capacity_exceeded", "engine_stalls")
    for more in (
        {"metrics.prefill_time_mean.max": 1.9},
        {"metrics.itl_p50.ratio": 37.0},
        {"metrics.itl_long_gaps.max": 9.0},
    ):
        assert verdict(episode, {**some, **read, **more}).together == (), more


def test_tokens_that_are_late_while_the_gpu_idles_wait_for_no_work_of_its() -> None:
    """Clients leave and ask again, so more is read for each token; but reading would keep the GPU at work."""
    idle = metrics_only(
        unfinished_share__now=0.83, prompt_computed_rate__ratio=3.0, prefill_mix_ratio=17.5, delay_in_decode=0.99,
        itl_p50__ratio=1.9, itl_p99__ratio=13.0, itl_mean__ratio=14.6, itl_equal_batch_ratio=14.0, waiting__max=0.0,
        kv_usage__max=0.01, preemption_rate__max=0.0, arrival_rate__ratio=1.0, prompt_tokens_mean__ratio=1.0,
        flat_s=0.0, slowed_before_batch_s=21.0, running__max=6.0, dcgm_gpu_util__baseline=79.0, dcgm_gpu_util__now=6.0,
        dcgm_gpu_util__ratio=0.08,
    )  # fmt: skip
    episode = Episode({"VLLMITLAboveUsual": "slow_decode"}, "slow_accelerator")
    assert verdict(episode, idle).hypotheses[0].cause in {"slow_accelerator", "scheduler_stall"}
    at_work = {**idle, "metrics.dcgm_gpu_util.now": 95.0, "metrics.dcgm_gpu_util.ratio": 1.2}
    assert verdict(episode, at_work).hypotheses[0].cause == "prefill_interference"


def test_a_queue_of_as_many_requests_as_ever_is_no_routers_doing() -> None:
    """Twenty times as many as on the other replica run here, but no more arrive than before: each stays longer."""
    slower = metrics_only(
        arrival_rate__ratio=1.0, arrivals_rush_ratio=1.0, running__ratio=6.0, running__pinned=False, waiting__max=59.0,
        waiting__baseline=0.0, generation_tokens_mean__ratio=1.0, prompt_tokens_mean__ratio=1.0, kv_usage__max=0.05,
        preemption_rate__max=0.0, catch_up=False, itl_p50__ratio=1.3, itl_p99__ratio=5.8, itl_mean__ratio=3.7,
        prefill_time_mean__ratio=7.4, queue_time_mean__change=0.29, itl_long_gaps__max=0.0,
    )  # fmt: skip
    beside = {"siblings.count": 1, "siblings.idle": 1, "siblings.affected_share": 0.0, "siblings.running_ratio": 24.0}
    episode = Episode(dict.fromkeys(["VLLMQueueGrowing", "VLLMTTFTAboveUsual"], "high_ttft"), "scheduler_stall")
    assert verdict(episode, {**slower, **beside}).hypotheses[0].cause != "routing_imbalance"
    more = {"metrics.arrival_rate.ratio": 2.0, "metrics.arrivals_rush_ratio": 1.8}
    assert verdict(episode, {**slower, **beside, **more}).hypotheses[0].cause == "routing_imbalance"


def test_who_sends_long_prompts_and_leaves_is_told_from_long_prompts_that_block() -> None:
    """Prompts that are read got longer, those of whoever stays did not: no queue explains that. Who leaves for the wait
    leaves whatever the length, and long prompts whose clients stay end as well. A queue leaves a doubt: unconfirmed."""
    storm = metrics_only(
        unfinished_share__now=0.8, prompt_tokens_mean__ratio=3.7, prompt_tokens_mean__change=540.0,
        prompt_tokens_p50__ratio=1.0, longest_prompts_ratio=1.0, arrival_rate__ratio=1.9, growth_by_length=0.67,
        batch_by_arrivals=0.23, waiting__max=89.0, running__pinned=True, kv_usage__max=0.03, preemption_rate__max=0.0,
        finish_rate__ratio=0.5, generation_tokens_mean__ratio=0.95, prompt_computed_rate__ratio=9.5,
        prefill_mix_ratio=14.0, prefill_time_mean__ratio=6.6, tokens_per_iteration__ratio=20.0, delay_in_decode=0.5,
        itl_p50__ratio=3.5, flat_s=0.0,
    )  # fmt: skip
    alerts = dict.fromkeys(["VLLMQueueGrowing", "VLLMTTFTHigh"], "high_ttft")
    episode = Episode(alerts, "client_abort_storm")
    first = verdict(episode, storm).hypotheses[0]
    assert (first.cause, first.status) == ("client_abort_storm", Status.PROBABLE)
    stays = {**storm, "metrics.prompt_tokens_p50.ratio": 3.5, "metrics.longest_prompts_ratio": 3.0}
    assert verdict(episode, stays).hypotheses[0].cause == "long_prompt_blocking"


@pytest.mark.parametrize("name", ["worker_hang", "engine_hang", "engine_crash", "frontend_frozen"])
def test_without_sight_of_the_processes_a_hang_is_not_confirmed(name: str) -> None:
    """From metrics and a canary alone a stopped worker, engine and rank are identical: say so."""
    episode = EPISODES[name]
    blind = Episode(episode.alerts, name, episode.differs, without=("processes.", "stacks.", "gpu.", "ras.", "log."))
    first = verdict(blind).hypotheses[0]
    assert first.status is not Status.CONFIRMED
    assert any(missing.step == "processes" for missing in first.missing) or first.cause == "unknown"


def test_facts_are_named_after_their_step() -> None:
    """`diagnose` finds the step of a missing fact by its prefix; a new step must keep to that."""
    steps = pytest.importorskip("responder.capture").STEPS
    for name, step in steps.items():
        for spec in step.facts:
            prefix = spec.name.partition(".")[0]
            assert STEP_OF_PREFIX.get(prefix, prefix) == name, spec.name


def test_the_registry_delivers_what_playbooks_use() -> None:
    """Loaded against the real capture steps there is no fact and no step that nobody knows."""
    steps = pytest.importorskip("responder.capture").STEPS
    named = {call.step for book in content().playbooks for call in book.ladder}
    assert named <= set(steps), sorted(named - set(steps))
    facts = [spec.name for step in steps.values() for spec in step.facts]
    params = {name: step.params for name, step in steps.items()}
    _, problems = load_content([ROOT / "rules"], [ROOT / "playbooks"], params, facts)
    assert not problems, render(problems)


def test_the_examples_of_the_manual_are_valid(tmp_path: Path) -> None:
    """What docs/playbooks.md shows can be copied."""
    blocks = (ROOT / "docs" / "playbooks.md").read_text().split("```yaml\n")[1:]
    book, cause, _limits, words = (block.split("```")[0] for block in blocks)
    assert words.startswith("# site/translations/zh.yaml"), "tests/test_translations.py has that one"
    (tmp_path / "book.yaml").write_text(book + "  capacity_exceeded/one_tenant:\n")
    (tmp_path / "cause.yaml").write_text(cause)
    loaded, problems = load_content([ROOT / "rules"], [ROOT / "playbooks", tmp_path], STEPS, FACTS)
    assert problems == ()
    assert "capacity_exceeded/one_tenant" in {cause.id for cause in loaded.causes}


def test_a_device_slow_at_moments_is_not_confirmed_as_stops() -> None:
    """A third of the late tokens are late by less than a second: nothing stopped."""
    slow = metrics_only(
        itl_long_gaps__max=30.0, itl_long_gaps__baseline=0.0, late_in_stops=0.65, slowed_alike=0.33,
        itl_p50__ratio=1.24,
        itl_p99__ratio=1.76, itl_mean__ratio=1.9, stalls=0, flat_s=0.0, longest_stall_s=0.0, catch_up=False,
        generation_rate__last=160.0, prefill_mix_ratio=1.07, preemption_rate__max=0.0, prompt_length_peak_ratio=1.17,
        longest_prompts_ratio=1.0, prefill_beyond_tokens=0.99, prefill_time_mean__last=1.0, scrape_seconds__max=0.03,
        prompt_tokens_p99__ratio=1.0,
    )  # fmt: skip
    alerts = dict.fromkeys(["VLLMTokenGapsRecur", "VLLMTokenHiccupsRecur"], "sporadic_slow")
    episode = Episode(alerts, "accelerator_jitter")
    assert verdict(episode, slow).hypotheses[0].cause != "engine_stalls"
    stops = {**slow, **metrics_only(late_in_stops=1.0)}
    assert verdict(episode, stops).hypotheses[0].cause == "engine_stalls"


def test_what_piled_up_in_a_stop_makes_no_slow_device() -> None:
    """Half of the late tokens are of prompts that came in a stop and are read after it, as fast as ever; where reading
    them takes its share of the added wait steps are slow."""
    stops = metrics_only(
        itl_long_gaps__max=46.0, itl_long_gaps__baseline=0.0, itl_late_share__baseline=0.001, late_in_stops=0.52,
        itl_p50__ratio=1.01, itl_p99__ratio=2.5, itl_mean__ratio=1.17, itl_mean__baseline=0.02, stalls=0, flat_s=0.0,
        longest_stall_s=0.0, catch_up=False, generation_rate__last=160.0, prefill_mix_ratio=1.0,
        preemption_rate__max=0.0, prompt_length_peak_ratio=1.1, longest_prompts_ratio=1.0, prefill_beyond_tokens=1.2,
        prefill_time_mean__last=0.2, prompt_tokens_mean__ratio=1.0, prompt_tokens_p99__ratio=1.0,
        scrape_seconds__max=0.03, answered_scrape_s=0.01, arrivals_rush_ratio=1.1, reading_share_of_wait=0.11,
    )  # fmt: skip
    episode = Episode({"VLLMTokenGaps": "sporadic_slow"}, "engine_stalls")
    assert verdict(episode, stops).hypotheses[0].cause == "engine_stalls"
    slow = {**stops, **metrics_only(reading_share_of_wait=0.2)}
    assert verdict(episode, slow).hypotheses[0].cause == "accelerator_jitter"


def test_many_prompts_read_together_after_a_stop_make_no_slow_device() -> None:
    """In four seconds a hundred prompts pile up and are read together: prefill grows beyond tokens for a while and
    takes little of the wait. On a slow device it takes more, and less only of those who wait in a queue."""
    stops = metrics_only(
        itl_long_gaps__max=37.0, itl_long_gaps__baseline=0.0, itl_late_share__baseline=0.0, late_in_stops=0.28,
        itl_p50__ratio=1.07, itl_p99__ratio=1.06, itl_mean__ratio=1.6, itl_mean__baseline=0.018, slowed_alike=0.15,
        stalls=0, flat_s=0.0, longest_stall_s=0.0, catch_up=False, generation_rate__last=500.0, prefill_mix_ratio=1.02,
        preemption_rate__max=0.0, prompt_length_peak_ratio=1.05, longest_prompts_ratio=1.0, prefill_beyond_tokens=3.2,
        prefill_time_mean__last=0.15, prompt_tokens_mean__ratio=1.0, prompt_tokens_p99__ratio=1.0, waiting__max=0.0,
        scrape_seconds__max=0.03, scrape_tail_s__max=0.03, answered_scrape_s=0.01, arrivals_rush_ratio=1.05,
        reading_share_of_wait=0.15,
    )  # fmt: skip
    episode = Episode({"VLLMTokenGaps": "sporadic_slow"}, "engine_stalls")
    assert verdict(episode, stops).hypotheses[0].cause == "engine_stalls"
    for slow in (metrics_only(reading_share_of_wait=0.3), metrics_only(waiting__max=39.0)):
        assert verdict(episode, {**stops, **slow}).hypotheses[0].cause == "accelerator_jitter"


def test_who_loses_patience_as_a_larger_batch_makes_tokens_slow_is_no_storm() -> None:
    """Eight times as many requests, a batch four times as large and tokens half as slow again: all of the new ones
    leave, and hardly any finishes. Where tokens come as fast as ever it is they who leave."""
    crowd = metrics_only(
        unfinished_share__now=0.86, finish_rate__ratio=0.67, arrival_rate__ratio=8.0, running__ratio=4.2,
        generation_rate__ratio=2.5, itl_p50__ratio=1.45, itl_p99__ratio=1.96, flat_s=0.0, waiting__max=0.0,
        kv_usage__max=0.04, preemption_rate__max=0.0, prefill_mix_ratio=3.0, prompt_computed_rate__ratio=7.5,
        growth_by_length=0.0, generation_tokens_mean__ratio=0.88, delay_in_decode=0.99, generation_rate__last=320.0,
    )  # fmt: skip
    alerts = {"VLLMClientAborts": "low_throughput", "VLLMITLUnderLoad": "slow_decode"}
    episode = Episode(alerts, "batch_saturation")
    assert verdict(episode, crowd).hypotheses[0].cause == "batch_saturation"
    leaving = {**crowd, **metrics_only(itl_p50__ratio=1.02, itl_p99__ratio=1.05, delay_in_decode=0.0)}
    assert verdict(episode, leaving).hypotheses[0].cause == "client_abort_storm"


def test_so_many_calls_for_a_word_are_no_larger_batch() -> None:
    """Sixty times as many requests that say little: reading fills the steps, so the median token is late as well, and
    who waits beside free slots waits for that."""
    words = metrics_only(
        arrival_rate__ratio=66.0, generation_tokens_mean__ratio=0.04, generation_rate__ratio=2.9,
        prompt_tokens_mean__ratio=1.7, prompt_computed_rate__ratio=540.0, prefill_mix_ratio=187.0, itl_p50__ratio=3.3,
        itl_p99__ratio=3.0, unfinished_share__now=0.0, running__pinned=False, running__ratio=3.0, kv_usage__max=0.02,
        preemption_rate__max=0.0, catch_up=False, waiting__max=21.0, delay_in_decode=0.19,
    )  # fmt: skip
    episode = Episode({"VLLMITLUnderLoad": "slow_decode"}, "prefill_interference")
    assert verdict(episode, words).hypotheses[0].cause == "prefill_interference"


def test_what_speaks_against_a_slow_device_speaks_against_a_slow_link() -> None:
    """Three times as much to read and longer requests make steps longer on any device: a link between GPUs does not
    come before the device where one is not seen."""
    slow = metrics_only(
        itl_equal_batch_ratio=11.0, itl_mean__ratio=11.0, slowed_alike=1.0, arrival_rate__ratio=1.2,
        prompt_computed_rate__ratio=3.7, running__max=3.0, arrivals_rush_ratio=1.25, prompt_tokens_mean__ratio=2.3,
        generation_tokens_mean__ratio=1.7, kv_usage__max=0.01, preemption_rate__max=0.0, itl_p50__ratio=11.0,
    )  # fmt: skip
    found = verdict(Episode({"VLLMITLHigh": "slow_decode"}, "slow_accelerator"), slow).hypotheses
    assert found[0].cause == "slow_accelerator"
    assert "slow_collective" not in {hypothesis.cause for hypothesis in found[:3]}


def test_steps_that_are_slow_for_seconds_are_no_confirmed_stops() -> None:
    """A device slow at moments takes seconds for a step that reads a prompt, which looks like a stop; reading takes its
    share of the added wait. Where a usual step takes 80 ms a second is no stop unless that is known."""
    slow = metrics_only(
        itl_long_gaps__max=60.0, itl_long_gaps__baseline=0.0, itl_late_share__baseline=0.03, itl_p50__ratio=1.1,
        itl_p99__ratio=5.0, itl_mean__ratio=2.2, itl_mean__baseline=0.08, stalls=0, flat_s=0.0, longest_stall_s=0.0,
        catch_up=False, generation_rate__last=8.0, prefill_mix_ratio=0.9, preemption_rate__max=0.0,
        prompt_length_peak_ratio=1.3, longest_prompts_ratio=1.0, prefill_beyond_tokens=2.9,
        prompt_tokens_mean__ratio=1.1, prefill_time_mean__last=2.4,
        scrape_tail_s__max=1.6, scrape_tail_s__baseline=0.01, reading_share_of_wait=0.3,
    )  # fmt: skip
    episode = Episode({"VLLMTokenGapsRecur": "sporadic_slow"}, "accelerator_jitter")
    assert verdict(episode, slow).hypotheses[0].cause == "accelerator_jitter"
    unread = {name: fact for name, fact in slow.items() if "reading_share" not in name}
    unread.update(metrics_only(prefill_beyond_tokens=1.0))
    assert verdict(episode, unread).hypotheses[0].status != "confirmed"
    quick = {**unread, **metrics_only(itl_mean__baseline=0.01, reading_share_of_wait=0.19)}
    assert verdict(episode, quick).hypotheses[0].status != "confirmed"
    stops = {**unread, **metrics_only(reading_share_of_wait=0.05)}
    assert verdict(episode, stops).hypotheses[0].cause == "engine_stalls"
    assert verdict(episode, stops).hypotheses[0].status == "confirmed"


def test_late_tokens_by_the_servers_own_count_are_not_outside_of_it() -> None:
    """A few in a thousand move no percentile; that they are late in the server it says itself."""
    steady = metrics_only(
        e2e_p99__ratio=0.7, itl_p99__ratio=1.2, queue_time_p99__ratio=1.0, arrival_rate__ratio=1.26, stalls=0,
        preemption_rate__max=0.0, itl_mean__ratio=1.1, itl_p50__ratio=1.0, generation_rate__last=205.0,
    )  # fmt: skip
    episode = Episode({"VLLMTokenHaltsRecur": "sporadic_slow"}, "accelerator_jitter")
    assert verdict(episode, steady).hypotheses[0].cause == "retry_upstream"
    late = {**steady, **metrics_only(late_in_stops=0.0)}
    assert verdict(episode, late).hypotheses[0].cause != "retry_upstream"


def test_clients_that_lose_patience_with_slower_tokens_are_no_confirmed_storm() -> None:
    """More requests come and more are finished than before: who leaves may leave because answers take longer."""
    rush = metrics_only(
        unfinished_share__now=0.48, flat_s=0.0, generation_tokens_mean__ratio=0.57, waiting__max=0.0,
        arrival_rate__ratio=1.94, finish_rate__ratio=2.18, generation_rate__ratio=2.65, itl_p50__ratio=2.5,
    )  # fmt: skip
    episode = Episode({"VLLMClientAborts": "low_throughput"}, "client_abort_storm")
    assert verdict(episode, rush).hypotheses[0].status != "confirmed"
    fewer = {**rush, **metrics_only(finish_rate__ratio=0.6, arrival_rate__ratio=0.7, generation_rate__ratio=0.7)}
    assert verdict(episode, fewer).hypotheses[0].status == "confirmed"
