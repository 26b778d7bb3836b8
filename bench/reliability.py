"""What holds under kills, faults and storms? Figures for docs/reliability.md; small counts are in the tests.

python -m bench.reliability [--kills N] [--postgres-kills N] [--lanes N] [--missed N] [--notifications N] [--storm N]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import time

import structlog

from bench.kills import kill_often, kill_often_on_postgres, tell
from bench.missed import dead_receiver
from bench.notifications import through_faults
from bench.storm import storm


def main() -> int:
    """Run what was asked for; 1 when a promise did not hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=0, help="SIGKILLs on SQLite, over all named places")
    parser.add_argument("--postgres-kills", type=int, default=0, help="SIGKILLs of a replica on a real PostgreSQL")
    parser.add_argument("--lanes", type=int, default=2, help="side by side")
    parser.add_argument("--missed", type=int, default=0, help="alerts while the receiver is dead")
    parser.add_argument("--dead", type=float, default=30.0, help="seconds it is dead, for --missed")
    parser.add_argument("--notifications", type=int, default=0, help="messages through a fault proxy")
    parser.add_argument("--storm", type=int, default=0, help="alerts in --over seconds")
    parser.add_argument("--over", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')} · {os.cpu_count()} cores · load average {os.getloadavg()[0]:.1f}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    wrong = 0
    if given.kills:
        began = time.monotonic()
        tally = asyncio.run(kill_often(given.kills, given.lanes, seed=given.seed))
        print(tell(tally, time.monotonic() - began))
        wrong += tally.wrong
    if given.postgres_kills:
        began = time.monotonic()
        tally = kill_often_on_postgres(given.postgres_kills, given.lanes, given.seed)
        print("PostgreSQL: " + tell(tally, time.monotonic() - began))
        wrong += tally.wrong
    if given.missed:
        got = dead_receiver(given.missed, given.dead, given.seed)
        print(f"receiver dead for {given.dead:.0f} s (time scaled), {got.alerts} alerts, half of them short: "
              f"{got.recovered} recovered ({got.late} of them from ALERTS), {got.doubled} doubled, "
              f"{got.seconds:.1f} s after the start")  # fmt: skip
        wrong += got.alerts - got.recovered + got.doubled
    if given.notifications:
        sent = through_faults(given.notifications, given.seed)
        print(f"{sent.messages} messages through a fault proxy in {sent.seconds:.0f} s, a third receiver dead: "
              f"{sent.lost} lost; {sent.visible_twice} visible twice in Slack "
              f"({sent.visible_twice / sent.messages:.2%}), {sent.unflagged} of them unflagged; "
              f"{sent.webhook_again} came again to the webhook with their id")  # fmt: skip
        print(f"connections by fate: {dict(sorted(sent.drawn.items()))}")
        wrong += sent.lost + sent.unflagged
    if given.storm:
        figures = asyncio.run(storm(given.storm, given.over))
        print(figures.tell())
        wrong += figures.sent - figures.on_disk
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
