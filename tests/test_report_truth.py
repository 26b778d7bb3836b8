"""Does a report say anything that its own evidence denies, or that nobody can act on?"""

from __future__ import annotations

from responder.content import tongue
from responder.model import Evidence, Outcome
from responder.notify.slack_blocks import headline
from responder.report import contract, to_html, to_markdown
from responder.report_answers import answers
from responder.report_rows import rivals
from responder.report_words import phrase
from responder.words import speaking
from tests.replayed import content, replayed


def first_screen(name: str) -> str:
    """The five answers of a recorded incident."""
    return to_markdown(replayed(name)).partition("\n## Evidence")[0]


def test_a_pause_that_was_there_before_is_not_told_as_the_responders() -> None:
    """The worker hung before the canary was sent; its 8 s without a token are no pause of ours, also in old records."""
    report = replayed("h100_worker_hang_busy")
    recorded = next(item for item in report.evidence if item.step == "canary")
    assert recorded.pause_seconds > 5
    assert "paused the server" not in to_markdown(report)


def test_a_canary_without_an_answer_is_not_told_as_ok() -> None:
    """That the capture ran is one thing, that no token came back the other; both stand in timeline and captures."""
    text = to_markdown(replayed("h100_worker_hang_busy"))
    assert "canary (rung 1, look): done, 8 s, 255 B; no token came back within 8 s" in text
    assert "| `canary` | 1 | done | 8 s, 255 B | no token came back within 8 s |" in text
    assert "| ok |" not in text


def test_the_load_of_a_silent_server_is_what_it_said_last() -> None:
    """Nobody knows how much a frozen front end held meanwhile; `at most` is said of what was watched."""
    assert "Requests before it stopped answering: 0 running" in first_screen("cpu_frontend_stopped")
    assert "At most at a time: 16 running" in first_screen("cpu_prefix_collapse")


def test_a_stop_is_told_with_its_length() -> None:
    """How finely it was looked stands beside the number, not in its place."""
    assert "longest stop seen 6 s (seen in scrapes 1 s apart" in first_screen("engine_stalls_every_ten")
    assert "`metrics.stalls` 19: seen in scrapes 1 s apart" in to_markdown(replayed("engine_stalls_every_ten"))


def test_values_of_two_looks_are_told_apart() -> None:
    """What is not the last look's says of when it is; what is says nothing."""
    text = to_markdown(replayed("prefill_interference_steady"))
    assert "`metrics.running.pinned` no; `metrics.waiting.max` 8 requests (usual 0 requests)" in text
    assert "(usual 0.3 %) (at 21:11:09)\n" in text
    assert "Requests arriving 1.92× its usual (at 21:37:54)" in first_screen("cpu_prefix_collapse")
    assert "— Prompt tokens computed 26× its usual\n" in first_screen("cpu_prefix_collapse")


def test_one_of_two_faults_is_not_said_to_be_probable_and_unlikely_at_once() -> None:
    """What is left of the weight for the second one is no measure of it: it is as likely as such pairs are."""
    text = to_markdown(replayed("h200_cold_and_more_twofold"))
    assert "(`capacity_exceeded`, probable, 89 %)" in text
    assert "probable, 0." not in text


def test_what_is_named_beside_the_first_is_no_other_explanation() -> None:
    """Two that are both said to be there are not each other's rivals among what is not known."""
    text = to_markdown(replayed("h200_aborts_and_slow_eighth"))
    assert "and beside it: Clients give up and go away" in text.splitlines()[0]
    assert "It could also be" not in text


def test_a_verdict_of_today_is_marked_as_one() -> None:
    """What was said then is another verdict, and stands as that; else nothing is marked."""
    report = replayed("frontend_starved_thirtieth_in_blocks")
    text = to_markdown(report)
    assert text.splitlines()[2].startswith("Judged again with today's playbooks.")
    assert "| cause, as said then | None of the known causes fits: unknown (56%) |" in text
    assert "cause, as said then: None of the known causes fits" in to_html(report, {})
    then = report.model_copy(update={"judged_anew": False})
    assert "as said then" not in to_markdown(then) + to_html(then, {})
    assert "Judged again" not in to_markdown(then) + to_html(then, {})


def test_an_unknown_cause_says_what_to_look_at() -> None:
    """The capture that found nothing to look at first, then how to tell the likeliest causes; no tautology."""
    report = replayed("cpu_spike")
    first, *others = report.verdict.hypotheses
    unknown = next(h for h in others if h.cause == "unknown").model_copy(update={"probability": 0.6})
    blind = Evidence(id="metrics_window-9", step="metrics_window", rung=0, outcome=Outcome.FAILED, started_at=0.0,
                     seconds=1.0, reason="Prometheus has no series of this server in the window")  # fmt: skip
    ranked = (unknown, first, *(h for h in others if h.cause != "unknown"))
    verdict = report.verdict.model_copy(update={"hypotheses": ranked})
    report = report.model_copy(update={"verdict": verdict, "evidence": (*report.evidence, blind)})
    found = {answer.key: answer for answer in answers(report)}
    assert found["do"].items[0] == (
        "`metrics_window` brought nothing to judge by: Prometheus has no series of this server in the window."
    )
    assert found["do"].items[1].startswith(f"{first.title}? Not if: ")
    assert found["cause"].items[0].startswith(f"Nearest to it: {first.title} (")
    assert "Any listed cause" not in " ".join(found["do"].items)


def test_an_unlikely_unknown_comes_last_and_without_a_list() -> None:
    """That 0.2 % speak for no known cause is one line below the others."""
    last = rivals(replayed("h100_worker_hang_busy"))[-1]
    assert (last.cause, last.says, last.separates) == ("unknown", "", ())


def test_a_few_seconds_of_before_are_not_told_as_a_change_of_traffic() -> None:
    """Of a server that hangs, whoever was stuck asks again: on 28 s of history that would read as the trigger. What
    compares with the last hour is not told as something the server does not give."""
    text = first_screen("h100_worker_hang_busy")
    assert "What users send" not in text
    assert "What is called usual, or the last hour, rests on only 28 s" in text
    assert "against the last hour" not in text
    assert "usual samples" not in text


def test_raw_files_are_one_line_a_step() -> None:
    """By folder: a hundred lines of links bury what stands above them."""
    lines = to_markdown(replayed("prefill_interference_steady")).partition("## Raw files\n\n")[2].splitlines()
    assert "- [kernel](raw/kernel) (6), [kernel-2](raw/kernel-2) (6), " in "\n".join(lines)
    assert len(lines) < 25


def test_no_cause_states_what_the_report_lists_as_not_known() -> None:
    """Whether decoding is healthy was not seen: the cause does not say that it is."""
    assert "decoding itself is healthy" not in first_screen("h100_two_at_once_spike_and_crowd")


def test_remedies_fit_what_was_found() -> None:
    """A process that is stopped lacks no CPU; a frozen one ignores SIGTERM; 16 slots for 8 running requests change
    nothing; a busy host is looked at before a power cap, and without nvidia-smi where there is no GPU."""
    starved = first_screen("frontend_starved_thirtieth_in_blocks")
    assert "1. Safe now — Its process is found stopped (state T)" in starved
    assert "more CPU, and keep" not in starved
    frozen = first_screen("h100_frontend_frozen_busy")
    assert "`kill -KILL 606; kill -TERM 811`" in frozen
    full = first_screen("cpu_kv_starvation")
    assert "`--max-num-seqs 7` (now 32)" in full
    assert "Safe now — Add replicas" in full
    assert (
        "start without this option, and vLLM counts what fits into memory: `--num-gpu-blocks-override` (now 128)"
        in full
    )
    busy = first_screen("slow_accelerator_busy_sixth")
    assert "1. Safe now — Every core of the host is busy" in busy
    assert "nvidia-smi" not in busy
    assert "power cap" not in busy


def test_commands_hold_no_redirection_and_no_prose() -> None:
    """What is left to fill in is a word in capitals, what to leave out is the option itself; metrics are code."""
    for cause in content().causes:
        for remedy in cause.remedies:
            assert not remedy.option.startswith("drop "), cause.id
            assert "(" not in remedy.option.partition(" ")[0], cause.id
    assert "\\\\" not in first_screen("h100_frontend_frozen_busy")


def test_what_moved_first_is_told_in_words_of_the_field() -> None:
    """The signal's name, and before the onset as `before`."""
    text = to_markdown(replayed("prefill_interference_steady"))
    assert "`metrics.first_mover` Prompt length, mean: went up first, 8 s before the onset" in text


def test_values_have_units_and_nothing_is_zero_times_its_usual() -> None:
    """Watts and per cent of a GPU; what is gone is told with what was usual."""
    text = to_markdown(replayed("h100_worker_hang_busy"))
    assert "| GPU power | 439 W | 130 W |" in text
    assert "| GPU utilisation | 93.5 % | 0 % |" in text
    assert "How busy the server is" not in text
    assert "Prefix-cache hit rate 0 %, usually 96 %" in first_screen("cpu_prefix_collapse")


def test_what_a_library_says_is_told_in_our_words() -> None:
    """A refused connection, in both languages."""
    said = "Cannot connect to host 127.0.0.1:8000 ssl:default [Connect call failed ('127.0.0.1', 8000)]"
    assert phrase(f"/metrics: {said}") == "/metrics: nobody listens on the port"
    with speaking(tongue("zh")):
        assert phrase(said) == "端口无人监听"
        assert phrase("A one-token request has had no answer for 9.04 s; nothing else moves").startswith(
            "一个单 token 请求已 9.04 秒"
        )
    assert "到达的请求是平时的" in to_markdown(replayed("cpu_prefix_collapse"), tongue("zh"))


def test_a_slack_header_keeps_the_cause() -> None:
    """150 characters hold state, server and cause; the class is told below."""
    told = contract(replayed("h100_worker_hang_busy"))
    assert headline(told) == told["title"]
    long = told | {"title": told["title"] + "x" * 60}
    assert headline(long) == "OPEN · critical · 127.0.0.1:35773: A worker process hangs (confirmed, 99 %)"
