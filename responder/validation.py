"""Which problems, where in the file, does a failed validation mean? Every one of them, in an operator's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from responder.located import Path, Source, did_you_mean, nearest
from responder.model import Problem

WORDS = {
    "string_type": "must be text",
    "int_parsing": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list such as [a, b]",
    "tuple_type": "must be a list such as [a, b]",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "datetime_type": "must be a time such as 2026-11-26T03:00:00Z",
    "datetime_parsing": "must be a time such as 2026-11-26T03:00:00Z",
    "datetime_from_date_parsing": "must be a time such as 2026-11-26T03:00:00Z",
    "path_type": "must be the path of a file or folder",
    "finite_number": "must be a number, and a finite one",
}
"""pydantic's error types in words."""
BOUNDS = {
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
}
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,40}$"
PATTERNS = {NAME_PATTERN: "small letters, digits and `_`, a letter first: for example power_limit"}
"""Patterns of names in words."""
STARTS_AS_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+))\s*(%?)")
NAMES_A_KEY = re.compile(r"`([A-Za-z_]+)`")
"""A complaint about a whole mapping that begins with one of its keys is about that key."""


def problems_of(
    error: ValidationError, model: type[BaseModel], source: Source, base: Path = ()
) -> list[Problem]:  # fmt: skip
    """One problem for each error; `base` is where in the file the validated value stands. A misspelt key is one
    problem, not also a missing one."""
    details = first_causes(error)
    meant = {
        (*detail["loc"][:-1], near)
        for detail in details
        if detail["type"] == "extra_forbidden" and (near := _nearest(detail, model))
    }
    wanted = [detail for detail in details if not (detail["type"] == "missing" and detail["loc"] in meant)]
    return [_problem(detail, model, source, base) for detail in wanted]


def first_causes(error: ValidationError) -> list[Any]:
    """The error's details without those that only follow: a list is not too short because its items are wrong."""
    details = error.errors(include_url=False)
    places = [detail["loc"] for detail in details]

    def follows(detail: Any) -> bool:
        loc = detail["loc"]
        return detail["type"] == "too_short" and any(p[: len(loc)] == loc and len(p) > len(loc) for p in places)

    return [detail for detail in details if not follows(detail)]


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
    what = in_words(detail)
    about = NAMES_A_KEY.match(what) if detail["type"] == "value_error" else None
    if about and source.has((*base, *path, about[1])):
        return source.problem((*base, *path, about[1]), what)
    named = [part for part in path if isinstance(part, str) and not part.startswith("(")]
    return source.problem((*base, *path), f"`{named[-1]}`: {what}" if named else what)


def in_words(detail: Mapping[str, Any]) -> str:
    """What one of pydantic's error details says to somebody who writes YAML."""
    kind, given, context = detail["type"], detail.get("input"), detail.get("ctx") or {}
    if kind in BOUNDS:
        bound, word = BOUNDS[kind]
        limit = context[bound]
        return f"must be {word} {limit:g}" if isinstance(limit, int | float) else f"must be {word} {limit}"
    if kind == "literal_error":
        return f"must be {context['expected'].replace(chr(39), '')}"
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(context["pattern"]) or f"must look like `{context['pattern']}`"
    if kind == "too_long":
        return f"at most {context['max_length']} are allowed"
    if kind == "string_too_long":
        return f"at most {context['max_length']} characters are allowed"
    if kind == "missing":
        return "is missing"
    words = WORDS.get(kind) or str(detail["msg"]).removeprefix("Value error, ")
    if kind == "string_type" and isinstance(given, int | float):
        return f"{words}: put it in quotes"
    numeric = kind in ("float_type", "int_type", "float_parsing", "int_parsing")
    return words + _number_meant(given) if numeric else words


def _number_meant(given: object) -> str:
    """What somebody should have written who wrote a number with a unit, or one in quotes."""
    got = STARTS_AS_NUMBER.match(given) if isinstance(given, str) else None
    if got is None:
        return ""
    return f": write {float(got[1]) / 100:g}" if got[2] else f": write {got[1]}, without unit or quotes"


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
