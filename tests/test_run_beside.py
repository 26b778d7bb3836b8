"""Commands that run beside other tests are judged by what they said, and none outlives the run."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.beside import Beside


def test_what_a_command_says_and_how_it_ends_is_known_begun_before_or_not() -> None:
    """Both of its outputs, and its status: a check that failed in the background fails its test."""
    runs = Beside()
    bad = [sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"]
    runs.start({Path("begun"): bad})
    for file in (Path("begun"), Path("not begun")):
        status, said = runs.of(file, bad)
        assert status == 3
        assert sorted(said.split()) == ["err", "out"]
    runs.end()


def test_the_end_of_the_run_ends_what_still_runs() -> None:
    """Neither the command under way nor those that wait for their turn are waited for."""
    runs = Beside()
    forever = [sys.executable, "-c", "import signal; signal.pause()"]
    runs.start({Path("first"): forever, Path("second"): forever})
    runs.end()
