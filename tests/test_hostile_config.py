"""Malformed and hostile configurations are refused with file and line, whatever they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.cli import configured
from responder.content import ContentRefused
from tests.hostile_config import BOMBS, GOOD, configurations

COUNT = 6 * 20


def test_the_good_one_they_are_made_of_is_good(tmp_path: Path) -> None:
    """So that each is refused for what was done to it."""
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    assert len(configured(path, {}).targets) == 2


@pytest.mark.parametrize("seed", range(1, 4))
def test_each_is_refused_with_file_and_line(tmp_path: Path, seed: int) -> None:
    """`python -m bench.hostile_config` does a thousand, and says how long the slowest took."""
    path = tmp_path / "c.yaml"
    for what, body in configurations(COUNT // 3, seed):
        path.write_bytes(body)
        with pytest.raises(ContentRefused) as refused:
            configured(path, {})
        assert refused.value.problems, what
        for problem in refused.value.problems:
            assert problem.file == str(path), what
            assert problem.line >= 1, what
            assert problem.what, what
        assert len(str(refused.value)) < 20_000, what


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_every_bomb_is_refused(tmp_path: Path, bomb: str) -> None:
    """None of them is ever taken, and none takes us with it."""
    path = tmp_path / "c.yaml"
    path.write_text(bomb)
    with pytest.raises(ContentRefused):
        configured(path, {})
