"""Numbers read from text many at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from responder.traces.digits import up_to_eight, up_to_sixteen, words_of


@given(st.lists(st.integers(0, 99_999_999), min_size=1, max_size=30))
def test_numbers_of_up_to_eight_digits_are_read_exactly(numbers: list[int]) -> None:
    """Whatever stands around them."""
    text = b"".join(b'"dur": %d,xx ' % number for number in numbers) + b" " * 8
    at, lengths, place = [], [], 0
    for number in numbers:
        place = text.index(b'": ', place) + 3
        at.append(place)
        lengths.append(len(str(number)))
    values, fine = up_to_eight(words_of(text), np.array(at), np.array(lengths))
    assert fine.all()
    assert values.tolist() == numbers


@given(st.integers(1, 16).flatmap(lambda n: st.integers(10 ** (n - 1) if n > 1 else 0, 10**n - 1)))
def test_numbers_of_up_to_sixteen_digits_are_read_exactly(number: int) -> None:
    """Times since 1970 in microseconds have sixteen."""
    text = str(number).encode() + b".123, rest of line"
    values, fine = up_to_sixteen(words_of(text), np.array([0]), len(str(number)))
    assert fine.all()
    assert values.tolist() == [number]


@given(st.binary(min_size=16, max_size=16), st.integers(1, 8))
def test_what_is_no_digit_is_noticed(text: bytes, length: int) -> None:
    """Any other byte makes the number not fine."""
    _, fine = up_to_eight(words_of(text), np.array([0]), length)
    assert bool(fine[0]) == all(48 <= byte <= 57 for byte in text[:length])
