"""What may an SRE write in a playbook or cause file?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from responder.located import Path, Source, shortened
from responder.model import (
    Clause,
    Scalar,
    Test,
)
from responder.remedies import BLANK
from responder.validation import STARTS_AS_NUMBER

MAX_DECIBANS = 15.0
"""No single group of evidence may say more than this, so no clause may promise it (`diagnose.py` clips there)."""

CLAUSE = re.compile(r"([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)+)\s*(>=|<=|==|!=|>|<)\s*(\S.*)")
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
DECIBANS = re.compile(r"([-+]?\d+(?:\.\d+)?)\s*dB")


def parse_clause(text: str, line: int = 0) -> Clause:
    """`gpu.power_share_max < 0.4` as a clause. ValueError says what is wrong with it."""
    got = CLAUSE.fullmatch(text.strip())
    if not got:
        raise ValueError(f"`{text}` is not `fact operator value`, for example `metrics.kv_usage.max >= 0.9`")
    fact, op, literal = got.groups()
    value = _literal(literal)
    if isinstance(value, str | bool) and op not in ("==", "!="):
        number = STARTS_AS_NUMBER.match(literal) if isinstance(value, str) else None
        meant = ""
        if number:
            share = float(number[1]) / 100
            meant = f": write {number[1]}, the unit is the fact's own"
            meant += f" (or {share:g} where its unit is a share of 1)" if number[2] else ""
        raise ValueError(f"`{op}` needs a number, not `{shortened(literal)}`{meant}")
    return Clause(fact=fact, op=op, value=value, line=line)


def _literal(text: str) -> Scalar:
    if text in ("true", "false"):
        return text == "true"
    if NUMBER.fullmatch(text):
        return float(text) if re.search(r"[.eE]", text) else int(text)
    if text[0] in "'\"":
        if len(text) < 2 or text[-1] != text[0]:
            raise ValueError(f"the quote in {text} does not end")
        return text[1:-1]
    return text


def _decibans(value: object) -> object:
    """`+8 dB` as 8.0. A bare number is refused: 8 is as often meant as "eight times as likely" (9 dB)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("is not decibans; write for example +8 dB or -3 dB")
    got = DECIBANS.fullmatch(str(value).strip())
    if not got:
        meant = f"{value:+g} dB" if isinstance(value, int | float) else "for example +8 dB or -3 dB"
        raise ValueError(f"`{shortened(str(value))}` is not decibans; write {meant}")
    found = float(got[1])
    if abs(found) > MAX_DECIBANS:
        limit = f"{MAX_DECIBANS:+g} dB, the most" if found > 0 else f"{-MAX_DECIBANS:+g} dB, the least"
        raise ValueError(f"`{value}` is more than one piece of evidence may say; write {limit} there is")
    return found


def _valid_clause(text: str) -> str:
    parse_clause(text)
    return text


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_test(value: object) -> object:
    return {"when": value} if isinstance(value, str) else value


def _as_step(value: object) -> object:
    return {"step": value} if isinstance(value, str) else value


class Part(BaseModel):
    """Base of everything written: immutable, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
FactName = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$")]
ClauseText = Annotated[str, AfterValidator(_valid_clause)]
Ways = Annotated[list[Text], BeforeValidator(_as_list, json_schema_input_type=str | list[str]), Field(min_length=1)]
"""One id, or several of which one is enough."""
Clauses = Annotated[list[ClauseText], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]
Decibans = Annotated[
    float,
    BeforeValidator(_decibans, json_schema_input_type=Annotated[str, Field(pattern=r"^\s*[-+]?\d+(\.\d+)?\s*dB\s*$")]),
]
Prior = Annotated[float, Field(gt=0, le=1)]


class TestPart(Part):
    """One clause (`when`), or several joined by `all` and `any`."""

    when: ClauseText | None = None
    all: Clauses = []
    any: Clauses = []

    @model_validator(mode="after")
    def _has_clauses(self) -> TestPart:
        if not (self.when or self.all or self.any):
            raise ValueError("needs a clause in `when`, `all` or `any`")
        return self

    def clauses(self) -> Iterator[tuple[Path, str]]:
        """(path, clause text) of each."""
        if self.when:
            yield ("when",), self.when
        yield from ((("all", index), text) for index, text in enumerate(self.all))
        yield from ((("any", index), text) for index, text in enumerate(self.any))

    def noun(self, source: Source, base: Path) -> Test:
        """As a test; every clause knows its line."""
        parsed = [(path, parse_clause(text, source.locate((*base, *path))[0])) for path, text in self.clauses()]
        return Test(
            all=tuple(clause for path, clause in parsed if path[0] != "any"),
            any=tuple(clause for path, clause in parsed if path[0] == "any"),
        )


AnyTest = Annotated[TestPart, BeforeValidator(_as_test, json_schema_input_type=str | TestPart)]


class WeightPart(TestPart):
    """One piece of evidence."""

    id: Text
    group: Text
    yes: Decibans = 0.0
    no: Decibans = 0.0
    says: Text
    says_not: str = ""
    first_look: bool = False

    @model_validator(mode="after")
    def _weighs(self) -> WeightPart:
        if self.yes == 0 and self.no == 0:
            raise ValueError("`yes` and `no` are both 0: this evidence decides nothing")
        return self


class DisproofPart(Part):
    """How to prove the cause wrong."""

    says: Text
    command: str = ""


class AttemptPart(Part):
    """A number reckoned from what is set now: times this, plus that, within limits."""

    of: FactName | None = None
    times: float = 1.0
    plus: float = 0.0
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _changes(self) -> AttemptPart:
        if self.times == 1 and self.plus == 0 and self.of is None:
            raise ValueError("changes nothing: write `times: 0.5` or `plus: 0.03`")
        return self


class RemedyPart(Part):
    """What to do, and what it costs; where it applies, and the number to try."""

    says: Text
    option: str = ""
    tradeoff: Text
    safe_now: bool = False
    only_if: AnyTest | None = None
    unless: AnyTest | None = None
    now: FactName | None = None
    attempt: AttemptPart | None = Field(default=None, alias="try")

    @model_validator(mode="after")
    def _fits(self) -> RemedyPart:
        if self.attempt is not None and len(BLANK.findall(self.option)) != 1:
            raise ValueError("`try` needs exactly one blank in `option`, for example --max-num-seqs <lower>")
        if self.attempt is not None and not (self.now or self.attempt.of):
            raise ValueError("`try` needs `now`, the fact that says what is set, or `of` inside it")
        return self

    def facts(self) -> Iterator[tuple[Path, str]]:
        """(path, fact) of each fact it reads outside its tests."""
        if self.now:
            yield ("now",), self.now
        if self.attempt is not None and self.attempt.of:
            yield ("try", "of"), self.attempt.of


class BesidePart(TestPart):
    """What proves the cause even where one of these others is at work."""

    id: Text
    causes: Annotated[list[Text], Field(min_length=1)]
    despite: list[Text] = []
    says: Text


class ReasonPart(TestPart):
    """What would say why it came about, or tell it from its look-alikes."""

    says: Text


class WhyPart(Part):
    """For a cause that can be certain while its own reason is not: what would tell it, and where else to look."""

    known_by: Annotated[list[ReasonPart], Field(min_length=1)]
    otherwise: Text


class CauseBody(Part):
    """A cause, but for its id."""

    title: Text
    titles: list[ReasonPart] = []
    says: Text
    prior: Prior = 0.05
    evidence: Annotated[list[WeightPart], Field(min_length=1)]
    confirm: Annotated[list[Ways], Field(min_length=1)]
    told_apart: list[ReasonPart] = []
    disproved_by: list[AnyTest] = []
    beside: list[BesidePart] = []
    explains: list[Text] = []
    why: WhyPart | None = None
    would_disprove: DisproofPart
    remedies: Annotated[list[RemedyPart], Field(min_length=1)]
    seen_in: list[Text] = []

    def tests(self) -> Iterator[tuple[Path, TestPart]]:
        """(path, test) of titles, evidence, what tells apart, disproofs, proofs beside others, reasons, remedies."""
        for index, remedy in enumerate(self.remedies):
            for key, test in (("only_if", remedy.only_if), ("unless", remedy.unless)):
                if test is not None:
                    yield ("remedies", index, key), test
        yield from ((("titles", index), part) for index, part in enumerate(self.titles))
        yield from ((("evidence", index), part) for index, part in enumerate(self.evidence))
        yield from ((("told_apart", index), part) for index, part in enumerate(self.told_apart))
        yield from ((("disproved_by", index), part) for index, part in enumerate(self.disproved_by))
        yield from ((("beside", index), part) for index, part in enumerate(self.beside))
        if self.why is not None:
            yield from ((("why", "known_by", index), part) for index, part in enumerate(self.why.known_by))


class CauseFile(CauseBody):
    """A file of kind Cause."""

    api_version: Literal["responder/v1"] = Field(alias="apiVersion")
    kind: Literal["Cause"]
    id: Text


class StepPart(Part):
    """One step of a rung; a bare name stands for a step without parameters."""

    step: Text
    params: dict[str, Any] = Field(default={}, alias="with")
    why: str = ""


class RungPart(Part):
    """The steps of one rung."""

    rung: Annotated[int, Field(ge=0, le=3)]
    steps: Annotated[
        list[Annotated[StepPart, BeforeValidator(_as_step, json_schema_input_type=str | StepPart)]],
        Field(min_length=1),
    ]


def _kind_of_entry(value: object) -> str:
    if value is None:
        return "(own)"
    return "(cause)" if isinstance(value, dict | CauseBody) else "(prior)"


Entry = Annotated[
    Annotated[CauseBody, Tag("(cause)")] | Annotated[Prior, Tag("(prior)")] | Annotated[None, Tag("(own)")],
    Discriminator(_kind_of_entry),
]


class PlaybookFile(Part):
    """A file of kind Playbook."""

    api_version: Literal["responder/v1"] = Field(alias="apiVersion")
    kind: Literal["Playbook"]
    id: Text
    incident_class: Text = Field(alias="class")
    title: Text
    alerts: Annotated[list[Text], Field(min_length=1)]
    ladder: Annotated[list[RungPart], Field(min_length=1)]
    causes: Annotated[dict[str, Entry], Field(min_length=1)]
    """Name -> its prior in this class, nothing (the cause's own prior), or the cause itself."""


def json_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema of each kind of file, for editors."""
    return {"Playbook": PlaybookFile.model_json_schema(), "Cause": CauseFile.model_json_schema()}
