"""Keys found for many events at once are those found text by text, however alike the texts are."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from responder.traces.columns import Keys
from responder.traces.digits import words_of
from responder.traces.spellings import LONGEST, Spellings

TAIL = b'",\n    "pid": 577,\n    "tid": 7,'
NAMES = st.one_of(
    st.sampled_from([b"a" * 100 + b"b" * 100, b"a" * 100 + b"c" + b"b" * 99, b"a" * 200, b"x" * (LONGEST + 1)]),
    st.binary(max_size=90).map(lambda raw: raw.hex().encode()),
)


def ask(found: Spellings, texts: list[bytes]) -> list[int]:
    """Numbers of texts that stand in one piece, each with what follows a name in a trace."""
    begin, end, piece = [], [], bytearray()
    for text in texts:
        begin.append(len(piece))
        piece += text
        end.append(len(piece))
        piece += b'\n    "ts": 4310730783069.234,\n    "dur": 13.486\n    ,\n    "args": {\n      \n    }\n  },\n'
    whole = bytes(piece)
    return found.numbers(whole, words_of(whole), np.array(begin), np.array(end)).tolist()


@given(st.lists(NAMES, min_size=1, max_size=40))
def test_the_same_text_has_the_same_number_and_another_text_another(names: list[bytes]) -> None:
    """Asked twice, the second time from what was remembered; numbers are those of the names."""
    keys = Keys()
    found = Spellings(keys)
    first = ask(found, [name + TAIL for name in names])
    again = ask(found, [name + TAIL for name in names])
    assert first == again
    assert [keys.all[number].name.encode() for number in first] == names


def test_many_names_are_told_apart() -> None:
    """More than the slots begin with, and more than are remembered."""
    keys = Keys()
    found = Spellings(keys)
    names = [b"execute_context_%d(%d)_generation_0(0)" % (n, n * 7) for n in range(4500)]
    for _ in range(2):
        numbers = ask(found, [name + TAIL for name in names])
        assert [keys.all[number].name.encode() for number in numbers] == names


def test_a_text_of_another_shape_has_no_number() -> None:
    """It is left to the JSON decoder."""
    assert ask(Spellings(Keys()), [b'name", "something": 1, "else entirely": 2', b"n" + TAIL]) == [-1, 0]
