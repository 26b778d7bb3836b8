"""How does `responder check` do its work? Everything an operator wrote, and what a daemon would make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import typer

from responder import __version__
from responder.cli import CONTENT, OK, read
from responder.config import Config
from responder.content import check
from responder.model import Content, Problem
from responder.problems import github, render, sarif, to_objects


def check_everything(file: Path | None, rules: list[Path], playbooks: list[Path], format: str) -> int:
    """`responder check`."""
    from responder.capture import STEPS
    from responder.notify import check as check_receivers
    from responder.notify import doubtful as doubtful_receivers

    problems: list[Problem] = []
    _, config, found = read(file, {})
    problems += found
    problems += check_receivers(config.receivers, config.places, files=True)
    problems += doubtful_receivers(config.receivers, config.places)
    more = {"rules": (*config.rules, *rules), "playbooks": (*config.playbooks, *playbooks)}
    content, wrong = check(config.model_copy(update=more), STEPS)
    problems += wrong
    problems += doubtful(config, content) if not found else ()
    if format == "json":
        typer.echo(json.dumps(to_objects(problems), indent=1))
    elif format == "sarif":
        typer.echo(sarif(problems, __version__))
    elif format == "github":
        typer.echo(github(problems), nl=bool(problems))
    elif problems:
        typer.echo(render(tuple(problems)))
    else:
        typer.echo(
            f"ok: {len(content.rules)} alerts, {len(content.signals)} signals, {len(content.playbooks)} playbooks, "
            f"{len(content.causes)} causes"
        )
        typer.echo("\n".join(made_of(config)) if file is not None else "no configuration was given: `--config FILE`")
    return CONTENT if problems else OK


def doubtful(config: Config, content: Content) -> tuple[Problem, ...]:
    """What is valid and cannot have been meant: a mistake for `check`, a warning of a daemon that starts."""
    from responder.config_doubts import doubts
    from responder.config_paths import astray

    return (*doubts(config, [rule.alert for rule in content.rules]), *astray(config))


def made_of(config: Config) -> Iterator[str]:
    """What a daemon would do with this configuration, a line for each question an operator has."""
    url = config.prometheus.url
    yield f"prometheus: {url or 'none given: a private one is started'}"
    targets = config.watched()
    yield f"targets: {len(targets)}" if targets else "targets: none: `responder run` needs `--target URL` then"
    for target in targets:
        policy = target.capture or config.capture
        labels = ", ".join(f"{name}={value}" for name, value in target.match.items())
        yield f"  {target.name}: {target.url}, series {{{labels}}}, captures up to rung {policy.max_rung} by themselves"
    yield f"receivers: {len(config.receivers)}" if config.receivers else "receivers: none: nobody is told"
    for name, settings in config.receivers.items():
        routed = sum(name in route.receivers for route in config.routes)
        of = f"in {routed} of {len(config.routes)} routes" if config.routes else "told of everything"
        yield f"  {name}: {settings.get('kind', 'webhook')}, {of}"
    yield f"web page and API: http://{config.http.listen}/"
    yield f"data: {config.data_dir.absolute()}"
