"""How much is a deciban worth? The temper of probabilities, fitted on part `tune` by log loss.

python -m bench.calibration [--incidents DIR ...] [--histories FILE.om.gz ...] [--unseen 0.1]

Each verdict counts once as it is and, with the weight of `--unseen`, once with its true cause taken out of the
playbooks, where only `unknown` is right: what is fitted on known causes alone is too sure of them. Prints the loss and
the ECE of every temper; `TEMPER` in responder/diagnose.py holds the one that was chosen. Simulated machines
(`bench.faults.simulate`) are histories, too.
"""

from __future__ import annotations

import argparse
import math
import pathlib
import tempfile
from unittest import mock

from bench.diagnosis import HISTORIES, INCIDENTS
from bench.scoring import figures
from bench.scoring.cases import Case, again, before_captures, from_folder, is_right, weighed, without
from bench.scoring.histories import Told, about_of, add
from responder import diagnose
from responder.capture import STEPS
from responder.config import Config
from responder.content import load
from responder.model import Content, Evidence

TEMPERS = [step / 20 for step in range(8, 27)]
SURE = 1e-9
Look = tuple[Case, list[Evidence]]


def main() -> None:
    """One line per temper, the best last."""
    parser = argparse.ArgumentParser(prog="python -m bench.calibration", description=__doc__)
    parser.add_argument("--incidents", type=pathlib.Path, nargs="*", default=[INCIDENTS])
    histories = sorted(path for path in HISTORIES.rglob("*.om.gz") if about_of(path))
    parser.add_argument("--histories", type=pathlib.Path, nargs="*", default=histories)
    parser.add_argument("--unseen", type=float, default=0.1, help="share of incidents whose cause no playbook knows")
    given = parser.parse_args()
    content = load(Config(), STEPS)
    with tempfile.TemporaryDirectory() as scratch:
        looks = _looks(given, content, pathlib.Path(scratch))
        found = []
        for temper in TEMPERS:
            with mock.patch.object(diagnose, "TEMPER", temper):
                known = [_sure(case, content, evidence) for case, evidence in looks]
                unseen = [_sure(case, without(content, case.causes), evidence, unseen=True) for case, evidence in looks]
            loss = (1 - given.unseen) * _loss(known) + given.unseen * _loss(unseen)
            found.append((loss, temper))
            print(f"temper {temper:.2f}: log loss {loss:.4f}, ECE of known causes {figures.ece(known):.3f}", flush=True)
        print(f"{len(looks)} looks; the best temper is {min(found)[1]:.2f}, chosen is {diagnose.TEMPER:.2f}")


def _looks(given: argparse.Namespace, content: Content, scratch: pathlib.Path) -> list[Look]:
    folders = sorted(p.parent for d in given.incidents for p in d.glob("*/truth.json"))
    recorded = [case for path in folders if (case := from_folder(path, content)).part == "tune" and case.causes]
    told = Told()
    for history in given.histories:
        add(told, history, content, scratch)
    past = [case for case in told.cases if case.part == "tune" and case.causes]
    return [
        *((case, list(weighed(case))) for case in (*recorded, *past)),
        *((case, before_captures(case)) for case in recorded),
    ]


def _sure(case: Case, content: Content, evidence: list[Evidence], unseen: bool = False) -> tuple[float, bool]:
    first = again(case, content, evidence)[0]
    return first.probability, is_right(first.cause, frozenset() if unseen else case.causes)


def _loss(sure: list[tuple[float, bool]]) -> float:
    return -math.fsum(math.log(p if right else max(SURE, 1 - p)) for p, right in sure) / len(sure)


if __name__ == "__main__":
    main()
