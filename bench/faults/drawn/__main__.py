"""Make the histories of these seeds, and on request lay the backtest's verdicts beside their truth."""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import pathlib

from bench.faults.drawn import __doc__ as about
from bench.faults.drawn.seed import one
from bench.faults.drawn.table import Sheet, text


def main() -> None:
    """One line per seed; with --score the table and every miss."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults.drawn", description=about)
    parser.add_argument("seeds", type=int, nargs="+")
    parser.add_argument("--to", type=pathlib.Path, required=True, help="a folder; seed 7 becomes seed7.om.gz there")
    parser.add_argument("--score", action="store_true", help="backtest them, too; the table so far is in table.md")
    parser.add_argument("--remake", action="store_true", help="also where the file is there already")
    parser.add_argument("--calm", action="store_true", help="one healthy server of each kind instead, in calm7.om.gz")
    parser.add_argument("--unusual", action="store_true", help="instead the faults of unusual.py, in unusual7.om.gz")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at once")
    given = parser.parse_args()
    kind = "calm" if given.calm else "unusual" if given.unusual else "seed"
    given.to.mkdir(parents=True, exist_ok=True)
    sheet = Sheet()
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(given.jobs, mp_context=spawn) as pool:
        work = [pool.submit(one, seed, given.to, given.remake, given.score, kind) for seed in given.seeds]
        for done in concurrent.futures.as_completed(work):
            try:
                line, found = done.result()
            except RuntimeError as failure:  # the other seeds are still worth their table
                print(f"FAILED, not in the table: {failure}", flush=True)
                continue
            print("\n  ".join([line, *found.misses()]), flush=True)
            sheet.join(found)
            if given.score:
                (given.to / "table.md").write_text(text(sheet) + "\n")
    if given.score:
        print(text(sheet))


if __name__ == "__main__":
    main()
