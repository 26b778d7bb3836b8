"""What may a site change by id in what is shipped?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from responder.config_values import Duration, Part


class AlertOverride(Part):
    """What one alert is to be on this site."""

    threshold: float | None = None
    """Of its first comparison; `thresholds` of a target go before it."""
    hold: Duration | None = Field(default=None, alias="for")
    severity: Literal["info", "warning", "critical"] | None = None
    disabled: bool = False


class CauseOverride(Part):
    """What one cause is to be on this site."""

    prior: Annotated[float, Field(gt=0, le=1)] | None = None
    disabled: bool = False


class PlaybookOverride(Part):
    """What one playbook is to be on this site."""

    disabled: bool = False


class OverridesPart(Part):
    """Changes to what is shipped, by id: nothing is copied, so updates still arrive."""

    alerts: dict[str, AlertOverride] = Field(default_factory=dict)
    causes: dict[str, CauseOverride] = Field(default_factory=dict)
    playbooks: dict[str, PlaybookOverride] = Field(default_factory=dict)
