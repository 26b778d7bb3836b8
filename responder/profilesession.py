"""How is a profiling session of vLLM begun, once its end is owed, and is somebody else's open already?

`/start_profile` opens whatever profiler the server was launched with: torch's, or the capture range of an nsys around
it. A session that is not ours (409, or seen in the log) is never touched.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import aiohttp

from responder.ask import credentials, reach_of
from responder.capture.step import Scene
from responder.logsigns import signs_of
from responder.model import Obligation

START_TIMEOUT_S = 15.0
LOG_TAIL = 256 << 10


async def begin(scene: Scene, owed: Obligation, body: Mapping[str, int | str]) -> str:
    """'' when a session is open now, or may be; else why there is none, and then nothing is owed."""
    assert scene.duties is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            async with scene.http.post(
                f"{scene.target.url}/start_profile", json=dict(body) or None, headers=credentials(scene.target),
                timeout=aiohttp.ClientTimeout(total=None), allow_redirects=False,
            ) as answer:  # fmt: skip
                status, text = answer.status, (await answer.content.read(2000)).decode("utf-8", "replace")
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        reach, words = reach_of(error)
        if reach == "refused":
            await scene.duties.void(owed.id, "nobody listened: nothing was begun")
            return f"nobody listened: {words}"
        return ""  # it may have begun all the same
    if status == 409:
        await scene.duties.void(owed.id, "409: somebody else's session, never ours to stop")
        return "somebody else's profile is open on this server (409): never touched"
    if 400 <= status < 500:
        await scene.duties.void(owed.id, f"HTTP {status}: nothing was begun")
        hint = " (the server was launched without a profiler)" if status == 404 else ""
        return f"the server refused: HTTP {status}{hint} {text[:200]}"
    return ""


async def session_open(scene: Scene) -> bool | None:
    """Whether the server's log shows a session that was begun and not ended; None: there is no log to read."""
    path = scene.target.log_file or (scene.inventory.log_file if scene.inventory else None)
    if path is None:
        return None
    try:
        raw = await scene.runner.read(path, max_bytes=LOG_TAIL, tail=True)
    except OSError:
        return None
    offset = float(time.localtime().tm_gmtoff)
    return signs_of(raw.decode("utf-8", "replace").split("\n"), scene.now, scene.now, offset).profiler_open
