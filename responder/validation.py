"""Which problems, where in the file, does a failed validation mean? Every one of them, in an operator's words."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from responder.located import Path, Source, did_you_mean, nearest
from responder.model import Problem

WORDS = {
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
}
"""pydantic's error types in words; for others its own message is good enough."""


def problems_of(
    error: ValidationError, model: type[BaseModel], source: Source, base: Path = ()
) -> list[Problem]:  # fmt: skip
    """One problem for each error; `base` is where in the file the validated value stands. A misspelt key is one
    problem, not also a missing one."""
    details = error.errors(include_url=False, include_context=False)
    meant = {
        (*detail["loc"][:-1], near)
        for detail in details
        if detail["type"] == "extra_forbidden" and (near := _nearest(detail, model))
    }
    wanted = [detail for detail in details if not (detail["type"] == "missing" and detail["loc"] in meant)]
    return [_problem(detail, model, source, base) for detail in wanted]


def _nearest(detail: Any, model: type[BaseModel]) -> str:
    """The key that was meant, or nothing."""
    path: Path = tuple(detail["loc"])
    return nearest(str(path[-1]), _keys(_model_at(model, path[:-1])))


def _problem(detail: Any, model: type[BaseModel], source: Source, base: Path) -> Problem:
    path: Path = tuple(detail["loc"])
    last = path[-1] if path else ""
    if detail["type"] == "extra_forbidden":
        near = did_you_mean(str(last), _keys(_model_at(model, path[:-1])))
        return source.problem((*base, *path), f"unknown key `{last}`", near, key=True)
    if detail["type"] == "missing":
        return source.problem((*base, *path[:-1]), f"`{last}` is missing")
    what = WORDS.get(detail["type"]) or str(detail["msg"]).removeprefix("Value error, ")
    named = [part for part in path if isinstance(part, str) and not part.startswith("(")]
    return source.problem((*base, *path), f"`{named[-1]}`: {what}" if named else what)


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel]:
    """The model that validates the mapping at `path`."""
    for part in path:
        for name, field in model.model_fields.items():
            if part in (name, field.alias):
                model = _inside(field.annotation) or model
    return model


def _inside(annotation: Any) -> type[BaseModel] | None:
    """The first model within an annotation such as `list[Annotated[Model, …]] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _inside(argument)
        if found is not None:
            return found
    return None
