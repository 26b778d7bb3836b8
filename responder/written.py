"""Which noun does a playbook or cause file become, and where in it was each part written?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from responder.authored import CauseBody, CauseFile, PlaybookFile, RemedyPart
from responder.located import Path, Source
from responder.model import (
    Attempt,
    Beside,
    Cause,
    Disproof,
    Playbook,
    Problem,
    Reason,
    Remedy,
    StepCall,
    Test,
    Weight,
)
from responder.validation import problems_of

N = TypeVar("N")


@dataclass(frozen=True)
class Written(Generic[N]):
    """A noun together with what was written, so that checks across files can point at the place."""

    noun: N
    body: Any
    """PlaybookFile for a playbook, CauseBody for a cause."""
    source: Source
    path: Path = ()
    """Where in the file it stands."""


def cause_of(source: Source) -> tuple[Written[Cause] | None, list[Problem]]:
    """The cause a file of kind Cause defines."""
    try:
        body = CauseFile.model_validate(source.root.plain())
    except ValidationError as error:
        return None, problems_of(error, CauseFile, source)
    return _cause(body.id, body, source, ()), []


def playbook_of(source: Source) -> tuple[Written[Playbook] | None, list[Written[Cause]], list[Problem]]:
    """The playbook of a file, and the causes it defines itself."""
    try:
        body = PlaybookFile.model_validate(source.root.plain())
    except ValidationError as error:
        return None, [], problems_of(error, PlaybookFile, source)
    book = Playbook(
        id=body.id,
        incident_class=body.incident_class,
        title=body.title,
        alerts=tuple(body.alerts),
        ladder=tuple(
            StepCall(step=part.step, rung=rung.rung, params=part.params, why=part.why)
            for rung in sorted(body.ladder, key=lambda part: part.rung)
            for part in rung.steps
        ),
        causes=tuple(body.causes),
        priors={name: entry for name, entry in body.causes.items() if isinstance(entry, float)},
        file=source.file,
        line=source.root.line,
    )
    inline = [
        _cause(name, entry, source, ("causes", name))
        for name, entry in body.causes.items()
        if isinstance(entry, CauseBody)
    ]
    return Written(book, body, source), inline, []


def _cause(name: str, body: CauseBody, source: Source, path: Path) -> Written[Cause]:
    tests = {at: part.noun(source, (*path, *at)) for at, part in body.tests()}
    cause = Cause(
        id=name,
        title=body.title,
        titles=tuple(Reason(test=tests["titles", index], says=part.says) for index, part in enumerate(body.titles)),
        says=body.says,
        prior=body.prior,
        evidence=tuple(
            Weight(
                id=part.id,
                group=part.group,
                test=tests["evidence", index],
                yes=part.yes,
                no=part.no,
                says=part.says,
                says_not=part.says_not,
                first_look=part.first_look,
            )
            for index, part in enumerate(body.evidence)
        ),
        confirm=tuple(tuple(ways) if len(ways) > 1 else ways[0] for ways in body.confirm),
        told_apart=tuple(
            Reason(test=tests["told_apart", index], says=part.says) for index, part in enumerate(body.told_apart)
        ),
        disproved_by=tuple(tests["disproved_by", index] for index in range(len(body.disproved_by))),
        beside=tuple(
            Beside(
                id=part.id,
                causes=tuple(part.causes),
                test=tests["beside", index],
                despite=tuple(part.despite),
                says=part.says,
            )
            for index, part in enumerate(body.beside)
        ),
        explains=tuple(body.explains),
        why=tuple(
            Reason(test=tests["why", "known_by", index], says=reason.says)
            for index, reason in enumerate(body.why.known_by if body.why else ())
        ),
        why_otherwise=body.why.otherwise if body.why else "",
        would_disprove=Disproof(says=body.would_disprove.says, command=body.would_disprove.command.strip()),
        remedies=tuple(_remedy(part, tests, index) for index, part in enumerate(body.remedies)),
        seen_in=tuple(body.seen_in),
        file=source.file,
        line=source.locate(path)[0],
    )
    return Written(cause, body, source, path)


def _remedy(part: RemedyPart, tests: Mapping[Path, Test], index: int) -> Remedy:
    return Remedy(
        says=part.says,
        option=part.option,
        tradeoff=part.tradeoff,
        safe_now=part.safe_now,
        only_if=tests.get(("remedies", index, "only_if")),
        unless=tests.get(("remedies", index, "unless")),
        now=part.now or "",
        attempt=None if part.attempt is None else Attempt(**part.attempt.model_dump(exclude_none=True)),
    )
