"""Commands speak the language of the daemon whose data they read, or of the configuration they are given."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from typer.testing import CliRunner

from responder.__main__ import app
from responder.approvals import Approvals
from responder.backtest.command import _print_text
from responder.backtest.run import Found, Wish
from responder.backtest.sight import Blind
from responder.datadir import made_ours
from responder.folder import folder_of
from responder.model import Approval, Delivery, Obligation
from responder.spoken_there import remember, spoken_at
from responder.store_sqlite import SqliteStore
from responder.words import ENGLISH, en, language, speaking
from tests.replayed import FOLDER

ENGLISH_WORDS = re.compile(r"[A-Za-z]{3,} [a-z]{3,}")


def said(*argv: str) -> str:
    return CliRunner().invoke(app, [*argv]).output


@pytest.fixture
async def site(tmp_path: Path) -> Path:
    """What a daemon with `language: zh` leaves."""
    made_ours(tmp_path)
    remember(tmp_path, "zh")
    store = SqliteStore(tmp_path)
    store.open()
    await store.add_deliveries([Delivery(id="d", incident="i1", revision=2, receiver="chat", stage="final")])
    owed = Obligation(
        id="o", target="gpu-1:8000", url="http://gpu-1:8000", step="torch_profiler", opened_at=1.0, due_at=9.0
    )
    await store.save_obligation(owed)
    store.close()
    Approvals(tmp_path / "approvals").ask(
        Approval(incident="i1", step="gcore", target="gpu-1:8000", rung=3, asked_at=1.0, expires_at=4e9)
    )
    report = {"incident": {"id": "i1", "state": "open", "class": "high_ttft", "target": "gpu-1:8000"},
              "hypotheses": [{"cause": "spike", "status": "probable"}]}  # fmt: skip
    folder_of(tmp_path, "i1").write("report.json", json.dumps(report).encode())
    return tmp_path


def test_whoever_is_on_call_reads_their_language(site: Path) -> None:
    """Every line of every command that is given nothing but the data directory."""
    here = ("--data-dir", str(site))
    shutil.copytree(FOLDER / "cpu_kv_starvation", folder_of(site, "i2").path)
    made = said("silence", "add", "target=gpu-1:8000", "--for", "1h", *here)
    name = made.split()[1].partition("：")[0]
    lines = {
        "incidents list": ("incidents", "list", *here), "incidents show": ("incidents", "show", "none", *here),
        "silence list": ("silence", "list", *here), "silence end": ("silence", "end", name, *here),
        "deliveries": ("deliveries", *here), "obligations": ("obligations", *here), "audit": ("audit", *here),
        "approve": ("approve", "i1", "gcore", "--who", "ann", *here), "deny": ("deny", "i1", "gcore", *here),
        "verdict": ("verdict", "i1", "--right", "--who", "bob", *here),
        "verdict anew": ("verdict", "i1", "--wrong", "--cause", "engine_hang", "--who", "ann", *here),
        "explain": ("explain", "i2", *here),
    }  # fmt: skip
    told = {command: said(*argv) for command, argv in lines.items()}
    told["silence add"] = made
    for command, words in told.items():
        assert re.search("[\u4e00-\u9fff]", words), command
        assert not ENGLISH_WORDS.search(re.sub("`[^`]*`|/\\S+", "", words)), (command, words)
    assert "取代 bob 的判断（正确）" in told["verdict anew"]
    assert "文件完好，值相同" in told["explain"]


def test_without_a_daemon_it_is_english(tmp_path: Path) -> None:
    """Nothing there, or a word that is no language of ours."""
    made_ours(tmp_path)
    assert said("incidents", "list", "--data-dir", str(tmp_path)).strip() == en.WORDS["cli.incidents.none"]
    assert spoken_at(tmp_path) is ENGLISH
    (tmp_path / "language").write_bytes(b"\xff" * 100)
    assert spoken_at(tmp_path) is ENGLISH


def test_a_plan_is_in_the_language_of_its_configuration(tmp_path: Path) -> None:
    """As `responder doctor` is, whose table is of the same words."""
    (tmp_path / "c.yaml").write_text("language: zh\n")
    told = said("plan", "wrong_output", "--config", str(tmp_path / "c.yaml"))
    assert "个步骤，停顿至多" in told
    assert english_in(told) == []


def english_in(told: str) -> list[str]:
    return [line for line in told.splitlines() if ENGLISH_WORDS.search(re.sub("['`][^'`]*['`]|/\\S+", "", line))]


def test_what_is_right_and_what_was_captured_is_in_the_language_of_its_configuration(tmp_path: Path) -> None:
    """`responder check` and `responder capture`."""
    text = "language: zh\ntargets: [{url: 'http://127.0.0.1:9'}]\nreceivers: {a: {kind: webhook, url: 'http://h:1'}}\n"
    (tmp_path / "c.yaml").write_text(text + f"data_dir: {tmp_path / 'data'}\n")
    here = ("--config", str(tmp_path / "c.yaml"))
    right = said("check", *here)
    assert "没有问题" in right
    assert "通知所有事件" in right
    brought = said("capture", "127.0.0.1:9", "--step", "kernel", "--url", "http://127.0.0.1:9", *here)
    assert "由本进程采集" in brought
    assert english_in(right + brought) == []


def test_a_backtest_is_told_in_the_language_of_its_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """Every line that it can have."""
    incident = {"id": "i", "target": "a", "class": "high_ttft", "opened_at": "T1", "resolved_at": None}
    causes = [{"cause": "spike", "status": "probable", "probability": 0.7}]
    report = {"incident": incident, "hypotheses": causes,
              "would_capture": [{"step": "stacks", "pause_seconds_at_most": 1.5}]}  # fmt: skip
    theirs = {"alert": "Down", "target": "a", "since": "T0", "until": "T1"}
    overlap = {"alerts": 2, "about_our_servers": 1, "also_alerted": {"i": [{"alert": "Slow", "lead_s": 9.0}]},
               "only_ours": [], "only_theirs": [theirs]}  # fmt: skip
    summary = {"target_days": 2.0, "incidents_per_target_day": 0.5, "incidents": 1,
               "captures": {"runs": 3, "pause_seconds_at_most": 4.0}}  # fmt: skip
    lost = {"VLLMTargetDown": ("up",)}
    sight = Blind(shortest_s={"A": 30.0, "B": 60.0}, missing=lost, missing_of={"a": lost})
    found = SimpleNamespace(
        summary=summary, targets=["a"], interval_s=5.0, blind=sight, warnings=["W"], reports=lambda: iter([report]),
        overlap=overlap, unanswered={"ttft": "E"},
    )  # fmt: skip
    with speaking(language("zh")):
        _print_text(cast(Found, found), Wish(0.0, 9.0, 1.0, (), Path("/f")))
    told = capsys.readouterr().out
    assert "1 个事件，每台服务器每天 0.5 个" in told
    assert "spike：很可能（70%）；其次 没有；Slow 相对我们发现的时刻 +9 秒触发" in told
    assert english_in(told) == []
