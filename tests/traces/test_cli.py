"""The command: text, JSON, page, comparison, and how it ends."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from responder.traces.cli import trace
from tests.traces import real
from tests.traces.scene import Scene, transformer

app = typer.Typer()
app.command()(trace)


def ask(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.stdout, done.stderr


def test_the_text_says_first_what_stands_out() -> None:
    """Then ranks, steps, kernels, in that order."""
    code, out, _ = ask(real.DATA / real.GRAPH, real.DATA / real.GRAPH_1)
    assert code == 0
    assert out.startswith("What stands out\n")
    assert "of 268.4 MB" in out.split("Across")[0]
    for words in (
        "While the GPU idled, the CPU was",
        "GPU time by kind",
        "Layers (repetition",
        "2 traces, 102,088 events",
    ):
        assert words in out


def test_json_is_the_whole_result() -> None:
    """For machines."""
    code, out, _ = ask(real.DATA / real.LLAMA, "--format", "json")
    assert code == 0
    (rank,) = json.loads(out)["ranks"]
    assert rank["steps"]["count"] == 8


def test_a_comparison_is_told_first(tmp_path: Path) -> None:
    """What grew, then the rest."""
    well = transformer(4, 8).write(tmp_path / "well.json")
    sick = transformer(4, 8, slow_layer=1).write(tmp_path / "sick.json")
    code, out, _ = ask(sick, "--compare", well)
    assert code == 0
    assert "Matrix multiplication grew most" in out.splitlines()[1]


@pytest.mark.parametrize("arguments", [["--format", "yaml", "x"], []])
def test_wrong_use_ends_with_two(arguments: list[str]) -> None:
    """As every command of ours."""
    assert ask(*arguments)[0] == 2


def test_nothing_readable_ends_with_one_and_says_why(tmp_path: Path) -> None:
    """In text and beside JSON."""
    bad = tmp_path / "bad.json"
    bad.write_text("hello")
    code, out, _ = ask(bad)
    assert (code, "this is no profiler trace" in out) == (1, True)
    code, out, err = ask(bad, "--format", "json")
    assert (code, json.loads(out)["ranks"], "this is no profiler trace" in err) == (1, [], True)


class Checker(HTMLParser):
    """Every tag that opens closes, nothing is loaded from outside, no script of the trace's."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts = 0
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in ("meta", "line", "rect", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            assert tag in ("line", "rect")


def check(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert checker.scripts == 1
    assert all(not source.startswith(("http", "//", "javascript")) for source in checker.sources)
    return checker


def test_the_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    """Timeline, bars, tables, layers; a button for Perfetto with the way to the trace."""
    page = tmp_path / "page.html"
    code, _, err = ask(real.DATA / real.GRAPH, real.DATA / real.GRAPH_1, "--html", page)
    assert (code, "page:" in err) == (0, True)
    html = page.read_text()
    check(html)
    for words in (
        "What stands out",
        "Across ranks",
        "GPU time by kind of work",
        "Instances unlike",
        "Layers",
        "step 12",
    ):
        assert words in html
    assert html.count('class="step decode') == 2 * 60
    assert "ui.perfetto.dev" in html
    assert f'{real.GRAPH}">Open in Perfetto' in html


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """A kernel, a frame, a rank's file and an annotation that try to be markup."""
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>'"
    scene = Scene()
    for step in range(6):
        scene.step(step * 1_000_000, 900_000)
        scene.mark(evil, step * 1_000_000, 500_000)
        scene.launch(evil, step * 1_000_000, step * 1_000_000 + 50_000, 9_000_000 if step == 3 else 90_000)
    path = scene.write(tmp_path / "<b>t.json")
    page = tmp_path / "page.html"
    assert ask(path, "--html", page)[0] == 0
    check(page.read_text())
    assert "<img" not in page.read_text()


def test_pages_of_traces_without_a_gpu_and_of_nothing(tmp_path: Path) -> None:
    """Operators instead of kernels; no empty pictures."""
    page = tmp_path / "page.html"
    assert ask(real.DATA / real.CPU, real.DATA / "profiler_out_0.txt", "--html", page)[0] == 0
    html = page.read_text()
    check(html)
    assert "CPU operators by own time" in html
    assert "GPU idle" not in html
