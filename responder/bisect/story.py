"""What has a bisection found so far? Its state (kept after every step, so that it can go on), verdict and report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from responder.bisect.changes import CAUSE_OF, REFERENCE, Step
from responder.canaries.pins import Answer
from responder.model import Noun

Outcome = Literal["right", "wrong", "failed", "skipped"]
BASELINE, RECHECK, BASELINE_AGAIN = "as it is", "once more", "as it is, again"


class Tried(Noun):
    """One server that was started and asked, or could not be."""

    name: str
    option: str = ""
    outcome: Outcome
    says: str = ""
    match: float | None = None
    tolerances: float | None = None
    nan: bool | None = None
    wrong: tuple[str, ...] = ()
    start_s: float = 0.0
    ask_s: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it took in all."""
        return self.start_s + self.ask_s


class State(Noun):
    """Everything that must outlive an interruption."""

    id: str
    command: tuple[str, ...]
    reference: str
    """Where the right answers come from, in words."""
    began_at: float
    tried: tuple[Tried, ...] = ()
    answers: dict[str, tuple[Answer, ...]] = {}
    """Of the server as it is, and of transformers."""

    def of(self, name: str) -> Tried | None:
        """What became of a step."""
        return next((item for item in self.tried if item.name == name), None)


class Verdict(Noun):
    """The end of it."""

    status: Literal["found", "not_reproduced", "weights", "vllm", "not_found", "unstable", "failed"]
    change: str = ""
    option: str = ""
    cause: str = ""
    says: str


def healed_by(state: State, steps: Sequence[Step]) -> Step | None:
    """The first change under which the answers were right."""
    for step in steps:
        tried = state.of(step.name)
        if tried is not None and tried.outcome == "right":
            return step
    return None


def conclude(state: State, steps: Sequence[Step]) -> Verdict:
    """What the tried servers prove."""
    baseline = state.of(BASELINE)
    if baseline is None or baseline.outcome == "failed":
        return Verdict(status="failed", says="The server as it is could not be started here: "
                       + (baseline.says if baseline else "it was not tried"))  # fmt: skip
    if baseline.outcome == "right":
        return Verdict(status="not_reproduced", says="The same command answers rightly here. The fault is in what this "
                       "copy does not share with the sick server: its accelerator (memory errors), its files on disk, "
                       "the state it has got into, or traffic these cases do not have.")  # fmt: skip
    step = healed_by(state, steps)
    if step is not None:
        return _healed(state, step)
    return _not_healed(state)


def _healed(state: State, step: Step) -> Verdict:
    again, still = state.of(f"{step.name}, {RECHECK}"), state.of(BASELINE_AGAIN)
    if (again and again.outcome != "right") or (still and still.outcome == "right"):
        return Verdict(status="unstable", change=step.name, option=step.option, says=f"{step.option} healed it once, "
                       "but not when it was checked again: the defect comes and goes. Give more cases, or run it "
                       "again.")  # fmt: skip
    checked = "checked twice, with the original wrong again in between" if again and still else "not checked again"
    return Verdict(status="found", change=step.name, option=step.option, cause=CAUSE_OF.get(step.name, ""),
                   says=f"Answers are wrong because of {step.says}: right with {step.option} ({checked}).")  # fmt: skip


def _not_healed(state: State) -> Verdict:
    reference = state.of(REFERENCE)
    if reference is not None and reference.outcome == "wrong":
        return Verdict(status="weights", cause="weights_mismatch", says="No option heals it, and Hugging Face "
                       "transformers gives the same wrong answers from the same files: it is the files (weights, "
                       "tokenizer, configuration), not vLLM.")  # fmt: skip
    if reference is not None and reference.outcome == "right":
        return Verdict(status="vllm", says="No option heals it, but Hugging Face transformers answers rightly from the "
                       "same files: a defect of this vLLM version, its kernels or this accelerator. Try another "
                       "version, then another machine.")  # fmt: skip
    return Verdict(status="not_found", says="None of the changes heals it.")


def time_left(state: State, left: int, rechecks: int = 2) -> float | None:
    """Seconds, from what the steps took so far; None before the first."""
    took = [item.seconds for item in state.tried if item.outcome in ("right", "wrong") and item.name != REFERENCE]
    return (left + rechecks) * sum(took) / len(took) if took else None


def markdown(state: State, verdict: Verdict, steps: Sequence[Step]) -> str:
    """The report."""
    lines = [
        "# Bisection of wrong answers", "", f"**{verdict.says}**", "",
        f"- command: `{' '.join(state.command)}`", f"- right answers: {state.reference}",
    ]  # fmt: skip
    if verdict.cause:
        lines.append(f"- cause: `{verdict.cause}`")
    if verdict.option and verdict.status == "found":
        lines.append(f"- until it is mended, start the server with `{verdict.option}`")
    head = (
        "server",
        "option",
        "answers",
        "tokens as they should be",
        "shift (tolerances)",
        "wrong cases",
        "start",
        "ask",
    )
    lines += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for item in state.tried:
        match = "" if item.match is None else f"{item.match:.0%}"
        shift = "NaN" if item.nan else "" if item.tolerances is None else f"{item.tolerances:.1f}"
        says = f"{item.outcome}: {item.says}" if item.says else item.outcome
        option = f"`{item.option}`" if item.option else ""
        lines.append(f"| {item.name} | {option} | {says} | {match} | {shift} | {', '.join(item.wrong)} | "
                     f"{item.start_s:.0f} s | {item.ask_s:.0f} s |")  # fmt: skip
    skipped = [step for step in steps if step.skipped]
    if skipped:
        lines += ["", "Not tried:", "", *(f"- {step.name}: {step.skipped}" for step in skipped)]
    return "\n".join(lines) + "\n"
