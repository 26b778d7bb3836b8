"""What holds under kills, faults and storms? Figures for docs/reliability.md; small counts are in the tests.

python -m bench.reliability [--kills N] [--lanes N]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time

from bench.kills import kill_often, tell


def main() -> int:
    """Run what was asked for; 1 when a promise did not hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=0, help="SIGKILLs on SQLite, over all named places")
    parser.add_argument("--lanes", type=int, default=2, help="side by side")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')} · {os.cpu_count()} cores · load average {os.getloadavg()[0]:.1f}")
    wrong = 0
    if given.kills:
        began = time.monotonic()
        tally = asyncio.run(kill_often(given.kills, given.lanes, seed=given.seed))
        print(tell(tally, time.monotonic() - began))
        wrong += tally.wrong
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
