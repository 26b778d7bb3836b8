"""How is a blocking call made without it ever holding up the loop, or our exit?

A read of /proc, of NFS or of a dead disk can sleep in the kernel for ever. Such a call gets a daemon thread of its own:
the deadline abandons the thread, and unlike a pool's thread an abandoned one does not keep the process from exiting.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


async def aside(call: Callable[[], Answer], *, timeout: float) -> Answer:
    """Run `call` in its own thread and return or raise what it does; TimeoutError after `timeout` seconds."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Answer] = loop.create_future()

    def deliver(answer: Answer | None, error: BaseException | None) -> None:
        if future.done():  # abandoned meanwhile: nobody waits for this any more
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(answer)  # type: ignore[arg-type]

    def work() -> None:
        answer: Answer | None = None
        error: BaseException | None = None
        try:
            answer = call()
        except BaseException as raised:  # whatever it was belongs to the caller, not to this thread
            error = raised
        try:
            loop.call_soon_threadsafe(deliver, answer, error)
        except RuntimeError:  # the loop closed while the call was stuck
            return

    threading.Thread(target=work, name="aside", daemon=True).start()
    async with asyncio.timeout(timeout):
        return await future
