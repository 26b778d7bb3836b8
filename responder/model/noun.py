"""What is every noun made of? The frozen value, the three truth values, and what a fact can be."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

Scalar = float | int | bool | str | None
"""What a fact can be; None means *unknown*, never zero and never fine."""

Three = tuple[float | None, float | None, float | None]
Operator = Literal[">", ">=", "<", "<=", "==", "!="]


class Noun(BaseModel):
    """Base of every value here: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Truth(StrEnum):
    """Three truth values everywhere; unknown never silently becomes either of the others."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """How loud an incident is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"
