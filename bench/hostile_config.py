"""Is every malformed or hostile configuration refused with file and line, and in under a second?

python -m bench.hostile_config --count 1000 --seed 1
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from responder.cli import configured
from responder.content import ContentRefused
from tests.hostile_config import configurations


def main() -> None:
    """Prints the figures; exit 1 when one was taken, or refused without a place."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    took: list[tuple[float, float, str]] = []
    taken: list[str] = []
    nowhere: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        for what, body in configurations(given.count, given.seed):
            path.write_bytes(body)
            began, cpu = time.perf_counter(), time.process_time()
            try:
                configured(path, {})
                taken.append(what)
            except ContentRefused as refused:
                if not all(problem.line >= 1 and problem.file == str(path) for problem in refused.problems):
                    nowhere.append(what)
            took.append((time.process_time() - cpu, time.perf_counter() - began, what))
    took.sort(reverse=True)
    middle = took[len(took) // 2]
    print(
        f"{given.count} configurations, seed {given.seed}: {len(taken)} taken, {len(nowhere)} refused without a place"
    )
    worst = max(took, key=lambda row: row[1])
    print(f"CPU time: slowest {took[0][0] * 1000:.0f} ms ({took[0][2]}), median {middle[0] * 1000:.1f} ms")
    print(f"by the clock: slowest {worst[1] * 1000:.0f} ms ({worst[2]}); on a busy machine this is waiting")
    for what in (taken + nowhere)[:20]:
        print(f"  {what}")
    raise SystemExit(bool(taken or nowhere))


if __name__ == "__main__":
    main()
