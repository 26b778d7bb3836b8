"""Which server a record belongs to, and which record a server gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.canaries.pins import changes, file_name, fingerprint_of, record_for
from responder.canaries.prompts import read_prompts
from responder.canaries.stored import Shelf
from tests.canaries.fakes import record

COMMAND = ("vllm", "serve", "m", "--port", "8000", "--dtype", "bfloat16", "--api-key", "[secret]")


def test_where_a_server_listens_is_no_difference_but_an_option_is() -> None:
    """Host, port and keys cannot change an answer."""
    one = fingerprint_of({"id": "m"}, "0.32.0", "vllm-x", COMMAND)
    assert "secret" not in one["options"]
    assert changes(one, fingerprint_of({"id": "m"}, "0.32.0", "vllm-x", (*COMMAND[:4], "9000", *COMMAND[5:]))) == ()
    other = fingerprint_of({"id": "m"}, "0.32.0", "vllm-x", (*COMMAND, "--quantization", "fp8"))
    assert changes(one, other) == ("options: dtype=bfloat16 → dtype=bfloat16 quantization=fp8",)


def test_what_one_side_does_not_know_is_no_difference() -> None:
    """From another host the launch options cannot be seen."""
    assert changes(fingerprint_of({"id": "m"}, "1", "", COMMAND), fingerprint_of({"id": "m"}, "1", "")) == ()


def test_a_server_that_was_rolled_back_gets_its_old_record() -> None:
    """Newest first, but a matching fingerprint wins; none matching: the newest, and what has changed."""
    old, new = record(at=1.0), record(at=2.0, fingerprint={"model": "m", "version": "2"})
    assert record_for((new, old), {"version": "1"}) == (old, ())
    assert record_for((new, old), {"version": "3"}) == (new, ("version: 2 → 3",))
    assert record_for((), {"version": "3"}) == (None, ())


def test_records_are_kept_and_never_overwritten(tmp_path: Path) -> None:
    """A second record of the same server moves the first aside; a broken file is named, not fatal."""
    shelf = Shelf(tmp_path)
    assert shelf.of("t") == ()
    path = shelf.keep(record(at=1.0))
    shelf.keep(record(at=2.0))
    assert [r.at for r in shelf.of("t")] == [2.0]
    assert len(list(path.parent.iterdir())) == 2
    (path.parent / "broken.json").write_text("{")
    assert shelf.problems("t") == (str(path.parent / "broken.json"),)
    assert [r.at for r in shelf.of("t")] == [2.0]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a:8000", "", "x" * 300])
def test_a_targets_name_never_chooses_a_path(name: str) -> None:
    """One path component, whatever the name."""
    assert "/" not in file_name(name)
    assert 0 < len(file_name(name)) <= 100
    assert not file_name(name).startswith(".")


def test_prompt_files(tmp_path: Path) -> None:
    """JSON lines and bare lines; every mistake names its line."""
    path = tmp_path / "prompts"
    path.write_text('{"id": "a", "prompt": "x", "max_tokens": 4}\n\nplain text\n')
    assert [(p.id, p.text, p.max_tokens) for p in read_prompts(path)] == [("a", "x", 4), ("line-3", "plain text", 16)]
    for text, words in (("", "no prompt"), ('{"prompt": 1}', ":1:"), ('{"prompt": "x", "mx": 1}', "mx"),
                        ('{"prompt": "x", "max_tokens": 1000}', ":1:"), ("{", ":1:"), ("x\n" * 40, "at most"),
                        ('{"id":"a","prompt":"x"}\n{"id":"a","prompt":"y"}', "same id")):  # fmt: skip
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            read_prompts(path)
