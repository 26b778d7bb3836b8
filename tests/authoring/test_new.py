"""Scaffolds and schemas: what is written passes `responder check` and `test` at once; nothing is overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from responder.__main__ import app
from responder.authoring.new import all_schemas
from responder.classes import PRECEDENCE
from responder.load import read_yaml

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*argv: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(argv))
    return done.exit_code, done.output


@pytest.mark.parametrize("incident_class", PRECEDENCE)
def test_a_scaffolded_playbook_passes_at_once(tmp_path: Path, incident_class: str) -> None:
    """Check and its own tests, for every class."""
    where = ["--dir", str(tmp_path)]
    assert run("new", "playbook", "disk_full", "--class", incident_class, *where)[0] == 0
    assert run("check", "--playbooks", str(tmp_path))[0] == 0
    code, said = run("test", "--playbooks", str(tmp_path), str(tmp_path))
    assert (code, said.splitlines()[-1]) == (0, "2 passed, 0 failed")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """An author's work is not lost to a second call."""
    assert run("new", "playbook", "disk_full", "--dir", str(tmp_path))[0] == 0
    (tmp_path / "disk_full.yaml").write_text("mine")
    code, said = run("new", "playbook", "disk_full", "--dir", str(tmp_path))
    assert code == 2
    assert "exists already" in said
    assert (tmp_path / "disk_full.yaml").read_text() == "mine"


@pytest.mark.parametrize("name", ["Disk", "one_tenant", "capacity_exceded/one", "../x"])
def test_a_wrong_name_is_told(tmp_path: Path, name: str) -> None:
    """A cause of one's own refines a canonical one."""
    code, said = run("new", "cause", name, "--dir", str(tmp_path))
    assert code == 2
    assert "canonical" in said
    assert list(tmp_path.iterdir()) == []


def test_shipped_files_fit_their_schemas() -> None:
    """What an editor checks is what we ship."""
    schemas = all_schemas()
    kinds = {"Playbook": "playbook", "Cause": "cause", "PlaybookTest": "test"}
    for file in sorted((ROOT / "playbooks").glob("**/*.yaml")):
        source, problems = read_yaml(file)
        assert source is not None, problems
        plain = source.root.plain()
        assert isinstance(plain, dict)
        jsonschema.validate(plain, schemas[kinds[plain["kind"]]])


@pytest.mark.parametrize("kind", ["playbook", "cause", "test"])
def test_schemas_in_the_repository_are_current(kind: str) -> None:
    """`responder schema --dir schemas` makes them anew."""
    assert json.loads((ROOT / "schemas" / f"{kind}.json").read_text()) == all_schemas()[kind]


def test_a_schema_is_printed_or_its_kinds_are_named() -> None:
    """For editors that take one file."""
    code, said = run("schema", "config")
    assert code == 0
    assert "prometheus" in json.loads(said)["properties"]
    assert "playbook" in run("schema", "nothing")[1]
