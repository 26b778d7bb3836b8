"""How does `responder agent` do its work? Exit 0 ok, 1 runtime, 2 something an operator wrote is wrong."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from responder.cli import CONTENT, OK, RUNTIME, configured, log_to_stderr
from responder.content import ContentRefused


def agent(node: str, file: Path | None, flags: Mapping[str, Any], level: str) -> int:
    """Run until SIGTERM or SIGINT."""
    log_to_stderr(level)
    try:
        config = configured(file, flags)
        return asyncio.run(_until_stopped(node, config))
    except (ContentRefused, ValueError) as error:
        typer.echo(str(error), err=True)
        return CONTENT
    except ImportError as error:
        typer.echo(f"an agent needs more packages ({error}): pip install 'vllm-responder[postgres]'", err=True)
        return RUNTIME
    except OSError as error:
        typer.echo(f"cannot start: {error}", err=True)
        return RUNTIME


async def _until_stopped(node: str, config: Any) -> int:
    from responder.agent import serve

    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    work = asyncio.create_task(serve(node, config), name="agent")
    ended = asyncio.create_task(stopped.wait(), name="signal")
    await asyncio.wait({work, ended}, return_when=asyncio.FIRST_COMPLETED)
    work.cancel()
    ended.cancel()
    (result,) = await asyncio.gather(work, return_exceptions=True)
    if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
        raise result
    return OK
