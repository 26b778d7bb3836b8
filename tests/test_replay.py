"""Recorded incidents, replayed: the same bytes give the same verdict, and it is the right one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from responder.capture import STEPS
from responder.folder import IncidentFolder
from responder.model import Content, Report
from responder.replay import NotAnIncident, replay
from responder.report import to_json
from tests.replayed import FOLDER, RECORDED
from tests.replayed import content as shipped
from tests.replayed import replayed as first


@pytest.fixture(scope="module")
def content() -> Content:
    """Today's rules, playbooks and causes."""
    return shipped()


@pytest.fixture(scope="module")
def replayed() -> Callable[[str], Report]:
    """The first replay of a folder, for all tests."""
    return first


@pytest.mark.parametrize("name", RECORDED)
def test_the_verdict_of_a_recorded_incident_is_its_truth(name: str, replayed: Callable[[str], Report]) -> None:
    """Real servers, known faults; recorded by the daemon itself. A fault that no playbook knows is not confirmed as
    something else; a `miss` says why this one is not found yet, and must go when it is; `confirmed_wrongly` goes as
    soon as what is wrong is not confirmed any more."""
    truth = json.loads((FOLDER / name / "truth.json").read_text())
    report = replayed(name)
    top = report.verdict.hypotheses[0]
    assert report.incident.incident_class in truth.get("classes", [truth["class"]])
    right = top.cause in (truth["cause"], *truth.get("causes", ()))
    if truth["cause"] == "unknown":
        assert right or top.status.value != "confirmed"
    elif "miss" in truth:
        assert not right
        assert (top.status.value == "confirmed") == truth.get("confirmed_wrongly", False)
    else:
        assert (right, top.status.value) in [(True, status) for status in truth["status"]], top.cause
        assert top.supports


@pytest.mark.parametrize("name", RECORDED)
def test_two_faults_are_named_where_two_were_there_and_only_there(name: str, replayed: Callable[[str], Report]) -> None:
    """Both of a pair, but where `one_of_two` says why not yet; never a second one beside a single fault."""
    truth = json.loads((FOLDER / name / "truth.json").read_text())
    both = set(truth["causes"]) if truth.get("pair") and "one_of_two" not in truth else set()
    assert set(replayed(name).verdict.together) == both


@pytest.mark.parametrize("name", RECORDED)
def test_replaying_twice_gives_the_same_bytes(name: str, content: Content, replayed: Callable[[str], Report]) -> None:
    """No clock, no order of a set, no randomness."""
    assert to_json(replayed(name)) == to_json(replay(FOLDER / name, STEPS, content))


@pytest.mark.parametrize("name", RECORDED)
def test_every_cited_value_is_in_the_folder(name: str, replayed: Callable[[str], Report]) -> None:
    """A report cites raw files; each of them is there, unchanged since it was written."""
    report = replayed(name)
    hashes = {
        (entry["evidence"]["id"], file): digest
        for entry in json.loads((FOLDER / name / "manifest.json").read_text())["evidence"]
        for file, digest in entry["sha256"].items()
    }
    steps = {item.step: item.id for item in report.evidence}
    cited = 0
    for hypothesis in report.verdict.hypotheses:
        for finding in (*hypothesis.supports, *hypothesis.contradicts):
            for fact in finding.facts:
                raw = FOLDER / name / "raw" / steps[fact.step]
                assert raw.is_dir(), fact
                if fact.file:
                    runs = [e.id for e in report.evidence if e.step == fact.step and fact.file in e.files]
                    assert runs, fact
                    digest = hashlib.sha256(IncidentFolder(FOLDER / name).read_raw(runs[0])[fact.file]).hexdigest()
                    assert digest == hashes[runs[0], fact.file]
                cited += 1
    assert cited > 5


def test_a_folder_without_its_playbooks_says_how_to_read_it(tmp_path: Path) -> None:
    """As those of the fault lab are kept."""
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(NotAnIncident, match="holds no content.json.* Add --today"):
        replay(tmp_path, STEPS)


def test_a_folder_with_a_broken_manifest_is_refused_in_words(tmp_path: Path) -> None:
    """Not an exception of some library."""
    (tmp_path / "manifest.json").write_text('{"report": 3}')
    (tmp_path / "content.json").write_text("{}")
    with pytest.raises(NotAnIncident, match=str(tmp_path)):
        replay(tmp_path, STEPS)
