"""What does a command of the operator's own say? A step for playbooks: argv in, facts out by pattern or JSON path.

argv is a list, never a shell. Parameters replace `{name}` inside single items and must match their own regular
expression as a whole, so no value can become another item or an option. It must only read: nothing here can check that,
so programs are taken from what the operator lists, and everything else is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Outcome, Scalar
from responder.units import known_unit
from responder.validation import NAME_PATTERN

META, OUTPUT, ERRORS = "command.json", "output.txt", "errors.txt"
PLACE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
SHELLS = frozenset(("sh", "bash", "dash", "zsh", "ksh", "ash", "csh", "fish", "busybox", "env", "xargs", "sudo", "su"))
SHELL_SIGNS = frozenset(("|", "||", ">", ">>", "<", "&&", "&", ";", "2>", "2>&1", ">&2", "&>"))
JSON_PATH = re.compile(r"([A-Za-z0-9_-]+|\[\d+\])?(\.[A-Za-z0-9_-]+|\[\d+\])*")
MAX_BYTES = 4 << 20
MAX_LINE = 10_000
OWN = ("target", "pid", "port")


class Given(BaseModel):
    """A value for `{name}` in argv, and what it may look like."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    value: str
    """What is put in the place of `{name}`."""
    matches: str = r"[A-Za-z0-9_.:/-]+"
    """A regular expression the whole value must match, so that no value can become an option."""

    @model_validator(mode="after")
    def _checked(self) -> Given:
        try:
            fits = re.fullmatch(self.matches, self.value) is not None
        except re.error as error:
            raise ValueError(f"`matches` is no regular expression: {error}") from None
        if not fits:
            raise ValueError(f"`{self.value}` does not match `{self.matches}`")
        if self.value.startswith("-"):
            raise ValueError(f"`{self.value}` would be read as an option")
        return self


class Parser(BaseModel):
    """How one fact is found in the output: the group of `regex`, or a path `a.b[0].c` of its JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    fact: str = Field(pattern=NAME_PATTERN)
    """Its name: clauses read it as `command.NAME`."""
    kind: Literal["number", "text", "found"] = "number"
    """`number`: what the group takes must be a number as a whole. `text`: as it stands, at most 400 characters.
    `found`: true when there is a match, false when there is none; unknown when the program failed and printed nothing
    (`grep` that finds nothing does: give it `-c`, or `cat` instead)."""
    regex: str = ""
    """Searched line by line in what the program prints; the first line that matches counts. It has one group, around
    the value. Either this or `json_path`."""
    json_path: str = ""
    """Where the value stands in an output that is JSON: `gpus[0].power.limit`."""
    unit: str = ""
    """Shown behind the value; nothing is converted. `s`, `ms`, `W`, `%`, `bytes` ..., or what is counted: `errors`."""
    says: str = ""
    """What it means, for the report."""

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str, info: ValidationInfo) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"`{value}` is no regular expression: {error}") from None
        if not value or info.data.get("kind") == "found":
            return value
        if groups != 1:
            raise ValueError(
                f"`{value}` has {groups or 'no'} groups, and needs one, around the value: write for example "
                r"`limit: (\d+) W`; `(?:…)` is a group that takes nothing"
            )
        return value

    @field_validator("json_path")
    @classmethod
    def _is_path(cls, value: str) -> str:
        if not JSON_PATH.fullmatch(value):
            raise ValueError(f"`{value}` is no path; write for example gpus[0].power.limit")
        return value

    @field_validator("unit")
    @classmethod
    def _is_unit(cls, value: str) -> str:
        return known_unit(value)

    @model_validator(mode="after")
    def _checked(self) -> Parser:
        if bool(self.regex) == bool(self.json_path):
            raise ValueError("give either `regex` or `json_path`")
        return self


class CommandParams(BaseModel):
    """A command of the operator's."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    argv: tuple[str, ...] = Field(min_length=1, max_length=64)
    """The program and its arguments, a list: `[df, -h, /]`. No shell is started, so there are no pipes; `{target}` (the
    server's URL), its `{port}` and `{pid}`, and the names under `params` are filled in."""
    params: dict[str, Given] = {}
    """Values for further `{name}` in `argv`."""
    facts: tuple[Parser, ...] = Field(min_length=1, max_length=32)
    """What is read from its output."""
    timeout_s: float = Field(default=10.0, gt=0, le=50)
    """Seconds after which it is ended, with all it has started."""

    @model_validator(mode="after")
    def _checked(self) -> CommandParams:
        if PLACE.search(self.argv[0]) or not self.argv[0]:
            raise ValueError("`argv`: the program itself cannot be a parameter")
        if sign := next((item for item in self.argv if item in SHELL_SIGNS), ""):
            raise ValueError(
                f"`argv`: `{sign}` is for a shell, and none is started: name one program and its arguments; "
                "`regex` takes from its output what is wanted"
            )
        used = {name for item in self.argv for name in PLACE.findall(item)}
        if unknown := used - set(self.params) - set(OWN):
            own = ", ".join(f"`{{{name}}}`" for name in OWN)
            raise ValueError(
                f"`argv`: nobody gives `{{{sorted(unknown)[0]}}}`; name it under `params` (there are always {own})"
            )
        names = [parser.fact for parser in self.facts]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"`facts`: `{doubled[0]}` is declared twice")
        return self


def shell(argv: Sequence[str]) -> bool:
    """Whether this program runs others."""
    return argv[0].rpartition("/")[2] in SHELLS


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Run it where the target's captures run."""
    call = CommandParams.model_validate(params.model_dump())
    program = call.argv[0].rpartition("/")[2]
    if shell(call.argv) and not scene.shell_allowed:
        return skipped(
            f"`{program}` runs other commands: allow it with `capture: {{shell: true}}` in the configuration"
        )
    argv = filled(call, scene)
    if argv is None:
        return skipped("the command asks for `{pid}`, and no process of the server is known")
    try:
        said = await scene.runner.run(argv, timeout=call.timeout_s, max_bytes=MAX_BYTES)
    except FileNotFoundError:
        return skipped(f"`{argv[0]}` is not installed where the server runs")
    meta = {"argv": argv, "code": said.code, "facts": [parser.model_dump() for parser in call.facts]}
    files = {META: json.dumps(meta, indent=1).encode(), OUTPUT: said.stdout}
    if said.stderr:
        files[ERRORS] = said.stderr
    if said.code is None:
        return Fetched(files, Outcome.TIMED_OUT, f"no end after {call.timeout_s:g} s")
    if said.code != 0:
        words = said.stderr.decode("utf-8", "replace")[:200].strip()
        return Fetched(files, Outcome.PARTIAL, f"exit {said.code}: {words}")
    return Fetched(files)


def filled(call: CommandParams, scene: Scene) -> list[str] | None:
    """argv with the values in place; None when one is not known."""
    processes = scene.inventory.processes if scene.inventory else ()
    main = next((process.pid for process in processes if process.role == "api_server"), None)
    host_port = re.sub(r"^\w+://", "", scene.target.url).partition("/")[0]
    own = {"target": scene.target.url, "port": host_port.rpartition(":")[2], "pid": "" if main is None else str(main)}
    values = own | {name: given.value for name, given in call.params.items()}
    if not values["pid"] and any("{pid}" in item for item in call.argv):
        return None
    return [PLACE.sub(lambda place: values[place[1]], item) for item in call.argv]


# ------------------------------------------------------------------------------------------------------ reading


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """The declared facts; one whose value is not in the output is unknown, not false. That nothing was found counts
    only where there was something to look through: a program that failed and printed nothing has not looked."""
    if META not in files:
        return
    meta = json.loads(files[META])
    text = files.get(OUTPUT, b"").decode("utf-8", "replace")
    ended = meta["code"] == 0 or (meta["code"] is not None and bool(text.strip()))
    for one in meta["facts"]:
        parser = Parser.model_validate(one)
        name, says = f"command.{parser.fact}", parser.says
        value = _value(parser, text, ended)
        yield Fact(name=name, value=value, unit=parser.unit, step="command", file=OUTPUT, at=brief.now, says=says)


def as_brought(call: CommandParams, output: str) -> dict[str, bytes]:
    """The files of a run that printed `output` and ended well: what a playbook's test reads instead of a server."""
    meta = {"argv": list(call.argv), "code": 0, "facts": [parser.model_dump() for parser in call.facts]}
    return {META: json.dumps(meta).encode(), OUTPUT: output.encode()}


def why_nothing(parser: Parser, text: str) -> str:
    """Why an output gives this fact no value, in words for whoever wrote the pattern; empty when it gives one."""
    if _value(parser, text, ended=True) is not None:
        return ""
    begins = next((line.strip() for line in text.splitlines() if line.strip()), "")
    shown = f"the output begins `{begins[:80]}`" if begins else "the output is empty"
    if not parser.regex:
        return f"the output has no single value at `{parser.json_path}`; {shown}"
    taken = _by_pattern(parser.regex, text)
    if taken is None:
        return f"no line matches `{parser.regex}`; {shown}"
    return f"`{parser.regex}` takes `{taken[:80]}`, which is no number (`kind: text` keeps it as text)"


def _value(parser: Parser, text: str, ended: bool) -> Scalar:
    raw = _by_pattern(parser.regex, text) if parser.regex else _by_path(parser.json_path, text)
    if parser.kind == "found":
        return True if raw is not None else False if ended else None
    if raw is None or isinstance(raw, dict | list):
        return None
    if parser.kind == "text":
        return str(raw)[:400]
    if isinstance(raw, bool):
        return raw
    found = re.fullmatch(r"\s*([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*", str(raw))
    return float(found[1]) if found else None


def _by_pattern(pattern: str, text: str) -> str | None:
    """Line by line, so that a pattern cannot walk through megabytes."""
    compiled = re.compile(pattern)
    for line in text.splitlines():
        if found := compiled.search(line[:MAX_LINE]):
            return found[1] if compiled.groups else found[0]
    return None


def _by_path(path: str, text: str) -> Any:
    try:
        value = json.loads(text)
        for key, index in re.findall(r"([A-Za-z0-9_-]+)|\[(\d+)\]", path):
            value = value[int(index)] if index else value[key]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None
    return value


STEP = Step(
    name="command",
    rung=1,
    says="runs a command of the operator's playbook, which must only read",
    fetch=fetch,
    read=read,
    facts=(FactSpec("command.{declared}", "", "what the playbook declares"),),
    timeout_s=56.0,
    max_bytes=MAX_BYTES + (1 << 17),
    needs=("the command itself",),
    params=CommandParams,
)
