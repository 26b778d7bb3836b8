"""Which rules, playbooks and causes are in force? The shipped ones and the operator's, checked as one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from pathlib import Path

from responder.capture.command import shell
from responder.capture.step import Step
from responder.config import Config
from responder.load import load_content, load_mapping, load_source
from responder.located import Path as Place
from responder.model import Content, Problem
from responder.overrides import overridden
from responder.problems import render
from responder.words import CODES, ENGLISH, Language, language, with_own


class ContentRefused(Exception):
    """What an operator wrote cannot be used; `problems` are all of it, the message is their text."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(render(problems))
        self.problems = problems


def shipped(name: str) -> Path:
    """The folder of shipped rules or playbooks: beside the package in a checkout, inside it when installed."""
    here = Path(__file__).resolve().parent
    return next((p for p in (here / name, here.parent / name) if p.is_dir()), here.parent / name)


def check(config: Config, steps: Mapping[str, Step]) -> tuple[Content, tuple[Problem, ...]]:
    """Load everything the configuration points at, with every problem found."""
    facts = [spec.name for step in steps.values() for spec in step.facts]
    content, problems = load_content(
        [shipped("rules"), *config.rules],
        [shipped("playbooks"), *config.playbooks],
        known_steps={name: step.params for name, step in steps.items()},
        known_facts=facts,
        disable_alerts=config.disable_alerts,
    )
    places = config.places
    tell = partial(places.problem, key=True)
    content, wrong = overridden(content, config.overrides.model_dump(by_alias=True), tell)
    found = (*(_placed(problem, config) for problem in problems), *wrong, *_thresholds(config, content))
    return content, (*found, *_approvals(config, steps), *_shells(config, content), *_translations(config))


def _shells(config: Config, content: Content) -> list[Problem]:
    """A `command` step that would be skipped every time, since it starts a shell and none is allowed."""
    found: list[Problem] = []
    for book in content.playbooks if not config.capture.shell else ():
        calls = [call for call in book.ladder if call.step == "command" and call.params.get("argv")]
        shells = {str(call.params["argv"][0]) for call in calls if shell(call.params["argv"])}
        source = load_source(book.file)[0] if shells else None
        for number, line in enumerate(source.lines if source else (), start=1):
            for name in sorted(shells):
                at = re.search(rf"(?:argv:\s*\[\s*|-\s+){re.escape(name)}\b", line)
                if source and at:
                    what = f"`{name}` runs other commands: this step is skipped unless the configuration allows it"
                    instead = "`capture: {shell: true}` there (`--config FILE`), or name the program itself"
                    problem = source.problem_at(number, at.end() - len(name) + 1, what, instead)
                    found.append(problem.model_copy(update={"doubt": True}))
    return found


def _placed(problem: Problem, config: Config) -> Problem:
    """What is wrong with a folder or a name that the configuration gives is told where it is given."""
    places = config.places
    if problem.file == "disable_alerts" and places.holds(("disable_alerts",)):
        return places.problem(("disable_alerts",), problem.what, problem.instead)
    for section in ("rules", "playbooks"):
        given = [str(path) for path in getattr(config, section)]
        if problem.line == 0 and problem.file in given and places.holds((section, given.index(problem.file))):
            what = f"{section}: {problem.file} {problem.what}"
            return places.problem((section, given.index(problem.file)), what, problem.instead)
    return problem


def _thresholds(config: Config, content: Content) -> list[Problem]:
    """A threshold for an alert that does not exist would change nothing, silently."""
    known = {rule.alert for rule in content.rules}
    found = []
    for number, target in enumerate(config.targets):
        for key in target.thresholds:
            if key.removesuffix(".for") not in known:
                near = difflib.get_close_matches(key, sorted(known), n=1)
                found.append(
                    config.places.problem(
                        ("targets", number, "thresholds", key),
                        f"targets: thresholds of {target.url} name the alert `{key}`, which no rule defines",
                        f"did you mean `{near[0]}`?" if near else "`responder rules` prints all alerts",
                        key=True,
                    )
                )
    return found


def _approvals(config: Config, steps: Collection[str]) -> list[Problem]:
    """A step that does not exist waits for nobody, and the one that was meant runs without being asked about."""
    given: list[tuple[Place, tuple[str, ...]]] = [(("capture", "approve"), config.capture.approve)]
    for number, target in enumerate(config.targets):
        if target.capture and target.capture.approve:
            given.append((("targets", number, "capture", "approve"), target.capture.approve))
    found = []
    for path, names in given:
        for index, name in enumerate(names):
            if name not in steps:
                near = difflib.get_close_matches(name, sorted(steps), n=1)
                instead = f"did you mean `{near[0]}`?" if near else "`responder doctor` prints all steps"
                found.append(config.places.problem((*path, index), f"{path[-2]}.approve: no step `{name}`", instead))
    return found


def load(config: Config, steps: Mapping[str, Step]) -> Content:
    """The content in force. ContentRefused when anything in it is wrong; a wrong playbook test is none of it."""
    content, problems = check(config, steps)
    if any(not (problem.in_test or problem.doubt) for problem in problems):
        raise ContentRefused(problems)
    return content


def tongue(code: str, own: Iterable[Path] = ()) -> Language:
    """A language with its fixed words, and with the sentences that are translated: the shipped ones, and those of an
    operator's files or folders. ValueError: no such language; ContentRefused: a file that cannot be used."""
    path = shipped("translations") / f"{code}.yaml"
    made = language(code) if code == ENGLISH.code or not path.is_file() else language(code, _sentences(path))
    mine: dict[str, str] = {}
    for given in own:
        file = given / f"{code}.yaml" if given.is_dir() else given
        if file.is_file() and file.stem == code:
            mine |= _sentences(file)
    return with_own(made, mine)


def _sentences(path: Path) -> dict[str, str]:
    """As it is said -> in this language, from a mapping of them or from groups of such mappings."""
    tree, _, problems = load_mapping(path)
    if problems:
        raise ContentRefused(tuple(problems))
    out: dict[str, str] = {}
    for name, value in tree.items():
        group = value if isinstance(value, dict) else {name: value}
        out |= {str(said): str(ours) for said, ours in group.items()}
    return out


def _translations(config: Config) -> list[Problem]:
    """A file nobody would read, or one that is no mapping of sentences."""
    found: list[Problem] = []
    for index, path in enumerate(config.translations):
        files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
        if not all(file.is_file() for file in files) or not files:
            found.append(
                config.places.problem(("translations", index), f"translations: no file at {path}", "CODE.yaml")
            )
            continue
        for file in files:
            found += load_mapping(file)[2]
            if file.stem not in CODES:
                what = f"translations: {file.name} is named after no language"
                found.append(
                    config.places.problem(("translations", index), what, f"{', '.join(CODES)}, for example zh.yaml")
                )
    return found


def tongues(config: Config) -> tuple[Language, ...]:
    """The language of the reports, then those of single receivers."""
    codes = [config.language, *(str(part.get("language") or "") for part in config.receivers.values())]
    return tuple(tongue(code, config.translations) for code in dict.fromkeys(codes) if code)
