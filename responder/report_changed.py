"""What has changed since the message before? One line at the head of a final report and of an update."""

from __future__ import annotations

from responder.classes import UNKNOWN
from responder.model import Report
from responder.report_words import authored, named, sentence
from responder.words import say

COMPARES = ("update", "final")


def since_told(report: Report) -> str:
    """'Final report. Before: KV cache too small (probable); now confirmed, because …'; '' where nothing went before."""
    if report.before is None or report.stage not in COMPARES or report.judged_anew or not report.verdict.hypotheses:
        return ""
    cause, title, status, reason = report.before
    lead = report.verdict.hypotheses[0]
    why = say("changed.why", says=sentence(authored(reason))) if reason else ""
    if lead.cause != cause:
        key = "found" if cause == UNKNOWN else "lost" if lead.cause == UNKNOWN else "other"
    elif cause == UNKNOWN:
        key = "none"
    else:
        key = "same" if lead.status is status else "sure"
    words = say(
        f"changed.{key}", title=authored(lead.title), now=named("status", lead.status), other=authored(title),
        was=named("status", status), why=why,
    )  # fmt: skip
    return say(f"changed.{report.stage}", what=words)
