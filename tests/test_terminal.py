"""How does a report look to somebody at a terminal?"""

from __future__ import annotations

import re

import pytest

from responder.report import to_markdown
from responder.terminal import show_markdown
from tests.sample_report import sample

ANSI = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;[^\x1b]*\x1b\\")


def shown(text: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of a terminal that wide."""
    monkeypatch.setenv("COLUMNS", str(columns))
    show_markdown(text, to_terminal=True)
    return ANSI.sub("", capsys.readouterr().out).split("\n")


@pytest.mark.parametrize("columns", [60, 80, 110])
def test_no_word_of_a_list_line_is_cut_at_a_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every word of every list line is there, and the lines that go on are indented under their first."""
    words = "1. Cut the load " + "at the router " * 12 + "`--max-num-seqs 16`. Trade-off: a longer queue at peaks.\n"
    lines = shown(words, columns, monkeypatch, capsys)
    assert " ".join(" ".join(lines).split()).endswith("--max-num-seqs 16. Trade-off: a longer queue at peaks.")
    assert " ".join(lines).count("router") == 12
    assert max(map(len, lines)) <= columns
    first, *others = [line for line in lines if line.strip()]
    assert first.startswith(" 1 ")
    assert others
    assert all(line.startswith("   ") for line in others)


def test_every_remedy_of_a_report_is_whole_at_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also at 60 columns."""
    text = to_markdown(sample())
    said = re.sub(r"[`\\*]", "", " ".join(re.findall(r"^\d\. (.*)$", text, re.MULTILINE))).split()
    assert len(said) > 10
    seen = set(" ".join(shown(text, 60, monkeypatch, capsys)).split())
    assert not [word for word in said if len(word) < 50 and word not in seen and word != "—"]


def test_without_a_terminal_it_is_the_markdown_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """What is piped on stays as it is."""
    text = "1. a " + "b " * 200
    show_markdown(text)
    assert capsys.readouterr().out == text + "\n"
