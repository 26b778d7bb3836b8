"""What may stand in a playbook test? Alerts with facts, series, or a stored incident; and what must follow."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from responder.authored import Part, Text
from responder.located import Source
from responder.model import Problem, Scalar
from responder.validation import problems_of

KIND = "PlaybookTest"


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Names = Annotated[list[Text], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]
StatusWord = Literal["confirmed", "probable", "possible", "unknown"]
Statuses = Annotated[list[StatusWord], BeforeValidator(_as_list, json_schema_input_type=StatusWord | list[StatusWord])]


class ExpectPart(Part):
    """What must follow. Whatever is left out is not judged."""

    model_config = ConfigDict(**Part.model_config, use_attribute_docstrings=True)

    silent: bool = False
    """No incident at all."""
    incident_class: Text | None = Field(default=None, alias="class")
    """Of the incident: high_ttft, slow_decode, ..."""
    playbooks: Names = []
    """Each of these must match."""
    alerts: Names = []
    """Each of these must have fired (series only)."""
    first: Names = []
    """The leading hypothesis must be one of these; `unknown` is one too."""
    status: Statuses = []
    """Of the leading hypothesis: one of these."""
    not_confirmed: Names = []
    """None of these may be called confirmed."""
    facts: dict[str, Scalar] = {}
    """Fact -> the value that must have come out of `outputs`, or of a stored incident."""
    against: Names = []
    """Ids of evidence (`evidence: - id:` of a cause) that must speak against the leading hypothesis."""
    runs: Names = []
    """Steps that must run, as they would on a live server: allowed, and worth it after what is known by then."""
    refuses: Names = []
    """Steps that must not run although a playbook asks for them: not allowed, or not needed any more."""
    within: Annotated[float, Field(gt=0)] | None = None
    """Seconds from the first sample within which the incident must open (series only)."""

    @model_validator(mode="after")
    def _says_something(self) -> ExpectPart:
        said = self.model_dump(exclude={"silent"})
        if self.silent and any(said.values()):
            raise ValueError("`silent: true` leaves nothing else to expect")
        if not self.silent and not any(said.values()):
            raise ValueError("expects nothing: name at least `first`, `class` or `silent: true`")
        return self


class SeriesPart(Part):
    """One series in promtool's notation; labels as Prometheus would store them."""

    series: Text
    values: Text


class CasePart(Part):
    """One case. Give `alerts` with `facts` or `outputs`, or `series`, or `incident`."""

    model_config = ConfigDict(**Part.model_config, use_attribute_docstrings=True)

    name: Text
    """One sentence: what must come out of what."""
    alerts: Names = []
    """Alerts that fire together; they make the incident."""
    facts: dict[str, Scalar] = {}
    """Fact -> value, as captures would bring them; null is looked for and not known."""
    outputs: dict[str, str | dict[str, str]] = {}
    """Step -> what it captured, as text, which the step's own reading turns into facts: of `command` what the program
    printed. Where playbooks have several commands, a fact that the command declares says which. For a step with
    several raw files: file name -> text."""
    skipped: dict[str, str] = {}
    """Step -> why it brought nothing."""
    incident: Text | None = None
    """A stored incident's folder, relative to this file: its recorded bytes are read again."""
    series: list[SeriesPart] = []
    """Series in promtool's notation, through the real rules: a list of
    `{series: NAME{labels}, values: "0x12 10+50x24"}`."""
    interval: Annotated[float, Field(gt=0, le=60)] = 5.0
    """Seconds between samples of `series`."""
    max_rung: Annotated[int, Field(ge=0, le=3)] = 1
    """How far the target lets captures go by themselves."""
    expect: ExpectPart
    """What must follow."""

    @model_validator(mode="after")
    def _one_way(self) -> CasePart:
        ways = [name for name in ("alerts", "series", "incident") if getattr(self, name)]
        if len(ways) != 1:
            raise ValueError("a case has either `alerts` (with `facts`), or `series`, or `incident`")
        if self.facts and not self.alerts:
            raise ValueError("`facts` need `alerts`: without a symptom nothing happens")
        if self.outputs and not self.alerts:
            raise ValueError("`outputs` need `alerts`: without a symptom nothing happens")
        if self.expect.facts and self.series:
            raise ValueError("`facts` cannot be expected of `series`; expect `first` or `class`")
        if (self.expect.alerts or self.expect.within) and not self.series:
            raise ValueError("`alerts` and `within` can be expected of `series` only")
        return self


class TestFile(BaseModel):
    """A file of kind PlaybookTest."""

    __test__ = False
    model_config = Part.model_config
    api_version: Literal["responder/v1"] = Field(alias="apiVersion")
    kind: Literal["PlaybookTest"]
    cases: Annotated[list[CasePart], Field(min_length=1)]


def is_test(source: Source) -> bool:
    """Whether a file says it is a test, so that it is no playbook."""
    root = source.root.value
    return isinstance(root, dict) and "kind" in root and root["kind"].value == KIND


def tests_of(source: Source) -> tuple[TestFile | None, list[Problem]]:
    """The cases of a file, or everything wrong with it."""
    try:
        return TestFile.model_validate(source.root.plain()), []
    except ValidationError as error:
        return None, problems_of(error, TestFile, source)


def schema() -> dict[str, Any]:
    """JSON Schema for editors."""
    return TestFile.model_json_schema()
