"""Make the histories of these seeds, and on request lay the backtest's verdicts beside their truth."""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import pathlib
import tempfile

from bench.faults.drawn import __doc__ as about
from bench.faults.drawn.history import write
from bench.faults.drawn.table import Sheet, text
from bench.scoring.histories import about_of, add
from responder.capture import STEPS
from responder.config import Config
from responder.content import load


def main() -> None:
    """One line per seed; with --score the table and every miss."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults.drawn", description=about)
    parser.add_argument("seeds", type=int, nargs="+")
    parser.add_argument("--to", type=pathlib.Path, required=True, help="a folder; seed 7 becomes seed7.om.gz there")
    parser.add_argument("--score", action="store_true", help="backtest them, too, and print the table")
    parser.add_argument("--remake", action="store_true", help="also where the file is there already")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at once")
    given = parser.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    sheet = Sheet()
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(given.jobs, mp_context=spawn) as pool:
        work = [pool.submit(one, seed, given.to, given.remake, given.score) for seed in given.seeds]
        for done in concurrent.futures.as_completed(work):
            line, found = done.result()
            print("\n  ".join([line, *found.misses()]), flush=True)
            sheet.join(found)
    if given.score:
        print(text(sheet))


def one(seed: int, to: pathlib.Path, remake: bool, score: bool) -> tuple[str, Sheet]:
    """Make this seed where it is not there yet, and lay its verdicts beside the truth."""
    path, sheet = to / f"seed{seed}.om.gz", Sheet()
    if remake or not about_of(path):
        write(seed, path)
    made = about_of(path)
    if score:
        content = load(Config(), STEPS)
        with tempfile.TemporaryDirectory() as scratch:
            add(sheet.told, path, content, pathlib.Path(scratch))
            sheet.note(content)
    rejected = ", ".join(made["rejected"]) or "none"
    return f"seed {seed} ({made['part']}): {len(made['targets'])} targets, rejected: {rejected}", sheet


if __name__ == "__main__":
    main()
