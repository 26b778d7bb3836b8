"""Commands speak the language of the daemon whose data they read, or of the configuration they are given."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from responder.__main__ import app
from responder.approvals import Approvals
from responder.datadir import made_ours
from responder.folder import folder_of
from responder.model import Approval, Delivery, Obligation
from responder.spoken_there import remember, spoken_at
from responder.store_sqlite import SqliteStore
from responder.words import ENGLISH, en

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
    made = said("silence", "add", "target=gpu-1:8000", "--for", "1h", *here)
    name = made.split()[1].partition("：")[0]
    lines = {
        "incidents list": ("incidents", "list", *here), "incidents show": ("incidents", "show", "none", *here),
        "silence list": ("silence", "list", *here), "silence end": ("silence", "end", name, *here),
        "deliveries": ("deliveries", *here), "obligations": ("obligations", *here), "audit": ("audit", *here),
        "approve": ("approve", "i1", "gcore", "--who", "ann", *here), "deny": ("deny", "i1", "gcore", *here),
    }  # fmt: skip
    told = {command: said(*argv) for command, argv in lines.items()}
    told["silence add"] = made
    for command, words in told.items():
        assert re.search("[\u4e00-\u9fff]", words), command
        assert not ENGLISH_WORDS.search(re.sub("`[^`]*`|/\\S+", "", words)), (command, words)


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
    left = [line for line in told.splitlines() if ENGLISH_WORDS.search(re.sub("['`][^'`]*['`]", "", line))]
    assert left == []
