"""What does `responder backtest` find in histories that others keep? Recordings, changed, in a real Prometheus.

    python -m bench.foreign_histories [--variants NAME …] [--only SUBSTRING …] [--markdown]

One row per variant: faults found, first cause right, incidents that nothing caused. `--list` names the variants.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from typer.testing import CliRunner

from bench.scoring import foreign
from bench.scoring.foreign import (
    Row,
    Server,
    labelled,
    lasting,
    patchy,
    renamed,
    scraped_twice,
    thinned,
    two_engines,
    with_sibling,
    without,
)  # fmt: skip
from bench.scoring.histories import Told, judge_told, prometheus, right_first
from responder.__main__ import app
from responder.capture import STEPS
from responder.config import Config
from responder.content import load
from responder.model import Content
from tests.live.harness import find

HISTORIES = find.ROOT / "tests" / "data" / "histories"
BEGIN = 1_790_000_000.0
HEALTHY_S, FAULT_S = 600.0, 300.0
Change = Callable[[Server], Server]


@dataclass(frozen=True)
class Variant:
    """One way in which somebody's history differs."""

    says: str
    changes: tuple[Change, ...] = ()
    quick: bool = False
    """Of a few recordings only: it changes names, not what is in them."""


PHASE = 0.0


def every(seconds: float) -> Change:
    """Thinned to a scrape every so many seconds."""
    return lambda server: thinned(server, seconds, PHASE)


def long_fault(server: Server) -> Server:
    """Minutes of fault after a quarter of an hour of health."""
    return lasting(server, HEALTHY_S, FAULT_S)


def short_past(server: Server) -> Server:
    """Minutes of fault after two minutes of health."""
    return lasting(server, 120.0, FAULT_S)


def kubernetes(labels: dict[str, str], host: str) -> dict[str, str]:
    """As a PodMonitor labels: the address says nothing."""
    if "DCGM" in labels.get("__name__", "") or labels.get("job") == "dcgm":
        return {**{k: v for k, v in labels.items() if k not in ("instance", "job", "Hostname")},
                "job": "dcgm-exporter", "instance": "10.1.0.9:9400", "Hostname": "node-7", "pod": "dcgm-exporter-x2x",
                "namespace": "gpu", "exported_pod": f"{host}-7f9c-abcde", "exported_namespace": "llm"}  # fmt: skip
    return {**labels, "instance": "10.1.2.3:8000", "job": "llm/vllm", "namespace": "llm", "pod": f"{host}-7f9c-abcde",
            "container": "vllm", "endpoint": "http", "cluster": "eu-1", "prometheus": "monitoring/k8s"}  # fmt: skip


def pushed(labels: dict[str, str], host: str) -> dict[str, str]:
    """As an OpenTelemetry collector pushes: no instance of a scrape, a service with an id."""
    kept = {k: v for k, v in labels.items() if k not in ("instance", "job")}
    return {**kept, "service_name": "vllm", "service_instance_id": f"{host}-0001", "deployment_environment": "prod"}


def spelled(server: Server) -> Server:
    """vllm_… for vllm:…, and counters without their ending."""

    def change(row: Row, value: float) -> Iterable[tuple[Row, float]]:
        name = row[0].replace("vllm:", "vllm_")
        return (((name.removesuffix("_total"), row[1]), value),)

    return foreign.said_otherwise(server, change)


VARIANTS: dict[str, Variant] = {
    "recorded": Variant("as recorded, every 2 to 4 s"),
    **{f"recorded_{n}s": Variant(f"the same, every {n} s", (every(n),)) for n in (10, 15, 30, 60)},
    "long": Variant("faults of 5 min after 15 min of health, every 2 to 4 s", (long_fault,)),
    **{f"long_{n}s": Variant(f"the same, every {n} s", (long_fault, every(n))) for n in (10, 15, 30, 60)},
    "short_past_15s": Variant("2 min of health before 5 min of fault, every 15 s", (short_past, every(15))),
    "no_up_15s": Variant("without `up`, every 15 s", (long_fault, every(15), without("up$|scrape_")), quick=True),
    "kubernetes_15s": Variant(
        "labels of a PodMonitor, every 15 s", (long_fault, every(15), labelled(kubernetes)), True
    ),
    "pushed_15s": Variant(
        "pushed by OpenTelemetry: no instance, job or `up`, every 15 s",
        (long_fault, every(15), without("up$|scrape_"), labelled(pushed)), True,
    ),
    "no_http_15s": Variant("without http_requests_total, every 15 s", (long_fault, every(15), without("http_")), True),
    "no_process_15s": Variant(
        "without process_* (several API servers), every 15 s", (long_fault, every(15), without("process_")), True
    ),
    "no_gpu_15s": Variant("without a GPU exporter, every 15 s", (long_fault, every(15), without("DCGM_")), True),
    "sibling_15s": Variant("a healthy replica beside it, every 15 s", (long_fault, with_sibling, every(15)), True),
    "engines_15s": Variant("two engines in a process, one ill, every 15 s", (long_fault, two_engines, every(15)), True),
    "pair_15s": Variant("scraped by two, both kept, every 15 s", (long_fault, every(15), scraped_twice), True),
    "patchy_15s": Variant("scrapes lost and late, every 15 s", (long_fault, every(15), patchy), True),
    "underscores_15s": Variant(
        "names as a collector makes them (vllm_…, no _total), every 15 s",
        (long_fault, every(15), spelled), True,
    ),
    "old_names_15s": Variant(
        "names of vLLM 0.8, every 15 s",
        (long_fault, every(15), without("vllm:(num_requests_waiting_by_reason|prompt_tokens_by_source|engine_sleep)"),
         renamed({"vllm:inter_token_latency_seconds": "vllm:time_per_output_token_seconds",
                  "vllm:kv_cache_usage_perc": "vllm:gpu_cache_usage_perc",
                  "vllm:prefix_cache_": "vllm:gpu_prefix_cache_"})), True,
    ),
}  # fmt: skip
QUICK = ("capacity_exceeded-twice", "client_aborts-after_five", "engine_hang-busy_plain", "kv_pressure-long_both",
         "slow_accelerator_busy-sixth", "prefix_cache_collapse-gone", "frontend_frozen-busy",
         "healthy_controls-burst", "healthy_controls-waves")  # fmt: skip


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(prog="python -m bench.foreign_histories", description=__doc__)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("--only", nargs="*", default=[], help="recordings whose name holds one of these")
    parser.add_argument("--histories", type=pathlib.Path, nargs="*", default=sorted(HISTORIES.glob("*.om.gz")))
    parser.add_argument("--phase", type=float, default=0.0, help="0 to 1: which scrapes are kept")
    parser.add_argument("--controls", action="store_true", help="only servers that nothing happened to")
    parser.add_argument("--list", action="store_true", help="what the variants are")
    parser.add_argument("--verbose", action="store_true", help="every server")
    given = parser.parse_args()
    if given.list:
        for name, variant in VARIANTS.items():
            print(f"{name:20} {variant.says}")
        return
    global PHASE
    PHASE = given.phase
    content = load(Config(), STEPS)
    servers = [server for history in given.histories for server in foreign.read(history)]
    servers = [server for server in servers if not (given.controls and server.truth["incidents"])]
    print("| history | recordings | found | first cause right | confirmed, right | false | onset to opening, median |")
    print("|---|---|---|---|---|---|---|")
    for name in given.variants:
        variant = VARIANTS[name]
        wanted = given.only or (QUICK if variant.quick else ())
        chosen = [s for s in servers if not wanted or any(w in s.name for w in wanted)]
        began = time.process_time()
        told, said = run(variant, chosen, content)
        print(row(variant, chosen, told), flush=True)
        if given.verbose:
            print("\n".join(said))
            print(f"  {time.process_time() - began:.0f} s of CPU", flush=True)


def run(variant: Variant, servers: Iterable[Server], content: Content) -> tuple[Told, list[str]]:
    """Backtest every server of the variant, in its own time; one line per server."""
    changed = []
    for server in servers:
        for change in variant.changes:
            server = change(server)
        changed.append(server)
    told, said = Told(), []
    placed = foreign.in_a_row(changed, BEGIN)
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = pathlib.Path(scratch_name)
        with prometheus(foreign.text(placed), scratch / "prometheus") as url:
            for server in placed:
                said += one(told, url, server, scratch, content)
    return told, said


def one(told: Told, url: str, server: Server, scratch: pathlib.Path, content: Content) -> list[str]:
    """The real command, without saying which servers there are."""
    folders = scratch / "folders" / re.sub(r"\W", "_", server.name)
    truth = server.truth
    done = CliRunner().invoke(
        app,
        ["backtest", "--prometheus", url, "--from", str(truth["from"] - 5), "--to", str(truth["to"] + 60),
         "--format", "json", "--folders", str(folders)],
    )  # fmt: skip
    missed, false = len(told.missed), sum(map(len, told.false.values()))
    cases = len(told.cases)
    if done.exit_code != 0:
        judge_told(told, server.name, truth, [], folders, content, scratch)
        return [f"  FAILED {server.name}: {done.output[-300:]}"]
    head = json.loads(done.stdout)
    judge_told(told, server.name, truth, head["reports"], folders, content, scratch)
    names = ", ".join(t["name"] for t in head["targets"])
    lines = []
    for case in told.cases[cases:]:
        first = case.report.verdict.hypotheses[:2]
        ranked = ", ".join(f"{h.cause} {h.status.value} {h.probability:.2f}" for h in first)
        late = case.report.incident.opened_at - (case.began or 0.0)
        lines.append(f"  {'ok   ' if right_first(case) else 'WRONG'} {server.name} +{late:.0f} s "
                     f"[{','.join(s.alert for s in case.report.incident.symptoms)}] {ranked}")  # fmt: skip
    if len(told.missed) > missed:
        lines.append(f"  MISS  {server.name}")
    wrong = [name for names_ in told.false.values() for name in names_][false:]
    for name in wrong:
        report = next(r for r in head["reports"] if name.endswith(r["incident"]["id"]))
        alerts = ",".join(symptom["alert"] for symptom in report["symptoms"])
        lines.append(f"  FALSE {name} {report['incident']['opened_at']} [{alerts}] {report['hypotheses'][0]['cause']}")
    if not truth["incidents"] and not wrong:
        lines.append(f"  quiet {server.name}")
    if len(head["targets"]) != len({e.address for e in server.endpoints if not e.address.endswith(":9400")}):
        lines.append(f"  TARGETS {server.name}: {names}")
    lines += [f"  UNANSWERED {server.name} {k}: {v}" for k, v in head["unanswered"].items()]
    return lines


def row(variant: Variant, servers: Sequence[Server], told: Told) -> str:
    """One line of the table."""
    faults, found = sum(told.faults.values()), sum(told.found.values())
    sure = [c for c in told.cases if c.report.verdict.hypotheses[0].status.value == "confirmed"]
    late = sorted(c.report.incident.opened_at - c.began for c in told.cases if c.began is not None)
    middle = f"{late[len(late) // 2]:.0f} s" if late else "–"
    right, false = sum(map(right_first, told.cases)), sum(map(len, told.false.values()))
    return (f"| {variant.says} | {len(servers)} | {found} of {faults} | {right} of {found} "
            f"| {len(sure)}, {sum(map(right_first, sure))} | {false} | {middle} |")  # fmt: skip


if __name__ == "__main__":
    main()
