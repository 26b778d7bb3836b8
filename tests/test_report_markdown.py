"""Can a person just woken act on the Markdown, and does foreign text stay text in it?"""

import re

import pytest
from markdown_it import MarkdownIt

from responder.model import Fact, Remedy, Status
from responder.report import summary_text, to_html, to_markdown
from responder.report_answers import answers as first_screen
from responder.report_answers import remedy_line, set_now
from responder.report_facts import spoken
from tests.hostile import HOSTILE
from tests.sample_report import CAPACITY, KV, UNKNOWN, hostile, sample

RENDER = MarkdownIt("commonmark", {"html": True}).enable("table").render


def answers(markdown: str) -> dict[str, str]:
    """Heading -> text of the first screen."""
    parts = re.split(r"^## (.+)$", markdown, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_five_answers_come_first_and_in_order():
    """What, since when, why, what now, what is unknown."""
    headings = re.findall(r"^## (.+)$", to_markdown(sample()), flags=re.MULTILINE)
    assert headings[:5] == [
        "What is broken", "Since when", "Most likely cause", "What to do now", "What we do not know"
    ]  # fmt: skip


def test_the_title_says_it_all():
    """State, severity, server, trouble, cause and how sure."""
    assert to_markdown(sample()).splitlines()[0] == (
        "# OPEN · critical · chat-70b-a:8000: the first token comes late — "
        "KV cache too small for the running requests (probable, 87 %)"
    )


def test_for_whom_and_how_many():
    """Model, server, and the requests in flight."""
    said = answers(to_markdown(sample()))["What is broken"]
    assert "users of `chat-70b` on `chat-70b-a:8000`" in said
    assert "Requests when measured: 31 running, 118 waiting" in said
    assert "TTFT p99 is between 5 s and 7.5 s, limit 2 s" in said


def test_safe_actions_come_first_with_option_and_price():
    """Numbered, exact option, trade-off."""
    said = answers(to_markdown(sample()))["What to do now"]
    lines = [line for line in said.splitlines() if re.match(r"\d\.", line)]
    assert lines[0].startswith("1. Safe now — Send part of this model's traffic")
    assert "`--gpu-memory-utilization 0.95`. Trade-off: less room" in lines[1]


def test_what_is_not_known_is_said():
    """Missing evidence with its reason, failed captures, absent signals."""
    said = answers(to_markdown(sample()))["What we do not know"]
    assert "No answer from `gpu` (skipped: NVML is not available on this machine)" in said
    assert "`endpoints` timed out: /load did not answer within 5 s" in said
    assert "Signals without a value here: Inter-token latency p99 by engine; Draft tokens accepted" in said


def test_a_close_second_is_on_the_first_screen():
    """From 15 % on another cause is named with the unknowns."""
    close = CAPACITY.model_copy(update={"probability": 0.3})
    verdict = sample().verdict.model_copy(update={"hypotheses": (KV, close, UNKNOWN)})
    said = answers(to_markdown(sample(verdict=verdict)))["What we do not know"]
    assert "It could also be: More requests than this server can serve (possible, 30 %)" in said


def test_two_equally_likely_causes_are_both_in_the_title():
    """A cause at 50 % with another at 48 % is no headline."""
    first = KV.model_copy(update={"status": Status.POSSIBLE, "probability": 0.5})
    close = CAPACITY.model_copy(update={"probability": 0.48})
    verdict = sample().verdict.model_copy(update={"hypotheses": (first, close, UNKNOWN)})
    both = "KV cache too small for the running requests (50 %) or More requests than this server can serve (48 %)"
    assert to_markdown(sample(verdict=verdict)).splitlines()[0].endswith(f"not settled: {both}")
    page = to_html(sample(verdict=verdict), {})
    assert "<h1>Not settled: KV cache too small for the running requests, or More requests than" in page


def test_unknown_is_said_as_unknown():
    """No cause is claimed, no action invented; the title claims none either."""
    verdict = sample().verdict.model_copy(update={"hypotheses": (UNKNOWN, KV)})
    text = to_markdown(sample(verdict=verdict))
    assert answers(text)["Most likely cause"].strip().startswith("Not known (4 % of the weight).")
    assert "No action is known for this" in answers(text)["What to do now"]
    assert text.splitlines()[0].endswith("the first token comes late")


def test_the_first_message_does_not_pretend():
    """Before any capture is back nothing is claimed."""
    said = answers(to_markdown(sample("first")))
    assert "No cause is named yet; captures are running." in said["Most likely cause"]
    assert "no capture has come back yet" in said["What we do not know"]


def test_resolved_says_how_long_it_lasted():
    """End, length, and that nothing is urgent."""
    said = answers(to_markdown(sample("resolved")))
    assert "over at 03:23:46 UTC after 11 min 6 s" in said["Since when"]
    assert "It is over, nothing is urgent" in said["What to do now"]


def test_refused_captures_say_why():
    """A capture that did not run is a row like any other."""
    assert "rung 3 needs a person's approval" in answers(to_markdown(sample()))["Captures"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_renders_as_text(text):
    """After rendering there is no active element, no picture, and no link but those to our raw files."""
    html = RENDER(to_markdown(hostile(text)))
    assert not re.search(r"<(script|img|svg|style|iframe|object)\b", html, re.IGNORECASE)
    assert all(link.startswith("raw/") for link in re.findall(r'href="([^"]*)"', html))
    assert len(re.findall(r"<h1>", html)) == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_addresses_in_foreign_text_are_not_linked(text):
    """Renderers that link bare addresses find none outside code spans."""
    outside = re.sub(r"`[^`]*`", "", to_markdown(hostile(text)))
    assert not re.search(r"(?i)(?<!\\)\b(https?|ftp)://|(?<!\\)\bwww\.", outside)


@pytest.mark.parametrize("text", ["", *HOSTILE])
@pytest.mark.parametrize("stage", ["first", "final", "resolved"])
def test_the_summary_is_short_and_plain(text, stage):
    """At most 1,000 characters, whatever the words are."""
    said = summary_text(hostile(text) if text else sample(stage))
    assert 0 < len(said) <= 1000
    assert all(line.isprintable() for line in said.split("\n"))


def test_the_summary_carries_cause_and_action():
    """A pager shows only this."""
    said = summary_text(sample())
    assert "probable, 87 %" in said
    assert "Safe now — Send part of this model's traffic" in said


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        (Fact(name="canaries.token_zero", value=True, step="a"), "every answer is token 0 alone: yes"),
        (Fact(name="endpoints.reachable", value="refused", step="a", says="nobody listens on the port"),
         "/health: refused (nobody listens on the port)"),
        (Fact(name="processes.engine_missing", value=True, step="a", says="EngineCore (pid 3)."),
         "the engine process is gone: EngineCore (pid 3)"),
        (Fact(name="canary.seconds", value=2.5, unit="s", step="a"), "one-token request took 2.5 s"),
        (Fact(name="log.stats_silent_s", value=12.0, unit="s", step="a", says="since the last stats line"),
         "time without a stats line in the log 12 s (since the last stats line)"),
    ],
)  # fmt: skip
def test_a_fact_is_said_once_and_apart_from_its_name(fact, words):
    """A yes or a state does not run into the name before it, and words about a time do not take its place."""
    assert spoken(sample(), fact) == words


def test_an_option_left_open_says_what_it_is_set_to():
    """As it is written on a command line; nothing where the server's setting is not known."""
    lower = Remedy(
        says="Let fewer run", option="--max-num-seqs 16", tradeoff="a longer queue", now="config.max_num_seqs"
    )
    assert set_now(lower.model_copy(update={"found": 32})) == "32"
    assert set_now(lower.model_copy(update={"found": 0.92})) == "0.92"
    assert set_now(lower) == set_now(lower.model_copy(update={"found": True})) == ""
    assert "`--max-num-seqs 16` (now 32)" in remedy_line(sample(), lower.model_copy(update={"found": 32}))


def test_the_model_is_named_when_only_the_server_says_it():
    """Probes and logs carry no label of the model."""
    report = sample()
    bare = tuple(symptom.model_copy(update={"labels": {}}) for symptom in report.incident.symptoms)
    served = Fact(name="endpoints.models", value="big, small", step="endpoints")
    evidence = (report.evidence[0].model_copy(update={"facts": (served,)}),)
    incident = report.incident.model_copy(update={"symptoms": bare})
    lead = first_screen(report.model_copy(update={"incident": incident, "evidence": evidence}))[0].lead
    assert "users of `big`, `small` on" in lead


def test_noticed_at_once_is_said_so():
    """Not '0 s after it began'."""
    report = sample()
    incident = report.incident.model_copy(update={"opened_at": report.incident.onset_at + 0.2})
    assert first_screen(report.model_copy(update={"incident": incident}))[1].lead.endswith("Noticed at once.")
