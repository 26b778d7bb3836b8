"""How does a YAML file of an operator become content? The only importer of the YAML library.

YAML is read from the parser's events, never with its constructors: no aliases, anchors or tags (bombs, objects),
limits on size, depth and events, no duplicate keys, YAML 1.2 scalars (`NO` and `22:22` stay text). The pure-Python
parser is used on purpose: the C one can be crashed by nesting.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path as FilePath

import yaml
from pydantic import BaseModel

from responder.assemble import Found, assemble
from responder.located import Node, Path, Source, problem_at
from responder.model import Cause, Content, Playbook, Problem, Rule, Scalar, Signal

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_EVENTS = 20_000
MAX_PROBLEMS = 100
"""Of one file's syntax; a file with more is not worth reading on."""

NULL = re.compile(r"(?:~|null|Null|NULL|)")
BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)")
INT = re.compile(r"[-+]?[0-9]{1,18}")
HEX_OR_OCTAL = re.compile(r"0x[0-9a-fA-F]{1,15}|0o[0-7]{1,20}")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")

MEANT = {
    r"character '\t'": "a tab stands here; indent with spaces",
    "mapping values are not allowed here": "a `: ` inside a text: put the whole text in quotes",
    "could not find expected ':'": "`key: value`, with a space after the colon; a text over several lines in quotes",
    "expected <block end>": "keys of one mapping begin in the same column; items of a list with `- `",
    "expected ',' or": "a list in brackets or braces ends with `]` or `}`, with commas between",
    "found unexpected end of stream": "a quote or bracket is opened and not closed",
    "cannot start any token": "put the whole text in quotes",
}
"""What people mostly did when the parser says this."""

DEFINES = re.compile(r"^[ \t]*(?:- )?(?:id|alert|record): *(?:signal:)?([\w./-]+)", re.M)

Locate = Callable[[Path], tuple[int, int]]
Paths = Iterable[str | os.PathLike[str]]


class _Unreadable(Exception):
    """The rest of the file is not worth reading; carries the problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.what)
        self.problem = problem


def read_yaml(path: str | os.PathLike[str]) -> tuple[Source | None, tuple[Problem, ...]]:
    """The one document of a file as a tree that knows its places, and everything wrong with its YAML.

    None when there is no tree to speak of. A tree beside problems is only good for finding more problems.
    """
    file = str(path)
    try:
        raw = _bytes(path)
    except OSError as error:
        return None, (Problem(file=file, what=f"cannot be read: {error.strerror or error}"),)
    if len(raw) > MAX_BYTES:
        line = raw.count(b"\n", 0, MAX_BYTES) + 1
        return None, (Problem(file=file, line=line, column=1, what="is larger than 1 MiB", instead="split it"),)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return None, (Problem(file=file, line=line, column=1, what="is not UTF-8 text"),)
    return parse_yaml(text, file)


def parse_yaml(text: str, file: str) -> tuple[Source | None, tuple[Problem, ...]]:
    """`read_yaml` of text already in memory; `file` only names it in problems."""
    return _Reader(text, file).read()


def load_source(path: str | os.PathLike[str]) -> tuple[Source | None, tuple[Problem, ...]]:
    """A file that must hold one mapping (or nothing), with its places; None when there is none to go on with."""
    source, problems = read_yaml(path)
    if source is not None and source.root.plain() is not None and not isinstance(source.root.value, dict):
        return None, (*problems, source.problem((), "must be a mapping of keys to values"))
    return source, problems


def load_mapping(path: str | os.PathLike[str]) -> tuple[dict[str, object], Locate, tuple[Problem, ...]]:
    """A file that must hold one mapping, as plain values; `locate` gives (line, column) of a path in it."""
    source, problems = read_yaml(path)
    if source is None:
        return {}, lambda _: (0, 0), problems
    plain = source.root.plain()
    if plain is None:
        plain = {}
    if not isinstance(plain, dict):
        wrong = source.problem((), "must be a mapping of keys to values")
        return {}, source.locate, (*problems, wrong)
    return plain, source.locate, problems


def load_rules(paths: Paths) -> tuple[tuple[Signal, ...], tuple[Rule, ...], tuple[Problem, ...]]:
    """Signals (recording rules) and alerting rules of Prometheus rule files, or of folders of them."""
    found = _found(paths, rules=True)
    return tuple(found.signals), tuple(found.rules), tuple(found.problems)


def load_playbooks(paths: Paths) -> tuple[tuple[Playbook, ...], tuple[Problem, ...]]:
    """The playbooks among the files, each for itself: nothing is checked across files."""
    found = _found(paths, rules=False)
    return tuple(item.noun for item in found.books), tuple(found.problems)


def load_causes(paths: Paths) -> tuple[tuple[Cause, ...], tuple[Problem, ...]]:
    """The causes among the files, also those a playbook defines; nothing is checked across files."""
    found = _found(paths, rules=False)
    return tuple(item.noun for item in found.causes), tuple(found.problems)


def load_content(
    rules: Paths,
    playbooks: Paths,
    known_steps: Mapping[str, type[BaseModel]],
    known_facts: Collection[str],
    disable_alerts: Collection[str] = (),
) -> tuple[Content, tuple[Problem, ...]]:
    """Everything SREs wrote, checked together; with problems the content is not fit for use.

    Files and folders given later replace rules, playbooks and causes of the same name given earlier, so a site
    tunes what is shipped without copying it. `known_steps` maps a step to the model of its parameters;
    `known_facts` may hold patterns such as `metrics.{signal}.now`; `disable_alerts` are rules left out.
    """
    layers = [_found([place], rules=True) for place in rules]
    layers += [_found([place], rules=False) for place in playbooks]
    return assemble(layers, known_steps, known_facts, disable_alerts)


def _found(paths: Paths, *, rules: bool) -> Found:
    found = Found()
    for file in _files(paths, found.problems, deep=not rules):
        source, wrong = read_yaml(file)
        found.problems += wrong
        if source is None:
            # What it defines by the looks of it or by its name: nobody is told twice about one broken file.
            found.broken |= {file.stem, file.stem.replace(".", "/", 1), *_looks_defined(file)}
        elif rules:
            found.read_rules(source)
        else:
            found.read_book(source)
    return found


def _looks_defined(file: FilePath) -> set[str]:
    """Names that the lines of a file with broken YAML seem to define."""
    with contextlib.suppress(OSError):
        return set(DEFINES.findall(_bytes(file).decode("utf-8", "replace")))
    return set()


def _files(paths: Paths, problems: list[Problem], *, deep: bool) -> Iterable[FilePath]:
    """The YAML files of each path; a folder of rules holds their tests in a folder below, which is not read."""
    for path in paths:
        top = FilePath(path)
        pattern = "**/*" if deep else "*"
        files = sorted(file for end in (".yaml", ".yml") for file in top.glob(pattern + end)) if top.is_dir() else [top]
        if not files:
            problems.append(Problem(file=str(top), what="holds no .yaml file"))
        yield from files


def _bytes(path: str | os.PathLike[str]) -> bytes:
    """At most one byte more than allowed; only of a regular file, since a pipe would make us wait."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError("not a regular file")
        return stream.read(MAX_BYTES + 1)


class _Reader:
    """Builds the tree from the parser's events."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.lines = tuple(text.splitlines())
        self.problems: list[Problem] = []
        self.depth = 0

    def read(self) -> tuple[Source | None, tuple[Problem, ...]]:
        """The tree if there is one, and all problems up to the first that ends the reading."""
        root: Node | None = None
        documents = 0
        try:
            events = self._events()
            for event in events:
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        raise _Unreadable(self._problem(event, "a second document", "one file, one document"))
                elif isinstance(event, yaml.NodeEvent):
                    root = self._node(event, events)
        except _Unreadable as end:
            self.problems.append(end.problem)
        except yaml.YAMLError as error:
            self.problems.append(self._syntax(error))
        if root is None:
            if not self.problems:
                self.problems.append(Problem(file=self.file, what="is empty"))
            return None, tuple(self.problems)
        return Source(self.file, self.lines, root), tuple(self.problems)

    def _events(self) -> Iterable[yaml.Event]:
        """Lazily, so that a limit stops the parser, too. An iterator: `for` and `next` share it."""
        return iter(self._counted())

    def _counted(self) -> Iterable[yaml.Event]:
        for count, event in enumerate(yaml.parse(self.text, Loader=yaml.SafeLoader)):
            if count > MAX_EVENTS:
                raise _Unreadable(self._problem(event, f"more than {MAX_EVENTS:,} YAML elements", "split the file"))
            if len(self.problems) >= MAX_PROBLEMS:
                raise _Unreadable(self._problem(event, "too many problems, the rest of the file was not read"))
            yield event

    def _node(self, event: yaml.Event, events: Iterable[yaml.Event]) -> Node:
        line, column = _place(event)
        self._refuse_extras(event)
        if isinstance(event, yaml.ScalarEvent):
            return Node(_scalar(event), line, column)
        if isinstance(event, yaml.AliasEvent):
            return Node(None, line, column)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Unreadable(self._problem(event, f"nested deeper than {MAX_DEPTH} levels"))
        if isinstance(event, yaml.SequenceStartEvent):
            items = [self._node(item, events) for item in _until(events, yaml.SequenceEndEvent)]
            node = Node(items, line, column)
        else:
            node = self._mapping(line, column, events)
        self.depth -= 1
        return node

    def _mapping(self, line: int, column: int, events: Iterable[yaml.Event]) -> Node:
        children: dict[str, Node] = {}
        keys: dict[str, tuple[int, int]] = {}
        for event in _until(events, yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self.problems.append(self._problem(event, "a key must be text"))
                self._node(event, events)
                self._node(_next(events), events)
                continue
            self._refuse_extras(event)
            key = event.value
            value = self._node(_next(events), events)
            if key == "<<" and event.style is None:
                self.problems.append(self._problem(event, "merge keys (`<<`) are not allowed", "write the keys out"))
            elif key in children:
                first = keys[key][0]
                self.problems.append(self._problem(event, f"duplicate key `{key}`, first on line {first}"))
            else:
                children[key] = value
                keys[key] = _place(event)
        return Node(children, line, column, keys)

    def _refuse_extras(self, event: yaml.Event) -> None:
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent):
            self.problems.append(self._problem(event, f"alias `*{anchor}` is not allowed", "write it out"))
        elif anchor:
            self.problems.append(self._problem(event, f"anchor `&{anchor}` is not allowed", "write it out"))
        if tag:
            self.problems.append(self._problem(event, f"tag `{tag}` is not allowed", "remove it"))

    def _problem(self, event: yaml.Event, what: str, instead: str = "") -> Problem:
        return problem_at(self.file, self.lines, *_place(event), what, instead)

    def _syntax(self, error: yaml.YAMLError) -> Problem:
        mark = getattr(error, "problem_mark", None)
        if mark is not None:
            parts = [str(part) for part in (error.context, error.problem) if part]  # type: ignore[attr-defined]
            instead = next((words for sign, words in MEANT.items() if sign in parts[-1]), "") if parts else ""
            what = f"not YAML: {', '.join(parts)}"
            return problem_at(self.file, self.lines, mark.line + 1, mark.column + 1, what, instead)
        at = getattr(error, "position", 0)
        line = self.text.count("\n", 0, at) + 1
        column = at - (self.text.rfind("\n", 0, at) + 1) + 1
        what = getattr(error, "reason", str(error))
        return problem_at(self.file, self.lines, line, column, f"not YAML: {what}")


def _place(event: yaml.Event) -> tuple[int, int]:
    """Line and column, both from 1."""
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)


def _next(events: Iterable[yaml.Event]) -> yaml.Event:
    return next(iter(events))


def _until(events: Iterable[yaml.Event], end: type[yaml.Event]) -> Iterable[yaml.Event]:
    for event in events:
        if isinstance(event, end):
            return
        yield event


def _scalar(event: yaml.ScalarEvent) -> Scalar:
    """A plain scalar after YAML 1.2's core schema, without infinities and NaN; a quoted or block one is text."""
    text: str = event.value
    if event.style is not None:
        return text
    if NULL.fullmatch(text):
        return None
    if BOOL.fullmatch(text):
        return text.lower() == "true"
    if INT.fullmatch(text):
        return int(text)
    if HEX_OR_OCTAL.fullmatch(text):
        return int(text, 0)
    if FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text
