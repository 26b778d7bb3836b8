"""How do scaffolds and schemas reach the disk? New files only: nothing an author wrote is ever overwritten."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from responder.authored import json_schemas
from responder.authoring import scaffold
from responder.authoring.testfile import schema as test_schema
from responder.classes import CAUSES_OF
from responder.config import Config

OK = 0


def new_playbook(name: str, incident_class: str, alert: str, folder: Path) -> int:
    """`responder new playbook`. ValueError in words when a name is wrong or a file is there already."""
    text = scaffold.playbook(name, incident_class, alert)
    cause = f"{CAUSES_OF[incident_class][0]}/{name}"
    _write({folder / f"{name}.yaml": text, folder / f"{name}_test.yaml": scaffold.test(name, alert, cause)})
    _write_schemas(folder / scaffold.SCHEMA_URL)
    typer.echo(f"next: responder check --playbooks {folder}   and   responder test --playbooks {folder} {folder}")
    return OK


def reference() -> int:
    """`responder reference`: the reference page, from what is shipped."""
    from responder.authoring.reference import page
    from responder.capture import STEPS
    from responder.content import load

    typer.echo(page(STEPS, load(Config(), STEPS)), nl=False)
    return OK


def new_cause(name: str, folder: Path) -> int:
    """`responder new cause`. ValueError in words when the name is wrong or the file is there already."""
    _write({folder / f"{name.replace('/', '.')}.yaml": scaffold.cause(name)})
    _write_schemas(folder / scaffold.SCHEMA_URL)
    typer.echo(f"next: name `{name}:` under `causes:` of a playbook, then responder check --playbooks {folder}")
    return OK


def schemas(kind: str | None, folder: Path | None) -> int:
    """`responder schema`: one to standard output, or all into a folder."""
    known = all_schemas()
    if folder is not None:
        _write_schemas(folder)
        return OK
    if kind not in known:
        what = f"no schema {kind!r}" if kind else "which schema?"
        raise ValueError(f"{what}: write {', '.join(sorted(known))}, or --dir FOLDER for all of them")
    typer.echo(json.dumps(known[kind], indent=1))
    return OK


def all_schemas() -> dict[str, dict[str, Any]]:
    """Kind -> JSON Schema."""
    own = json_schemas()
    return {
        "playbook": own["Playbook"],
        "cause": own["Cause"],
        "test": test_schema(),
        "config": Config.model_json_schema(),
    }


def _write(files: Mapping[Path, str]) -> None:
    there = [str(path) for path in files if path.exists()]
    if there:
        raise ValueError(f"{' and '.join(there)} exists already: nothing was written; choose another name or --dir")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        typer.echo(f"wrote {path}")


def _write_schemas(folder: Path) -> None:
    """Made by us alone, so they may be made anew."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, body in all_schemas().items():
        (folder / f"{kind}.json").write_text(json.dumps(body, indent=1) + "\n")
