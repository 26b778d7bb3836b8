"""Is a remedy offered where it helps, and with the number that fits this server?"""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.capture import STEPS
from responder.claims import Facts
from responder.config import Config
from responder.content import check
from responder.load import load_content
from responder.model import Attempt, Clause, Fact, Remedy, Scalar
from responder.model import Test as Conditions
from responder.remedies import applicable, reckoned
from responder.replay import replay

RECORDED = Path(__file__).parent / "incidents" / "cpu_kv_starvation"
LOWER = Remedy(
    says="Let fewer run", option="--max-num-seqs <lower>", tradeoff="a queue", now="config.max_num_seqs",
    attempt=Attempt(times=0.5, at_least=1),
)  # fmt: skip


def look(**values: Scalar) -> Facts:
    """What was known of the server's configuration."""
    return {
        f"config.{name}": Fact(name=f"config.{name}", value=value, step="server_config")
        for name, value in values.items()
    }


def on(device: str) -> Conditions:
    return Conditions(all=(Clause(fact="config.device", op="==", value=device),))


def test_what_is_set_is_shown_and_the_number_to_try_filled_in() -> None:
    """Half of 32 is 16; with nothing known the blank stays."""
    (filled,) = applicable([LOWER], [look(max_num_seqs=32)])
    assert (filled.option, filled.found) == ("--max-num-seqs 16", 32)
    (unknown,) = applicable([LOWER], [look()])
    assert (unknown.option, unknown.found) == ("--max-num-seqs <lower>", None)


def test_a_number_reckoned_from_what_runs_is_whole_and_below_what_is_set() -> None:
    """Three quarters of 7 running are 5 slots; where that would be no fewer than are set, nothing is offered."""
    lower = LOWER.model_copy(update={"attempt": Attempt(of="config.running", times=0.75, at_least=1)})
    (filled,) = applicable([lower], [look(max_num_seqs=32, running=7.0)])
    assert filled.option == "--max-num-seqs 5"
    assert applicable([lower], [look(max_num_seqs=32, running=64.0)]) == ()


def test_a_number_that_is_set_already_leaves_nothing_to_try() -> None:
    """One request at a time cannot be fewer."""
    assert applicable([LOWER], [look(max_num_seqs=1)]) == ()


@pytest.mark.parametrize(
    ("start", "attempt", "wanted"),
    [
        (256, Attempt(times=0.5), 128), (33, Attempt(times=0.5), 16), (32, Attempt(times=0.85), 27),
        (0.92, Attempt(plus=0.03, at_most=0.96), 0.95), (0.95, Attempt(plus=0.03, at_most=0.96), 0.96),
        (2048, Attempt(times=0.25, at_least=256), 512), (512, Attempt(times=0.25, at_least=256), 256),
        (1, Attempt(plus=3, at_most=16), 4),
    ],
)  # fmt: skip
def test_the_number_is_of_the_kind_that_is_set(start: float, attempt: Attempt, wanted: float) -> None:
    """Whole where the setting is whole, within the limits."""
    number = reckoned(start, attempt)
    assert number == wanted
    assert isinstance(number, type(start))


@pytest.mark.parametrize(
    ("facts", "only_if", "unless"),
    [(look(device="cpu"), True, False), (look(device="cuda"), False, True), (look(), False, True)],
)
def test_a_condition_decides_whether_it_is_offered(facts: Facts, only_if: bool, unless: bool) -> None:
    """`only_if` must be known to hold, `unless` must not be known to hold."""
    assert bool(applicable([LOWER.model_copy(update={"only_if": on("cpu")})], [facts])) is only_if
    assert bool(applicable([LOWER.model_copy(update={"unless": on("cpu")})], [facts])) is unless


def test_looks_that_disagree_speak_for_a_remedy() -> None:
    """A process that was stopped at one look may stop again: what lets it go on stays in the report."""
    looks = [look(device="cuda"), look(device="cpu"), look()]
    assert applicable([LOWER.model_copy(update={"unless": on("cpu")})], looks)
    assert applicable([LOWER.model_copy(update={"only_if": on("cpu")})], looks)


def test_a_server_on_a_cpu_with_blocks_set_by_hand_is_told_what_helps_there() -> None:
    """Recorded: no share of GPU memory, no fp8, no more GPUs; the override goes, and the slots are named."""
    content = check(Config(), STEPS)[0]
    top = replay(RECORDED, STEPS, content).verdict.hypotheses[0]
    options = [remedy.option for remedy in top.remedies]
    assert "--num-gpu-blocks-override" in options
    assert "--max-num-seqs 7" in options
    for useless in ("--gpu-memory-utilization", "fp8", "--tensor-parallel-size", "VLLM_CPU_KVCACHE_SPACE"):
        assert not any(useless in option for option in options), useless


def test_where_a_worker_is_kept_from_running_nobody_is_sent_to_the_cooling() -> None:
    """Recorded on an H200 whose GPU ran at its full clock: the process is named, neither heat nor the power cap."""
    content = check(Config(), STEPS)[0]
    top = replay(RECORDED.parent / "h200_heat_soak_three_steps", STEPS, content).verdict.hypotheses[0]
    first, *others = [remedy.says for remedy in top.remedies]
    assert "a worker process is kept from running" in first
    assert not any(word in said for said in others for word in ("cooling", "power cap"))


def test_every_blank_that_can_be_filled_is() -> None:
    """A shipped remedy that leaves a number of vLLM's open says what it is now or what to try."""
    numbers = ("--max-num", "--gpu-memory", "--max-model-len", "--tensor-parallel", "--api-server", "--long-prefill")
    for cause in check(Config(), STEPS)[0].causes:
        for remedy in cause.remedies:
            if remedy.option.startswith(numbers) and "<" in remedy.option and "--max-num-queued" not in remedy.option:
                assert remedy.now or remedy.attempt, (cause.id, remedy.option)


BAD = """\
apiVersion: responder/v1
kind: Cause
id: capacity_exceeded/mine
title: t
says: s
evidence: [{id: a, group: a, when: metrics.waiting.now > 1, yes: +3 dB, says: s}]
confirm: [a]
would_disprove: {says: s}
remedies:
  - says: Let fewer run.
    option: {option}
    {keys}
    tradeoff: t
"""


@pytest.mark.parametrize(
    ("option", "keys", "said"),
    [
        ("--max-num-seqs 16", "try: {times: 0.5}", "exactly one blank"),
        ("--max-num-seqs <lower>", "try: {times: 0.5}", "needs `now`"),
        ("--max-num-seqs <lower>", "now: config.max_num_seq", "no step captures the fact `config.max_num_seq`"),
        ("--max-num-seqs <lower>", "unless: config.devise == cpu", "no step captures the fact `config.devise`"),
        ("--max-num-seqs <lower>", "try: {of: config.max_seqs, times: 2}", "no step captures the fact"),
        ("--max-num-seqs <lower>", "{now: config.max_num_seqs, try: {at_least: 1}}", "changes nothing"),
    ],
)
def test_a_mistake_in_a_remedy_is_found_with_its_line(tmp_path: Path, option: str, keys: str, said: str) -> None:
    """`responder check` reads conditions and templates as it reads evidence."""
    file = tmp_path / "mine.yaml"
    keys = keys if not keys.startswith("{") else keys[1:-1].replace(", try", "\n    try")
    file.write_text(BAD.replace("{option}", option).replace("{keys}", keys))
    facts = [spec.name for step in STEPS.values() for spec in step.facts]
    _, problems = load_content([], [tmp_path], {name: step.params for name, step in STEPS.items()}, facts)
    found = [problem for problem in problems if said in problem.what]
    assert found, [problem.what for problem in problems]
    assert all(problem.line >= 9 for problem in found)


@pytest.mark.parametrize(
    ("start", "attempt"),
    [
        (0.98, Attempt(plus=0.03, at_most=0.96)), (256, Attempt(times=0.5, at_least=512)),
        (0.45, Attempt(plus=-0.05, at_least=0.5)),
    ],
)  # fmt: skip
def test_a_limit_never_turns_a_remedy_into_its_contrary(start: float, attempt: Attempt) -> None:
    """More memory for the KV cache, where 0.98 is set, is not 0.96: that would make the trouble worse."""
    remedy = LOWER.model_copy(update={"attempt": attempt})
    assert applicable([remedy], [look(max_num_seqs=start)]) == ()
