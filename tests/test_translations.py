"""What an operator's own playbook says is told in a second language, too, and a replay says it again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from responder.__main__ import app
from responder.capture import STEPS
from responder.cli import configured
from responder.content import check, tongues
from responder.folder import IncidentFolder
from responder.publish import TRANSLATIONS
from tests.replayed import FOLDER

DOCS = Path(__file__).parent.parent / "docs" / "playbooks.md"


def site(folder: Path, name: str = "zh.yaml") -> Path:
    """The example of the documentation, as a configuration."""
    text = DOCS.read_text().partition("# site/translations/zh.yaml")[2].partition("\n")[2].partition("```")[0]
    (folder / "translations").mkdir()
    (folder / "translations" / name).write_text(text)
    (folder / "c.yaml").write_text("language: zh\ntranslations: [translations]\n")
    return folder / "c.yaml"


def test_the_documented_example_works(tmp_path: Path) -> None:
    """Own sentences and shipped ones."""
    config = configured(site(tmp_path), {})
    assert check(config, STEPS)[1] == ()
    (chinese,) = tongues(config)
    assert chinese.texts["One tenant sends too much"] == "某个租户发送过多"
    assert chinese.texts["The server was restarted"] == "服务器被重启了"
    assert dict(chinese.own)["requests wait in the queue"] == "请求在排队"


@pytest.mark.parametrize(("name", "more", "says"), [
    ("tlh.yaml", "", "tlh.yaml is named after no language"),
    ("zh.yaml", "[nowhere", "zh.yaml:3:1: not YAML"),
])  # fmt: skip
def test_what_nobody_would_read_is_found(tmp_path: Path, name: str, more: str, says: str) -> None:
    """By `check`, and by a start or a reload."""
    file = site(tmp_path, name)
    with (tmp_path / "translations" / name).open("a") as out:
        out.write(more)
    (tmp_path / "d.yaml").write_text("translations: [nowhere]\n")
    done = CliRunner().invoke(app, ["check", "--config", str(file)])
    assert done.exit_code == 2
    assert says in done.output
    done = CliRunner().invoke(app, ["check", "--config", str(tmp_path / "d.yaml")])
    assert "no file at" in done.output


def test_a_replay_says_it_again(tmp_path: Path) -> None:
    """From what lies in the folder, without the configuration."""
    folder = tmp_path / "i"
    shutil.copytree(FOLDER / "cpu_prefix_collapse", folder)
    argv = ["replay", str(folder), "--today", "--language", "zh"]
    IncidentFolder(folder).write_json(TRANSLATIONS, {"zh": {"The prefix cache stopped hitting": "缓存没用了"}})
    assert "缓存没用了" in CliRunner().invoke(app, argv).output
