"""Every fact of every real trace is what it was: making the engine faster or smaller must not change one.

Stored by `python -m bench.traces --store-facts tests/data/traces/facts.json`; a difference in that file is a change of
what the engine says, to be looked at as one.
"""

from __future__ import annotations

import json
from functools import cache

import pytest

from responder.traces.facts import facts_of
from responder.traces.findings import findings
from responder.traces.ranks import across
from responder.traces.verdicts import TraceReport
from tests.traces import real


@cache
def stored() -> dict[str, dict[str, object]]:
    """File -> fact -> value."""
    found: dict[str, dict[str, object]] = json.loads((real.DATA / "facts.json").read_text())
    return found


def test_every_real_trace_is_stored() -> None:
    """A new recording is added to the file."""
    assert sorted(stored()) == sorted(real.ALL)


@pytest.mark.parametrize("name", real.ALL)
def test_no_fact_has_changed(name: str) -> None:
    """To twelve digits; floats of other processors differ in the last."""
    analysed = real.analysed(name)
    together = across([analysed])
    report = TraceReport(ranks=[analysed.view], across=together, findings=findings([analysed.view], together, None))
    got = {fact.name: fact.value for fact in facts_of(report)}
    want = stored()[name]
    assert got.keys() == want.keys()
    for fact, value in want.items():
        exact = isinstance(value, (str, bool)) or value is None
        assert got[fact] == (value if exact else pytest.approx(value, rel=1e-12)), fact
