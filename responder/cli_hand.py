"""What can be asked about captures by hand: plan, capture, doctor? Arguments only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from responder.cli_books import DataDir

Format = Annotated[Literal["text", "json"], typer.Option("--format")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file", envvar="RESPONDER_CONFIG")]
Targets = Annotated[
    list[str] | None,
    typer.Option("--target", help="URL of a vLLM server; repeat it or separate by commas", envvar="RESPONDER_TARGET"),
]


def plan(
    playbook: Annotated[str | None, typer.Argument(help="its id or class; all of them when left out")] = None,
    target: Targets = None,
    config: ConfigFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="always so: a plan does nothing")] = True,
) -> None:
    """What a playbook would run on a target, what it would refuse, with estimated pause and bytes."""
    from responder.cli_captures import plans

    raise typer.Exit(plans(playbook, split(target), config))


def capture(
    target: Annotated[str, typer.Argument(help="name or URL of a vLLM server")],
    step: Annotated[str, typer.Option("--step", help="see `responder doctor` for what there is")],
    param: Annotated[
        list[str] | None, typer.Option("--param", help="name=value, for steps that take some; a list: 'argv=[df, -h]'")
    ] = None,
    playbook: Annotated[str | None, typer.Option(help="take the step's parameters from this playbook (its id)")] = None,
    playbooks: Annotated[list[Path] | None, typer.Option(help="more playbook files or folders")] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    url: Annotated[str, typer.Option(help="of the running daemon", envvar="RESPONDER_URL")] = "http://127.0.0.1:9119",
    token_file: Annotated[Path | None, typer.Option(help="when the daemon's HTTP needs a token")] = None,
    format: Format = "text",
) -> None:
    """Run one capture step now, with the daemon's care: preflight, obligations, what it cost the server's users."""
    from responder.cli_capture import Asked
    from responder.cli_capture import capture as run_capture

    asked = Asked(
        target, step, param or [], playbook, playbooks or [], config, data_dir, url, token_file, format
    )  # fmt: skip
    raise typer.Exit(run_capture(asked))


def doctor(
    target: Annotated[str, typer.Option("--target", help="name or URL of a vLLM server")],
    config: ConfigFile = None,
    ask: Annotated[bool, typer.Option("--ask", help="also try what sends completions of its own")] = False,
    format: Format = "text",
) -> None:
    """Which capture steps can run on this server from here, which cannot, why, what to add. Sends no completions."""
    from responder.cli_captures import doctor as examine

    raise typer.Exit(examine(target, config, format, ask))


def split(values: list[str] | None) -> list[str]:
    """Repeated options and lists with commas as one list."""
    return [part.strip() for value in values or [] for part in value.split(",") if part.strip()]
