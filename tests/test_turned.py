"""What has changed since the last message stands at the head of the next one, with the finding that changed it."""

from __future__ import annotations

from typing import Any

import pytest

from responder.diagnose import diagnose
from responder.model import Content, Evidence, Fact, Outcome, Status, Verdict
from responder.notify.slack_blocks import parent
from responder.report import contract, summary_text, to_html, to_markdown
from responder.report_changed import since_told
from responder.turned import entries, why
from responder.words import language, speaking
from tests.flow import cause, content, incident
from tests.sample_report import sample

CONTENT: Content = content().model_copy(update={"causes": (cause("c", "look.busy"), cause("d", "deep.busy"))})


def verdict(**facts: bool) -> Verdict:
    found = tuple(Fact(name=f"{step}.busy", value=value, step=step) for step, value in facts.items())
    item = Evidence(id="e", step="look", rung=0, outcome=Outcome.OK, started_at=0, seconds=0, facts=found)
    return diagnose(incident(), CONTENT.playbooks, CONTENT.causes, (item,))


def says(before: Verdict | None, now: Verdict) -> list[str]:
    return [f"{entry.kind}: {entry.says}" for entry in entries(before, now, 1.0)]


def test_the_timeline_says_what_changed_a_verdict() -> None:
    """Within a minute it may name three causes: each turn has its reason, so has a second cause beside the first."""
    nothing, first, both, other = verdict(), verdict(look=True), verdict(look=True, deep=True), verdict(
        look=False, deep=True
    )  # fmt: skip
    assert says(None, nothing) == []
    assert says(nothing, first)[0].startswith("cause: c: confirmed (9")
    assert says(first, first) == []
    assert says(first, both) == ["cause: d: probable beside another", "note: what changed it: deep.busy is so"]
    assert says(both, both) == []
    assert says(first, other)[1] == "note: until then c was confirmed; what changed it: deep.busy is so"
    assert why(first, other) == "deep.busy is so"


@pytest.mark.parametrize(
    ("before", "head"),
    [
        (None, ""),
        (("unknown", "None", Status.UNKNOWN, ""), "Final report: a cause was found, "),
        (
            ("other", "Another cause", Status.PROBABLE, "the cache is full"),
            'no longer "Another cause" (probable), because the',
        ),
        ("same", "is still"),
        ("surer", " was possible, now it is "),
    ],
)
def test_the_final_message_says_at_its_head_what_has_changed(before: Any, head: str) -> None:
    """In every form, right after the title; nowhere else, and not in the first one."""
    report = sample("final")
    lead = report.verdict.hypotheses[0]
    kinds = {"same": lead.status, "surer": Status.POSSIBLE}
    if isinstance(before, str):
        before = (lead.cause, lead.title, kinds[before], "")
    report = report.model_copy(update={"before": before})
    line = since_told(report)
    assert (head in line) if head else (line == "")
    assert contract(report)["changed"] == line
    if head:
        assert summary_text(report).splitlines()[1].startswith(line[:40].replace("`", ""))
        assert line.split(",")[0] in to_markdown(report).split("\n\n")[1].replace("\\", "")
        assert "<p>Final report: " in to_html(report, {})
        assert "Final report: " in parent(contract(report))[1]["text"]["text"]
        with speaking(language("zh")):
            assert since_told(report).startswith("完整报告：")
    for stage in ("first", "resolved"):
        assert since_told(report.model_copy(update={"stage": stage})) == ""
