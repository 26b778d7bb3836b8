"""Which experiments are played, and how did the verdicts compare with the truth?"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pathlib
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from bench.faults.feeling import words
from bench.faults.keep import keep
from bench.faults.play import Outcome, play
from bench.faults.pool import Pool
from bench.faults.scenario import Scenario, scenarios, servers

LONGEST_S = 900.0
"""Of one experiment, a server's start included."""


def truth_of(outcome: Outcome) -> dict[str, Any]:
    """The recorded folder's truth.json."""
    scenario, truth = outcome.scenario, outcome.scenario.truth
    return {
        "cause": truth.cause,
        "class": truth.class_,
        **({"causes": sorted({truth.cause, *truth.causes} - {None})} if truth.causes else {}),
        **({"pair": True} if truth.pair else {}),
        **({"classes": [truth.class_, *truth.also_class]} if truth.also_class else {}),
        "part": truth.part,
        "scenario": scenario.name,
        "family": scenario.family,
        "author": truth.author,
        "status": ["confirmed", "probable"],
        "from": f"vLLM on {_machine()}: {truth.says}",
        "onset_at": round(outcome.began, 3),
        "ended_at": round(outcome.ended, 3),
        "felt": words(outcome.felt),
    }


def row(outcome: Outcome) -> dict[str, Any]:
    """One experiment as data."""
    report, truth = outcome.report, outcome.scenario.truth
    ranked = [[h["cause"], h["status"], round(h["probability"], 3)] for h in report["hypotheses"][:3]] if report else []
    return {
        "scenario": outcome.scenario.name,
        "family": outcome.scenario.family,
        "part": truth.part,
        "author": truth.author,
        "truth": truth.cause,
        "truth_causes": sorted({truth.cause, *truth.causes} - {None}) if truth.causes else [],
        "truth_pair": truth.pair,
        "truth_class": truth.class_,
        "also_class": list(truth.also_class),
        "onset_at": round(outcome.began, 3),
        "ended_at": round(outcome.ended, 3),
        "felt": words(outcome.felt),
        "counts": outcome.was_felt,
        "problem": outcome.problem,
        "class": report["incident"]["class"] if report else None,
        "verdict": ranked,
        "alerts": [s["alert"] for s in report["symptoms"]] if report else [],
        "right": _right(outcome, ranked[0][0] if ranked else None),
        "incidents": len(outcome.reports),
        "timings": report["timings"] if report else None,
        "opened_after_s": round(_unix(report["incident"]["opened_at"]) - outcome.began, 1) if report else None,
        "capacity": round(outcome.capacity, 2),
    }


def _machine() -> str:
    """The device the servers run on, in words."""
    if os.environ.get("RESPONDER_LAB_DEVICE", "cpu") == "cpu":
        return "CPU"
    import pynvml  # only where there is a GPU

    pynvml.nvmlInit()
    return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))


def _right(outcome: Outcome, told: str | None) -> bool:
    truth = outcome.scenario.truth
    if truth.cause is None:
        return told is None
    if told is None:
        return False
    return not {told, told.partition("/")[0]}.isdisjoint({truth.cause, *truth.causes})


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def line(data: dict[str, Any]) -> str:
    """One experiment as a line for people."""
    verdict = ", ".join(f"{cause} {status} {p:.2f}" for cause, status, p in data["verdict"]) or "silent"
    mark = "right" if data["right"] else "WRONG"
    if not data["counts"]:
        mark = f"REJECTED {data['problem']}".strip()
    told = f"truth {data['truth'] or 'silent'}: {data['class'] or '-'}: {verdict}"
    return f"{mark:8} {data['scenario']:36} {told} | {data['felt']}"


async def main(chosen: Sequence[Scenario], out: pathlib.Path, corpus: pathlib.Path | None, baseline_s: float) -> int:
    """Play, record, print; the number of wrong verdicts."""
    pool, wrong = Pool(out / "servers"), 0
    results = out / "results.jsonl"
    try:
        for scenario in sorted(chosen, key=lambda s: (s.truth.replicas, s.server, s.truth.deadly)):
            began = time.monotonic()
            try:
                async with asyncio.timeout(LONGEST_S):
                    outcome = await play(scenario, pool, out / "runs" / scenario.name, baseline_s=baseline_s)
            except Exception as failure:  # one experiment that cannot be played does not end the others
                outcome = Outcome(scenario, problem=f"{type(failure).__name__}: {failure}"[:300])
                pool.end()
            data = row(outcome) | {"took_s": round(time.monotonic() - began)}
            wrong += data["counts"] and not data["right"]
            with results.open("a") as file:
                file.write(json.dumps(data) + "\n")
            print(line(data), flush=True)
            if outcome.was_felt and outcome.report is not None:
                _record(outcome, out, corpus)
    finally:
        pool.end()
    return wrong


def _record(outcome: Outcome, out: pathlib.Path, corpus: pathlib.Path | None) -> None:
    assert outcome.report is not None
    source = outcome.folders.get(outcome.report["incident"]["id"])
    if source is not None:
        target = (corpus or out / "incidents") / outcome.scenario.name.replace("-", "_")
        keep(source, target, truth_of(outcome), out)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("names", nargs="*", help="scenarios or families; all unless some are named")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("faults"), help="where runs are written")
    parser.add_argument("--corpus", type=pathlib.Path, help="where incident folders go; OUT/incidents by default")
    parser.add_argument("--baseline", type=float, default=1e9, help="at most so many seconds of usual traffic first")
    parser.add_argument("--server", choices=sorted(servers()), help="all of them on this one, so that it starts once")
    parser.add_argument("--part", choices=("tune", "score"), help="only this part")
    parser.add_argument("--list", action="store_true", help="what there is")
    return parser.parse_args()


def choose(names: Sequence[str], part: str | None) -> list[Scenario]:
    """The scenarios of those names or families, in the order of the names. SystemExit names an unknown one."""
    there = scenarios()
    unknown = set(names) - {s.name for s in there} - {s.family for s in there}
    if unknown:
        raise SystemExit(f"no such scenario or family: {', '.join(sorted(unknown))}; --list shows what there is")
    wanted = [s for s in there if (not names or s.name in names or s.family in names) and part in (None, s.truth.part)]
    place = {name: number for number, name in enumerate(names)}
    return sorted(wanted, key=lambda s: place.get(s.name, place.get(s.family, 0)))


if __name__ == "__main__":
    given = options()
    picked = choose(given.names, given.part)
    if given.server:
        picked = [scenario.model_copy(update={"server": given.server}) for scenario in picked]
    if given.list:
        for item in picked:
            print(f"{item.name:44} {item.truth.part:6} {item.truth.cause or 'silent':28} {item.truth.says}")
    else:
        given.out.mkdir(parents=True, exist_ok=True)
        corpus = given.corpus.resolve() if given.corpus else None
        raise SystemExit(1 if asyncio.run(main(picked, given.out.resolve(), corpus, given.baseline)) else 0)
