"""How does `responder check` do its work? Everything an operator wrote, and what a daemon would make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import typer

from responder import __version__
from responder.cli import CONTENT, OK, read
from responder.config import Config
from responder.content import check, tongue
from responder.model import Content, Problem
from responder.problems import github, render, sarif, to_objects
from responder.words import say, speaking


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
        with speaking(tongue(config.language)):
            typer.echo(say("cli.content", alerts=len(content.rules), signals=len(content.signals),
                           playbooks=len(content.playbooks), causes=len(content.causes)))  # fmt: skip
            typer.echo("\n".join(made_of(config)) if file is not None else say("cli.config.none"))
    return CONTENT if problems else OK


def doubtful(config: Config, content: Content) -> tuple[Problem, ...]:
    """What is valid and cannot have been meant: a mistake for `check`, a warning of a daemon that starts."""
    from responder.config_doubts import doubts
    from responder.config_paths import astray

    return (*doubts(config, [rule.alert for rule in content.rules]), *astray(config))


def made_of(config: Config) -> Iterator[str]:
    """What a daemon would do with this configuration, a line for each question an operator has."""
    url = config.prometheus.url
    yield say("cli.config.prometheus", url=url) if url else say("cli.config.prometheus.none")
    targets = config.watched()
    yield say("cli.config.targets", count=len(targets)) if targets else say("cli.config.targets.none")
    for target in targets:
        policy = target.capture or config.capture
        labels = ", ".join(f"{name}={value}" for name, value in target.match.items())
        yield say("cli.config.target", name=target.name, url=target.url, labels=f"{{{labels}}}", rung=policy.max_rung)
    many = len(config.receivers)
    yield say("cli.config.receivers", count=many) if many else say("cli.config.receivers.none")
    for name, settings in config.receivers.items():
        routed = sum(name in route.receivers for route in config.routes)
        every = say("cli.config.everything")
        of = say("cli.config.routed", count=routed, all=len(config.routes)) if config.routes else every
        yield say("cli.config.receiver", name=name, kind=settings.get("kind", "webhook"), of=of)
    yield say("cli.config.page", url=f"http://{config.http.listen}/")
    yield say("cli.config.data", folder=config.data_dir.absolute())
