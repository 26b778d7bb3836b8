"""What may an operator write about who is told? Routes with matchers and hours; checked word by word."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from responder.routes import DAYS, Hours, Route


def minutes(value: object) -> object:
    """`22:30` as minutes after midnight."""
    got = re.fullmatch(r"(\d\d?):(\d\d)", str(value))
    if not got or int(got[1]) * 60 + int(got[2]) > 1440 or int(got[2]) > 59:
        raise ValueError(f'{value!r} is not a time of day; write for example "22:00", in quotes')
    return int(got[1]) * 60 + int(got[2])


def time_zone(value: str) -> str:
    """A time zone this host knows."""
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no time zone {value!r} on this host; write for example Europe/Berlin") from None
    return value


def pattern(value: str) -> str:
    """A regular expression."""
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from None
    return value


class HoursPart(BaseModel):
    """Hours of the week: days `[mon, tue, …]`, `from` and `to` as "22:00", a time zone such as Europe/Berlin."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = (
        "mon", "tue", "wed", "thu", "fri", "sat", "sun",
    )  # fmt: skip
    begin: Annotated[int, BeforeValidator(minutes), Field(alias="from")] = 0
    end: Annotated[int, BeforeValidator(minutes), Field(alias="to")] = 1440
    zone: Annotated[str, AfterValidator(time_zone)] = "UTC"


class RoutePart(BaseModel):
    """Which receivers are told of what; the first route that matches counts, with `continue` later ones, too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: dict[str, Annotated[str, AfterValidator(pattern)]] = Field(default_factory=dict)
    """severity, class, model, target, alert or a label of the target -> regular expression, fully anchored."""
    hours: tuple[HoursPart, ...] = ()
    receivers: Annotated[tuple[str, ...], Field(min_length=1)]
    goes_on: Annotated[bool, Field(alias="continue")] = False

    def route(self) -> Route:
        """As the flow knows it."""
        hours = tuple(
            Hours(days=tuple(map(DAYS.index, part.days)), start=part.begin, end=part.end, zone=part.zone)
            for part in self.hours
        )
        return Route(match=self.match, hours=hours, receivers=self.receivers, goes_on=self.goes_on)
