"""Which remedies of a cause apply to this server, and with which numbers? A playbook says when; facts decide. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TypeGuard

from responder.claims import Facts, over_looks
from responder.model import Attempt, Remedy, Scalar, Truth

BLANK = re.compile(r"<[^<>]*>")
"""What an option leaves to the reader: `--max-num-seqs <lower>`."""


def applicable(remedies: Iterable[Remedy], looks: Sequence[Facts]) -> tuple[Remedy, ...]:
    """Those that help here, with what is set now and the number to try filled in where it is known.

    `only_if` must be known to hold, `unless` must not be known to hold. A remedy whose number to try would be what is
    set already has no room left and is not offered.
    """
    known = {name: fact.value for look in looks for name, fact in look.items()}
    return tuple(
        filled for remedy in remedies if _offered(remedy, looks) and (filled := _filled(remedy, known)) is not None
    )


def _offered(remedy: Remedy, looks: Sequence[Facts]) -> bool:
    """Looks that disagree speak for it: what was stopped goes on, but may stop again."""
    if remedy.only_if is not None and over_looks(remedy.only_if, looks, Truth.YES, Truth.NO)[0] is not Truth.YES:
        return False
    return remedy.unless is None or over_looks(remedy.unless, looks, Truth.NO, Truth.YES)[0] is not Truth.YES


def _filled(remedy: Remedy, known: dict[str, Scalar]) -> Remedy | None:
    now = known.get(remedy.now)
    attempt = remedy.attempt
    start = known.get(attempt.of or remedy.now) if attempt is not None else None
    if attempt is None or isinstance(start, str | bool) or start is None or not math.isfinite(start):
        return remedy.model_copy(update={"found": now})
    number = reckoned(int(start) if _counts(now) else start, attempt)
    wanted = start * attempt.times + attempt.plus - start
    # A limit, or what is reckoned from, on the other side of what is set would turn "lower" into higher.
    if number == now or (_number(now) and (number - now) * wanted <= 0):
        return None
    # A function, so that nothing in the number means anything to the expression.
    option = BLANK.sub(lambda _: f"{number:g}" if isinstance(number, float) else str(number), remedy.option, count=1)
    return remedy.model_copy(update={"found": now, "option": option})


def _number(value: Scalar) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _counts(value: Scalar) -> bool:
    """What is set as a whole number stays one, whatever it is reckoned from."""
    return isinstance(value, int) and not isinstance(value, bool)


def reckoned(start: float, attempt: Attempt) -> float | int:
    """The number to try: whole where the setting is whole, a share to two digits; within the limits given."""
    number = start * attempt.times + attempt.plus
    number = math.floor(number + 1e-9) if isinstance(start, int) else round(number, 2)
    if attempt.at_least is not None:
        number = max(number, attempt.at_least)
    if attempt.at_most is not None:
        number = min(number, attempt.at_most)
    return int(number) if isinstance(start, int) and number == int(number) else number
