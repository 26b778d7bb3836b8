"""Which steps would have run on a live server, given what each would have brought? As `respond.py` climbs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from responder.capture.step import Step
from responder.diagnose import diagnose
from responder.model import Content, Evidence, Incident, Plan, Refusal, StepCall
from responder.plan import HEAVY_RUNG, Budget, plan
from responder.worth import choose


def climbed(
    incident: Incident, content: Content, steps: Mapping[str, Step], brought: Sequence[Evidence], max_rung: int
) -> Plan:
    """What ran and what did not, with reasons. brought: at most one piece of evidence for each step; what a step would
    have brought counts only once that step has run, so a capture that earlier ones make needless does not run."""
    chosen: list[StepCall] = []
    refused: dict[str, Refusal] = {}
    done: set[str] = set()
    budget = Budget(max_rung=max_rung, canary=max_rung > 0)
    for rung in range(max_rung + 1):
        now = plan(incident, content.playbooks, steps, budget.model_copy(update={"only_rung": rung}), done=done)
        left = list(now.chosen)
        while left:
            batch: Sequence[StepCall] = left
            needless: Sequence[Refusal] = ()
            if rung > 0:
                so_far = [item for item in brought if item.step in done]
                verdict = diagnose(incident, content.playbooks, content.causes, so_far, Plan(chosen=tuple(chosen)))
                found = choose(incident, left, verdict, content.causes, steps, so_far)
                batch, needless = (found.chosen if rung < HEAVY_RUNG else found.chosen[:1]), found.refused
            chosen += batch
            refused |= {refusal.call.step: refusal for refusal in needless}
            done |= {call.step for call in batch} | {refusal.call.step for refusal in needless}
            left = [call for call in left if call.step not in done]
    rest = plan(incident, content.playbooks, steps, budget, done=done)
    refused |= {refusal.call.step: refusal for refusal in rest.refused}
    return Plan(chosen=tuple(chosen), refused=tuple(refused.values()))
