"""A server to be bisected, as a process: `python -m tests.bisect.fake_server --wrong-unless=OPTION --host … --port N`.

Its answers are wrong unless that option is on the command line; `never` is always wrong, nothing is always right.
--dies-with=OPTION: it ends while starting when that option is given.
"""

from __future__ import annotations

import sys

from aiohttp import web

from tests.canaries.fakes import Weights


def after(flag: str) -> str:
    """The word after a flag, or after its equals sign."""
    for at, word in enumerate(sys.argv):
        if word.partition("=")[0] == flag:
            return word.partition("=")[2] or sys.argv[at + 1]
    return ""


def main() -> None:
    """Serve until ended."""
    unless = after("--wrong-unless")
    if after("--dies-with") in sys.argv:
        sys.exit("ValueError: this option is not supported here")
    weights = Weights()
    weights.other = bool(unless) and unless not in sys.argv
    app = web.Application()
    for path, handler in weights.routes().items():
        app.router.add_route("*", path, handler)
    web.run_app(app, host=after("--host"), port=int(after("--port")), print=None)


if __name__ == "__main__":
    main()
