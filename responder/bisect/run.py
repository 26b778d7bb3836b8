"""The bisection itself: as it is → change by change → the first that heals, checked again → the verdict.

Every step is on disk before the next begins, so an interrupted bisection goes on where it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from responder.bisect.changes import REFERENCE, Launch, Step
from responder.bisect.judge import ACROSS, Asked, question, reference_of, weigh
from responder.bisect.reference import TOLERANCE_NATS, NoReference, transformers_answers
from responder.bisect.server import NotStarted, serving
from responder.bisect.story import (
    BASELINE,
    BASELINE_AGAIN,
    RECHECK,
    State,
    Tried,
    Verdict,
    conclude,
    healed_by,
    markdown,
    time_left,
)
from responder.canaries.pins import Answer, Prompt, Record
from responder.folder import write_atomic


@dataclass
class Bisection:
    """What is bisected, by what it is judged, and where it is kept."""

    launch: Launch
    steps: tuple[Step, ...]
    prompts: tuple[Prompt, ...]
    reference: Record | None
    """None: transformers' answers are the right ones."""
    state: State
    folder: Path
    start_timeout_s: float
    say: Callable[[str], None]
    transformers: bool = True

    async def run(self) -> Verdict:
        """To the end; CancelledError leaves a state that the next run goes on from."""
        async with aiohttp.ClientSession(trust_env=False) as http:
            if self.reference is None:
                self.reference = await self._own_reference()
            todo = [step for step in self.steps if step.launch is not None]
            await self._try(http, BASELINE, self.launch, "", len(todo))
            baseline = self.state.of(BASELINE)
            if baseline is not None and baseline.outcome == "wrong":
                await self._changes(http, todo)
        verdict = conclude(self.state, self.steps)
        self._report(verdict)
        return verdict

    async def _changes(self, http: aiohttp.ClientSession, todo: Sequence[Step]) -> None:
        for at, step in enumerate(todo):
            assert step.launch is not None
            await self._try(http, step.name, step.launch, step.option, len(todo) - at - 1)
            healed = healed_by(self.state, self.steps)
            if healed is not None and healed.launch is not None:
                await self._try(http, BASELINE_AGAIN, self.launch, "", 0, rechecks=1)
                await self._try(http, f"{healed.name}, {RECHECK}", healed.launch, healed.option, 0, rechecks=0)
                return
        if self.transformers and self.state.of(REFERENCE) is None:
            self._keep(await self._against_transformers())

    async def _try(
        self, http: aiohttp.ClientSession, name: str, launch: Launch, option: str, left: int, rechecks: int = 2
    ) -> None:
        """Start, ask, judge, keep; nothing when an earlier run has done it."""
        done = self.state.of(name)
        if done is not None:
            self.say(f"{name}: {done.outcome} (from the interrupted run)")
            return
        eta = time_left(self.state, left + 1, rechecks)
        self.say(f"{name}{f' ({option})' if option else ''}: starting …"
                 + (f" at most {minutes(eta)} left" if eta else ""))  # fmt: skip
        began, start_s = time.monotonic(), 0.0
        try:
            log = self.folder / "logs" / f"{name.replace(', ', '-').replace(' ', '-')}.log"
            async with serving(http, launch, log, self.start_timeout_s) as running:
                start_s = running.start_s
                asked = self._judge(name, await question(http, running.url, running.model, self.prompts))
        except NotStarted as error:
            tried = Tried(name=name, option=option, outcome="failed", says=str(error),
                          start_s=time.monotonic() - began)  # fmt: skip
        else:
            took = time.monotonic() - began
            tried = _tried(name, option, asked).model_copy(update={"start_s": start_s, "ask_s": took - start_s})
        self._keep(tried)

    def _judge(self, name: str, answers: Sequence[Answer]) -> Asked:
        assert self.reference is not None
        baseline = self.state.of(BASELINE)
        # transformers' tolerance is one between implementations already.
        across = 1.0 if self.reference.model == REFERENCE else ACROSS
        asked = weigh(self.reference, answers, baseline.tolerances if baseline else None, across)
        if name == BASELINE:
            self.state = self.state.model_copy(update={"answers": {**self.state.answers, BASELINE: asked.answers}})
        return asked

    async def _own_reference(self) -> Record:
        """transformers' answers, asked once; NoReference when there are none."""
        known = self.state.answers.get(REFERENCE)
        if known is None:
            self.say("asking Hugging Face transformers for the right answers …")
            known = await transformers_answers(self.launch, self.prompts)
            if any(answer.nan for answer in known):
                raise NoReference("transformers computes NaN from these files, too: it is the weights, not vLLM")
            self.state = self.state.model_copy(update={"answers": {**self.state.answers, REFERENCE: known}})
            self._write()
        return reference_of(known, self.prompts, TOLERANCE_NATS, REFERENCE)

    async def _against_transformers(self) -> Tried:
        """The last word: right, or wrong as well?"""
        assert self.reference is not None
        self.say("no option heals it; asking Hugging Face transformers …")
        began = time.monotonic()
        try:
            answers = await transformers_answers(self.launch, self.prompts)
        except NoReference as error:
            return Tried(name=REFERENCE, outcome="failed", says=str(error), ask_s=time.monotonic() - began)
        # Another implementation: its own tolerance if that is wider than what one server has with itself.
        pins = tuple(pin.model_copy(update={"tolerance": max(pin.tolerance, TOLERANCE_NATS)})
                     for pin in self.reference.pins)  # fmt: skip
        asked = weigh(self.reference.model_copy(update={"pins": pins}), answers, across=1.0)
        return _tried(REFERENCE, "", asked).model_copy(update={"ask_s": time.monotonic() - began})

    def _keep(self, tried: Tried) -> None:
        self.state = self.state.model_copy(update={"tried": (*self.state.tried, tried)})
        self._write()
        shift = "NaN" if tried.nan else "" if tried.tolerances is None else f", shift {tried.tolerances:.1f} tolerances"
        match = "" if tried.match is None else f", {tried.match:.0%} of the tokens as they should be"
        self.say(f"{tried.name}: {tried.outcome}{match}{shift} {tried.says} ({tried.seconds:.0f} s)".replace("  ", " "))

    def _write(self) -> None:
        write_atomic(self.folder / "state.json", self.state.model_dump_json(indent=1).encode())

    def _report(self, verdict: Verdict) -> None:
        write_atomic(self.folder / "report.md", markdown(self.state, verdict, self.steps).encode())
        skipped = {step.name: step.skipped for step in self.steps if step.skipped}
        body = {"verdict": verdict.model_dump(mode="json"), "skipped": skipped, **self.state.model_dump(mode="json")}
        write_atomic(self.folder / "report.json", _json(body))


def _tried(name: str, option: str, asked: Asked) -> Tried:
    return Tried(
        name=name, option=option, outcome="failed" if asked.error and not asked.wrong else
        "right" if asked.right else "wrong", says=asked.error, match=asked.match, tolerances=asked.tolerances,
        nan=asked.nan, wrong=asked.wrong,
    )  # fmt: skip


def minutes(seconds: float) -> str:
    """A duration for people."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _json(body: object) -> bytes:
    return (json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
