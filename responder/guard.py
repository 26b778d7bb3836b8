"""If the daemon never comes back, who ends the profile it began? This process: detached, tiny, standard library only.

    python guard.py OBLIGATION.json        (first line of stdin: JSON with the server's key; then the line stays open)

It does one thing: when the obligation's file is still there and open some time after the daemon's end of the line went
dead, or when it is overdue, it sends the one stop the file says we owe, writes down what came of it, and goes. A file
that is gone means that nothing is owed. A lock beside the file keeps it and the daemon from stopping at the same time.
"""

import fcntl
import json
import os
import select
import sys
import time
import urllib.error
import urllib.request
from typing import Any

COMES_BACK_S = 1.0
"""A daemon that is restarted takes longer than this to come up on a busy host; the server should not wait for it. If it
is faster, the lock lets one of us through and the other one finds it done."""
LOOK_EVERY_S = 0.25
AGAIN_S = 5.0
STOP_TIMEOUT_S = 1800.0
"""The answer to a stop comes when the trace is written; it has taken minutes."""
REFUSED_FOR_S = 60.0


def main(path: str) -> int:
    """0: settled, or nothing to do. 1: the server could not be asked. 3: asking again would not be safe."""
    detach()
    fresh = read(path)
    if fresh is None:
        return 0
    due = time.monotonic() + max(0.0, fresh["due_at"] - time.time())
    key = json.loads(sys.stdin.buffer.readline() or b"{}").get("key")
    died = None
    while True:
        if read(path) is None:
            return 0
        now = time.monotonic()
        if now >= due or (died is not None and now - died >= COMES_BACK_S):
            try:
                done = settle(path, key)
            except OSError:  # no room to write down what we are about to do: then it is done when there is
                time.sleep(AGAIN_S)
                continue
            if done is not None:
                return done
        if died is None and select.select([0], [], [], LOOK_EVERY_S)[0]:
            if not os.read(0, 1):
                died = time.monotonic()
        else:
            time.sleep(LOOK_EVERY_S if died is not None else 0.0)


def detach() -> None:
    """A session of our own and a parent that is gone: neither a signal to the daemon's group nor its end reaches us."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")


def read(path: str) -> "dict[str, Any] | None":
    """The obligation as it is now; None when it is gone or no longer open."""
    try:
        with open(path) as file:
            item = json.load(file)
    except (OSError, ValueError):
        return None
    return item if item.get("state") == "open" else None


def write(path: str, item: "dict[str, Any]") -> None:
    """Whole or not at all, and on disk."""
    with open(path + ".new", "w") as file:
        json.dump(item, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)


def settle(path: str, key: "str | None") -> "int | None":
    """Send the stop we owe; None when somebody else is at it."""
    with open(path[: -len(".json")] + ".lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return None
        item = read(path)
        if item is None:
            return 0
        if item.get("stop_sent_at") and not item["repeat_safe"]:
            return 3
        born = item.get("born_at")
        alive_since = started(item["url"], key) if born else None
        if born and alive_since and abs(alive_since - born) > 2.0:
            return done(path, item, "the server had been restarted: nothing was left to stop")
        item["stop_sent_at"] = time.time()
        write(path, item)
        return stop(path, item, key)


def stop(path: str, item: "dict[str, Any]", key: "str | None") -> int:
    """One stop; only while nobody listens it is tried again."""
    limit = time.monotonic() + REFUSED_FOR_S
    while True:
        try:
            with ask(item["url"] + "/stop_profile", key, STOP_TIMEOUT_S, b"") as answer:
                return done(path, item, f"the guard stopped it: HTTP {answer.status}")
        except urllib.error.HTTPError as answer:
            with answer:
                return done(path, item, f"the guard asked for its end: HTTP {answer.code}")
        except OSError as error:
            refused = isinstance(getattr(error, "reason", error), ConnectionRefusedError)
            if not refused:
                return 1
            if time.monotonic() > limit:
                return done(path, item, "the server was gone, and the profile with it")
            time.sleep(2.0)


def ask(url: str, key: "str | None", timeout: float, body: "bytes | None" = None):  # type: ignore[no-untyped-def]
    """One request, never through a proxy."""
    request = urllib.request.Request(url, data=body)
    if key:
        request.add_header("Authorization", "Bearer " + key)
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout)


def started(url: str, key: "str | None") -> "float | None":
    """When the server's process started, by its own metrics."""
    try:
        with ask(url + "/metrics", key, 3.0) as answer:
            for line in answer.read(1 << 23).splitlines():
                if line.startswith(b"process_start_time_seconds "):
                    return float(line.split()[1])
    except (OSError, ValueError):
        return None
    return None


def done(path: str, item: "dict[str, Any]", note: str) -> int:
    """Write down what came of it, for the daemon's next start, and take the obligation away."""
    item.update(state="settled", settled_at=time.time(), by="guard", note=note)
    write(path[: -len(".json")] + ".settled", item)
    os.unlink(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
