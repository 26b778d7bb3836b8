"""Does a copy that did not start say what kept it from starting?"""

from __future__ import annotations

from pathlib import Path

from responder.bisect.server import last_words

WORKER = (
    "(VllmWorker-0 pid=9746) ERROR 11-26 07:12:33 [multiproc_executor.py:953] ValueError: Available memory on node 0 "
    "(19.65/23.54 GiB) on startup is less than desired CPU memory utilization (0.92, 21.66 GiB)."
)
ENGINE = (
    "(EngineCore pid=9734) ERROR 11-26 07:12:35 [core.py:1510] Exception: WorkerProc initialization failed due to an "
    "exception in a background process. See stack trace for root cause."
)
FRONT_END = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"


def told(folder: Path, *lines: str) -> str:
    """What is said of a log of these lines."""
    log = folder / "as-it-is.log"
    log.write_text("\n".join(lines))
    return last_words(log)


def test_the_worker_s_error_is_told_and_not_that_there_is_one_above(tmp_path: Path) -> None:
    """vLLM's processes repeat each other's failure; the one that says why comes first, its prefix is left out."""
    said = told(tmp_path, WORKER, ENGINE, "    raise RuntimeError(", FRONT_END)
    assert said.startswith("ValueError: Available memory on node 0 (19.65/23.54 GiB)")
    assert said.endswith("as-it-is.log)")


def test_pointing_elsewhere_is_better_than_nothing(tmp_path: Path) -> None:
    """The log's end may have been all that was kept."""
    assert told(tmp_path, "    raise RuntimeError(", FRONT_END).startswith("RuntimeError: Engine core initialization")
    assert told(tmp_path, "just a line").startswith("just a line")
    assert told(tmp_path).startswith("an empty log")
