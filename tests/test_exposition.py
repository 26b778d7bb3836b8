"""What does /metrics text say, however broken it is?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from responder.exposition import parse
from tests.recorded import exposition


def test_a_real_page_is_read_whole() -> None:
    """Every sample line of vLLM 0.32 becomes a reading; no line is malformed."""
    raw = exposition()
    page = parse(raw)
    lines = [line for line in raw.decode().split("\n") if line and not line.startswith("#")]
    assert (len(page.readings), page.malformed, page.truncated) == (len(lines), 0, False)
    assert page.total("vllm:generation_tokens_total") == 288.0
    assert page.label_values("model_name") == ("tiny",)


def test_labels_keep_braces_commas_and_escapes() -> None:
    """A label's value may look like syntax."""
    page = parse('a{x="}, {",y="say \\"hi\\"\\n\\\\",} 3\n')
    assert page.readings[0].labels == {"x": "}, {", "y": 'say "hi"\n\\'}


def test_timestamps_and_exemplars_are_not_values() -> None:
    """What follows the value is left alone."""
    page = parse('a{le="1"} 5 1700000000000 # {trace="x"} 0.3\nb 7 1.5\n')
    assert [reading.value for reading in page.readings] == [5.0, 7.0]


def test_nan_and_infinity_are_unknown() -> None:
    """They never become numbers that rules compare."""
    page = parse("a NaN\nb +Inf\nc -Inf\n")
    assert [reading.value for reading in page.readings] == [None, None, None]
    assert page.total("a") is None


def test_the_newest_name_wins_and_engines_add_up() -> None:
    """`named` takes the first name that exists; `total` adds label sets, `highest` picks."""
    page = parse('old{engine="0"} 9\nnew{engine="0"} 1\nnew{engine="1"} 2\n')
    assert (page.total("new", "old"), page.highest("new", "old"), page.total("absent")) == (3.0, 2.0, None)


def test_half_a_line_is_not_half_a_number() -> None:
    """A page cut in the middle of `12345` must not say 12."""
    page = parse("a 1\nb 12")
    assert [reading.name for reading in page.readings] == ["a"]
    assert page.truncated


def test_a_page_larger_than_the_cap_is_cut() -> None:
    """Megabytes cost no more than the cap."""
    page = parse(b"a 1\n" * 1000, max_bytes=41)
    assert (len(page.readings), page.truncated) == (10, True)


def test_an_error_page_has_no_readings() -> None:
    """HTML on the metrics port is noise, counted as such."""
    page = parse("<html><body>\n<h1>502 Bad Gateway</h1>\n</body></html>\n")
    assert page.readings == ()
    assert page.malformed == 3


def test_only_wanted_names_are_read() -> None:
    """A light scrape skips the rest without calling it malformed."""
    page = parse("a 1\nb 2\n", wanted=lambda name: name == "b")
    assert [reading.name for reading in page.readings] == ["b"]
    assert page.malformed == 0


@given(st.binary(max_size=400))
def test_noise_never_raises(raw: bytes) -> None:
    """Any bytes give an exposition."""
    page = parse(raw)
    assert page.malformed >= 0


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-z]{1,5}", fullmatch=True),
            st.text(max_size=8),
            st.floats(allow_nan=False, allow_infinity=False),
        )
    )
)
def test_what_is_written_is_read(rows: list[tuple[str, str, float]]) -> None:
    """Any label value survives the format's escaping."""
    escaped = [(n, v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"), x) for n, v, x in rows]
    page = parse("".join(f'{n}{{l="{v}"}} {x!r}\n' for n, v, x in escaped))
    assert [(r.name, r.labels["l"], r.value) for r in page.readings] == [(n, v, x) for n, v, x in rows]
