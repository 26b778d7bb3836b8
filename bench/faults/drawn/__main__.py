"""Make the histories of these seeds, and on request lay the backtest's verdicts beside their truth."""

from __future__ import annotations

import argparse
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
    given = parser.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    content, sheet = load(Config(), STEPS), Sheet()
    for seed in given.seeds:
        path = given.to / f"seed{seed}.om.gz"
        if given.remake or not path.exists():
            write(seed, path)
        made = about_of(path)
        print(f"seed {seed} ({made['part']}): {len(made['targets'])} targets, rejected: "
              f"{', '.join(made['rejected']) or 'none'}", flush=True)  # fmt: skip
        if given.score:
            with tempfile.TemporaryDirectory() as scratch:
                add(sheet.told, path, content, pathlib.Path(scratch))
                print("\n".join(sheet.note(content)), flush=True)
    if given.score:
        print(text(sheet))


if __name__ == "__main__":
    main()
