"""What does an incident folder's manifest say of one step? Everything but its files: `replay.py` reads it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from responder.capture.step import Brief
from responder.model import Evidence, Symptom


def manifest_entry(
    item: Evidence, brief: Brief | None = None, hashes: Mapping[str, str] | None = None,
    redactions: Mapping[str, int] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One step: how it went, what its reader knew (`brief`; None: nothing is read of it), its files' sha256, and how
    much was redacted of which kind. Facts are left out: they are read from the files again."""
    return {
        "evidence": item.model_copy(update={"facts": ()}).model_dump(mode="json"),
        "brief": {
            "now": brief.now,
            "onset_at": brief.onset_at,
            "opened_at": brief.opened_at,
            "symptoms": [symptom.model_dump(mode="json") for symptom in brief.symptoms],
        }
        if brief
        else {},
        "sha256": dict(hashes or {}),
        "redactions": dict(redactions or {}),
    }


def brief_again(told: Mapping[str, Any], brief: Mapping[str, Any]) -> Brief:
    """The brief of an entry. told: the incident's `target`, `signals` and `scrape_s`, which all its entries share."""
    return Brief(
        target=told["target"],
        now=brief["now"],
        onset_at=brief["onset_at"],
        opened_at=brief["opened_at"],
        symptoms=tuple(Symptom.model_validate(s) for s in brief["symptoms"]),
        signals=tuple(told["signals"]),
        scrape_interval_s=told["scrape_s"],
    )
