"""Is this still the answer that was called good? Token for token, and by how much the log-probabilities moved.

A batch of another size sums in another order, so healthy answers differ in the last digits, and where two tokens are
nearly as likely the other one may win. Both are no corruption: the shift is measured against what healthy runs showed,
and a lost tie ends the comparison without counting against the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from statistics import median

from responder.canaries.pins import Answer, Pin, Record
from responder.model import Noun

FLOOR_NATS = 0.02
"""Tolerance at least: runs that happened to agree to the last digit do not promise that the next one will."""
MARGIN = 3.0
"""Tolerance: so many times the largest difference among the healthy runs."""
UNPINNABLE_NATS = 0.5
"""A healthy server that varies by more than this cannot be told from a sick one."""
MATCH_WITHOUT_NUMBERS = 0.9
"""Share of tokens that must be right where there are no log-probabilities to tell a lost tie from an error."""
LOOP_TOKENS = 8


class Difference(Noun):
    """One answer against its pin."""

    prompt: str
    matched: int
    expected: int
    """Positions that counted; a lost tie ends the count."""
    shift: float | None
    """Mean |difference| of log-probabilities, nats; None without numbers on both sides."""
    tolerances: float | None
    nan: bool
    repeats: bool

    @property
    def bad(self) -> bool:
        """Whether this one is wrong."""
        if self.nan or self.repeats:
            return True
        if self.tolerances is not None:
            return self.tolerances > 1.0
        return self.matched < MATCH_WITHOUT_NUMBERS * self.expected


class Judgement(Noun):
    """All answers of one probe. Everything is None when nothing could be compared."""

    judged: int
    bad: bool | None
    match: float | None
    """Share of the tokens that are the recorded ones."""
    shift: float | None
    """Of the worst prompt, nats."""
    tolerances: float | None
    """Of the worst prompt: over 1 is more than healthy noise."""
    nan: bool | None
    repeats: bool | None
    wrong: tuple[str, ...] = ()
    """Ids of the prompts that are wrong."""
    first_token_right: bool | None = None
    """Whether every wrong answer at least begins right: prefill is right, decoding is not."""
    errors: tuple[str, ...] = ()


def judge(record: Record, answers: Iterable[Answer]) -> Judgement:
    """One probe's answers against the record."""
    pins = {pin.prompt.id: pin for pin in record.pins}
    got = list(answers)
    found = [differ(pins[a.prompt], a) for a in got if a.prompt in pins and a.usable]
    errors = tuple(dict.fromkeys(a.error for a in got if a.error and not a.nan))
    if not found:
        return Judgement(judged=0, bad=None, match=None, shift=None, tolerances=None, nan=None, repeats=None,
                         errors=errors)  # fmt: skip
    counted = [d for d in found if not d.nan]
    expected = sum(d.expected for d in counted)
    wrong = tuple(dict.fromkeys(d.prompt for d in found if d.bad))
    numbers = any(a.top or a.nan for a in got)
    return Judgement(
        judged=len(found),
        bad=bool(wrong),
        match=sum(d.matched for d in counted) / expected if expected else None,
        shift=max((d.shift for d in found if d.shift is not None), default=None),
        tolerances=max((d.tolerances for d in found if d.tolerances is not None), default=None),
        nan=any(d.nan for d in found) if numbers else None,
        repeats=any(d.repeats for d in found),
        wrong=wrong,
        first_token_right=all(d.matched >= 1 for d in found if d.bad) if wrong else None,
        errors=errors,
    )


def differ(pin: Pin, answer: Answer) -> Difference:
    """One answer against its pin."""
    if answer.nan:
        return Difference(prompt=answer.prompt, matched=0, expected=pin.stable, shift=None, tolerances=None, nan=True,
                          repeats=False)  # fmt: skip
    matched, tied = agreed(pin.answer, answer, 2 * pin.tolerance, pin.stable)
    shift = shift_of(pin.answer, answer, min(matched + 1, pin.stable))
    return Difference(
        prompt=answer.prompt,
        matched=matched,
        expected=matched if tied else pin.stable,
        shift=shift,
        tolerances=None if shift is None else shift / pin.tolerance,
        nan=False,
        repeats=_loops(answer) and not _loops(pin.answer) and not tied and matched < pin.stable,
    )


def agreed(good: Answer, answer: Answer, tie: float, limit: int) -> tuple[int, bool]:
    """Positions that agree up to the first that does not, and whether that one was a tie."""
    for at in range(limit):
        mine = answer.tokens[at] if at < len(answer.tokens) else None
        if mine == good.tokens[at]:
            continue
        here = good.top[at] if at < len(good.top) else {}
        tied = mine is not None and mine in here and here.get(good.tokens[at], 0.0) - here[mine] <= tie
        return at, tied
    return limit, False


def shift_of(good: Answer, answer: Answer, positions: int) -> float | None:
    """Mean |difference| of the recorded tokens' log-probabilities over the first positions. A token that has left the
    top is counted as far as it must at least have fallen."""
    moved = []
    for at in range(min(positions, len(good.top), len(answer.top))):
        here = answer.top[at]
        floor = min(here.values(), default=None)
        for token, value in good.top[at].items():
            if token in here:
                moved.append(abs(value - here[token]))
            elif floor is not None:
                moved.append(max(0.0, value - floor))
    return sum(moved) / len(moved) if moved else None


def learn(prompt_pin: Pin, runs: Sequence[Answer]) -> Pin:
    """The pin with the tolerance that healthy runs at different load ask for. ValueError in words when they differ too
    much to be a measure of anything."""
    usable = [run for run in runs if run.usable and not run.nan]
    if not usable:
        raise ValueError(f"{prompt_pin.prompt.id}: no answer came back")
    good = prompt_pin.answer
    tie = 2 * UNPINNABLE_NATS
    shared = [agreed(good, run, tie, len(good.tokens)) for run in usable]
    stable = min((at for at, _ in shared), default=0)
    noise = max((shift_of(good, run, at + 1) or 0.0 for run, (at, _) in zip(usable, shared, strict=True)), default=0.0)
    if noise * MARGIN > UNPINNABLE_NATS or (shared and any(at < len(good.tokens) and not tied for at, tied in shared)):
        raise ValueError(
            f"{prompt_pin.prompt.id}: healthy runs differ by {noise:.3g} nats or in tokens that are no tie; answers "
            "that depend so much on load cannot be pinned (is the server really well?)"
        )
    # A tie in the first position would leave nothing to compare: the numbers of that position still do.
    return prompt_pin.model_copy(
        update={"stable": max(stable, 1), "noise": noise, "tolerance": max(FLOOR_NATS, MARGIN * noise)}
    )


def distance(one: Sequence[Answer], other: Sequence[Answer]) -> float | None:
    """How far two servers' answers are apart: the worst prompt's mean |difference|; with NaN or without numbers on one
    side: 1 nat for every prompt of which tokens differ."""
    theirs = {answer.prompt: answer for answer in other if answer.usable}
    found = []
    for mine in one:
        its = theirs.get(mine.prompt)
        if its is None or not mine.usable:
            continue
        if mine.nan or its.nan:
            found.append(0.0 if mine.nan == its.nan else 1.0)
            continue
        limit = min(len(mine.tokens), len(its.tokens))
        matched, _ = agreed(mine, its, 0.0, limit)
        shift = shift_of(mine, its, min(matched + 1, limit))
        found.append(shift if shift is not None else float(matched < limit))
    return max(found, default=None)


def odd_ones(answers: dict[str, Sequence[Answer]], near: float) -> tuple[str, ...] | None:
    """Which of at least three servers differ from a majority that agrees; () when all agree, None when it cannot be
    told (two servers that differ, or no majority)."""
    apart: dict[frozenset[str], float] = {}
    for one, other in combinations(sorted(answers), 2):
        far = distance(answers[one], answers[other])
        if far is None:
            return None
        apart[frozenset((one, other))] = far
    if not apart:
        return None
    if max(apart.values()) <= near:
        return ()
    for name in sorted(answers):
        # Whoever is near more than half of all speaks for the majority.
        crowd = {n for n in answers if n == name or apart[frozenset((name, n))] <= near}
        if 2 * len(crowd) > len(answers):
            return tuple(sorted(set(answers) - crowd))
    return None


def _loops(answer: Answer) -> bool:
    """One token over and over, or cut by the engine because it repeats itself."""
    if answer.finish == "repetition":
        return True
    tail = answer.tokens[-LOOP_TOKENS:]
    return len(tail) == LOOP_TOKENS and len(set(tail)) == 1


def middle(values: Iterable[float]) -> float:
    """The median; 0 of nothing."""
    known = list(values)
    return median(known) if known else 0.0
