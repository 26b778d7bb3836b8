"""How do long checks in other programs cost a run of all tests no time? They run beside the tests that come before.

One at a time and yielding to everything else: pytest itself keeps one core busy. Live tests come last, long after them.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

LONGEST_S = 280.0
Said = tuple[int, str]


class Beside:
    """Runs commands one after another in the background; `of` gives what one said, once it has ended."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="beside")
        self._runs: dict[Path, Future[Said]] = {}
        self._lock = threading.Lock()
        self._ended = False
        self._child: subprocess.Popen[str] | None = None

    def start(self, commands: Mapping[Path, Sequence[str]]) -> None:
        """Begin these, in this order."""
        for file, argv in commands.items():
            self._runs[file] = self._pool.submit(self._run, tuple(argv))

    def of(self, file: Path, argv: Sequence[str]) -> Said:
        """Exit status and output of the file's command, which begins now if it has not been begun."""
        if file not in self._runs:
            self.start({file: argv})
        return self._runs[file].result()

    def end(self) -> None:
        """End what still runs, and begin nothing more."""
        with self._lock:
            self._ended = True
            if self._child is not None:
                self._child.kill()
        self._pool.shutdown(cancel_futures=True)

    def _run(self, argv: Sequence[str]) -> Said:
        # The collector of Go takes a fifth of the time where memory is kept as short as it is by default.
        environment = {**os.environ, "GOGC": "400"}
        with self._lock:
            if self._ended:
                return -1, "ended"
            self._child = child = subprocess.Popen(
                ["nice", "-n", "5", *argv], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        with child:
            try:
                said = child.communicate(timeout=LONGEST_S)[0]
            except subprocess.TimeoutExpired:
                child.kill()
                said = f"not done within {LONGEST_S:.0f} s: {child.communicate()[0]}"
        return child.returncode, said
