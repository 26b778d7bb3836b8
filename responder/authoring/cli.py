"""What can an author ask on the command line? Arguments only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

new_app = typer.Typer(no_args_is_help=True, help="Start a playbook or a cause from a text that works.")
Format = Annotated[Literal["text", "json"], typer.Option("--format")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file", envvar="RESPONDER_CONFIG")]


def playbook_tests(
    files: Annotated[
        list[Path] | None, typer.Argument(help="test files or folders; all there are when left out")
    ] = None,
    config: ConfigFile = None,
    rules: Annotated[list[Path] | None, typer.Option(help="more rule files or folders")] = None,
    playbooks: Annotated[list[Path] | None, typer.Option(help="more playbook files or folders")] = None,
    format: Format = "text",
) -> None:
    """Run playbook tests: facts, series or stored incidents in; expected class, steps and first cause out."""
    from responder.authoring.command import playbook_tests as run_tests
    from responder.cli import configured, refused

    def work() -> int:
        own = configured(config, {})
        more = {"rules": (*own.rules, *(rules or [])), "playbooks": (*own.playbooks, *(playbooks or []))}
        return run_tests(files or [], own.model_copy(update=more), format)

    raise typer.Exit(refused(work))


@new_app.command("playbook")
def new_playbook(
    name: Annotated[str, typer.Argument(help="for example disk_full")],
    incident_class: Annotated[str, typer.Option("--class", help="hang_or_crash, high_ttft …")] = "high_ttft",
    alert: Annotated[str, typer.Option(help="an alert that opens it")] = "VLLMTTFTHigh",
    folder: Annotated[Path, typer.Option("--dir", help="where to write it")] = Path(),
) -> None:
    """A playbook with a cause and a command step of its own, its test, and the schemas for your editor."""
    from responder.authoring.new import new_playbook as write
    from responder.cli import refused

    raise typer.Exit(refused(lambda: write(name, incident_class, alert, folder)))


@new_app.command("cause")
def new_cause(
    name: Annotated[str, typer.Argument(help="<canonical cause>/<name>, for example capacity_exceeded/one_tenant")],
    folder: Annotated[Path, typer.Option("--dir", help="where to write it")] = Path(),
) -> None:
    """A cause of your own; name it under `causes:` of a playbook."""
    from responder.authoring.new import new_cause as write
    from responder.cli import refused

    raise typer.Exit(refused(lambda: write(name, folder)))


def reference() -> None:
    """Print the reference page: every step, fact, alert, signal and cause a playbook may name."""
    from responder.authoring.new import reference as printed
    from responder.cli import refused

    raise typer.Exit(refused(printed))


def schema(
    kind: Annotated[str | None, typer.Argument(help="playbook, cause, test or config")] = None,
    folder: Annotated[Path | None, typer.Option("--dir", help="write all of them here")] = None,
) -> None:
    """JSON Schemas of what may be written, for completion and checks in your editor."""
    from responder.authoring.new import schemas
    from responder.cli import refused

    raise typer.Exit(refused(lambda: schemas(kind, folder)))
