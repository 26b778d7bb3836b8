"""Is every language whole, and does a report in it read as one?"""

from __future__ import annotations

import re
from typing import Any

import pytest

from responder.content import tongue
from responder.model import Missing
from responder.report import contract, summary_text, to_html, to_markdown
from responder.report_rows import DERIVED
from responder.report_signals import signal_words
from responder.report_unknown import missing_line
from responder.signal_words import summary
from responder.words import CODES, ENGLISH, en, language, say, speaking, spoken, told
from tests.replayed import content, replayed
from tests.sample_report import sample

OTHERS = [code for code in CODES if code != ENGLISH.code]
HELD = re.compile(r"\{(\w+)\}")
ENOUGH = 0.95
"""Of the sentences of content: one that was just changed is told in English until somebody translates it."""


def sentences() -> set[str]:
    """Everything a cause says, and what captures are run for."""
    out: set[str] = set()
    for cause in content().causes:
        out |= {cause.title, cause.says, cause.would_disprove.says, *(one.says for one in cause.titles)}
        out |= {words for weight in cause.evidence for words in (weight.says, weight.says_not)}
        out |= {part.says for part in cause.told_apart}
        out |= {words for remedy in cause.remedies for words in (remedy.says, remedy.tradeoff)}
    out |= {call.why for book in content().playbooks for call in book.ladder}
    return out - {""}


@pytest.mark.parametrize("code", OTHERS)
def test_no_fixed_words_are_missing(code: str) -> None:
    """The same keys with the same parts in them; no language has words nobody says."""
    words, signals = language(code).words, language(code).signals
    assert set(words) == set(en.WORDS)
    assert set(signals) == set(en.SIGNALS)
    for key, english in en.WORDS.items():
        assert set(HELD.findall(words[key])) == set(HELD.findall(english)), key
        assert words[key] or not english, key


def test_every_signal_a_report_may_show_has_a_name() -> None:
    """Nobody reads `occupancy` or `open_fds` at night; those computed from others are not shown as changed."""
    shown = [one.name for one in content().signals if not one.name.endswith(DERIVED)]
    assert [name for name in shown if signal_words(name) == name.replace("_", " ")] == []


@pytest.mark.parametrize("code", OTHERS)
def test_what_causes_say_is_translated(code: str) -> None:
    """Every title, and nearly every sentence."""
    texts = tongue(code).texts
    assert {one.title for one in (*content().causes, *content().playbooks)} - set(texts) == set()
    missing = sentences() - set(texts)
    assert len(missing) <= (1 - ENOUGH) * len(sentences()), sorted(missing)


@pytest.mark.parametrize("code", OTHERS)
def test_every_alert_is_told_in_it(code: str) -> None:
    """The summary with value, bucket and limit filled in."""
    with speaking(tongue(code)):
        left = []
        for rule in content().rules:
            signal = rule.terms[0].signal if rule.terms else ""
            for value, threshold in ((7.2, 2.0), (0.4, 0.0)):
                words = summary(rule.summary, signal, value, threshold, {})
                left += [words] if told(words) == words else []
    assert left == []


@pytest.mark.parametrize("code", OTHERS)
@pytest.mark.parametrize("stage", ["first", "final", "resolved"])
def test_no_heading_or_sentence_of_ours_stays_english(code: str, stage: Any) -> None:
    """None of the English fixed words of two words and more is in the text."""
    report = sample(stage)
    # What happened is told in sentences of their own, which have a test of their own.
    report = report.model_copy(update={"incident": report.incident.model_copy(update={"timeline": ()})})
    text = to_markdown(report, language(code)) + summary_text(report, language(code))
    fixed = {part.strip(" .,:;()") for words in en.WORDS.values() for part in HELD.split(words)[::2]}
    for words in fixed:
        if words.count(" ") >= 2:
            assert words not in text, words
    assert f'<html lang="{language(code).html}">' in to_html(sample(stage), {}, language(code))


def test_a_recorded_incident_in_chinese() -> None:
    """The hang of a rank on two H200s, with its causes, evidence and actions."""
    report = replayed("h200_tp2_rank_stopped")
    text = to_markdown(report, tongue("zh"))
    for words in ("一个 worker 进程卡死（已确认，", "## 现在该做什么", "现在可安全执行",
                  "`kill -CONT PID`", "37 个请求在处理中",
                  "数据中最早的迹象", "NCCL 自己的监控收不到某个 rank 的数据"):  # fmt: skip
        assert words in text
    assert contract(report, tongue("zh"))["language"] == "zh"


def test_the_language_ends_with_the_text() -> None:
    """Nothing said afterwards is in it."""
    with speaking(language("zh")):
        assert say("yes") == "是"
    assert (say("yes"), spoken()) == ("yes", ENGLISH)


def test_unknown_languages_are_refused() -> None:
    """With those there are."""
    with pytest.raises(ValueError, match="there are en, zh"):
        language("xx")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("en", "Why it happened is not known. Looked for and not found: a kill for memory"),
        ("zh", "它为什么发生，尚不清楚。"),
    ],
)
def test_a_crash_says_that_nobody_knows_why(code: str, why: str) -> None:
    """A worker that was killed leaves a dead engine in the log and no reason; requests are told as last seen."""
    report = replayed("engine_crash_worker_killed")
    text = to_markdown(report, tongue(code))
    with speaking(tongue(code)):
        last = say("broken.load_last", load="").rstrip(".。")
    assert why in text
    assert last in text


def test_claims_joined_by_semicolons_are_each_translated() -> None:
    """Also one that holds a semicolon of its own."""
    whole = "scrapes fail; the API server of a hung engine goes on answering them"
    item = Missing(
        step="a",
        why="it ran, and what it brought does not say",
        would_tell=f"a GPU is throttled or below its clock; {whole}",
    )
    with speaking(tongue("zh")):
        line = missing_line(item)
    assert "有 GPU 被降频或低于其时钟；抓取失败" in line
    assert not re.search("[a-z]{4,} [a-z]{4,}", line)


def test_no_reason_of_a_recorded_incident_stays_english() -> None:
    """Why captures failed or were left out, what they were run for, what grew: of a dead server, the hardest case."""
    report = replayed("engine_crash_worker_killed")
    text = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)", "", to_markdown(report, tongue("zh")))
    english = {line for line in re.split(r"[|\n：；（）。]", text) if re.search(r"(?:\b[a-z']{2,} ){3,}[a-z]", line)}
    quoted = ("EngineCore", "Worker proc", "encountered a fatal error")
    assert {line for line in english if not any(words in line for words in quoted)} == set()
