"""The fault lab: its files are complete, its split is honest, an unfelt fault does not count, a kept folder replays."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from bench.faults.__main__ import choose, row
from bench.faults.feeling import judge, words
from bench.faults.history import parsed
from bench.faults.keep import keep
from bench.faults.play import Outcome
from bench.faults.pool import LONG, NothingAnswered, Pool
from bench.faults.scenario import Family, Feels, Requests, families, scenarios, servers
from responder.capture import STEPS
from responder.config import Config
from responder.content import load
from responder.replay import replay
from responder.report import to_json
from tests.live.harness import find, processes
from tests.live.harness.load import Call, Load, Traffic
from tests.live.harness.vllm_server import FAIR, VllmServer

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = Path(asyncio.__file__).parent
"""Of the interpreter, not of its environment."""


def test_every_truth_is_a_known_cause_and_every_server_exists() -> None:
    """A file that names what is not there is found without playing it."""
    known = {cause.id for cause in load(Config(), STEPS).causes} | {"unknown"}
    for scenario in scenarios():
        truth = scenario.truth
        assert truth.cause is None or {truth.cause, *truth.causes} <= known, scenario.name
        assert scenario.server in servers(), scenario.name
        assert (truth.cause is None) == (truth.class_ is None), scenario.name
        assert truth.cause is None or scenario.felt, f"{scenario.name}: nothing says that clients feel it"


def test_at_least_a_third_of_the_families_is_scored_only() -> None:
    """Weights are set on the others."""
    parts = [family.part for family in families().values()]
    assert parts.count("score") * 3 >= len(parts)


def test_the_product_knows_no_scenario() -> None:
    """Neither code nor rules nor playbooks name a scenario, a server of the lab or the model it serves."""
    causes = {cause.id for cause in load(Config(), STEPS).causes}
    names = {s.name for s in scenarios()} | {name for name in families() if name not in causes and "_" in name}
    names |= {"planted_weights", "planted_scheduler", "tiny-llama"}
    wrong = []
    for folder in ("responder", "rules", "playbooks"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml"):
                text = path.read_text()
                there = [name for name in names if name in text]  # far quicker than an expression for each
                wrong += [f"{path.name}: {name}" for name in there if re.search(rf"\b{re.escape(name)}\b", text)]
    # A phrase of the field may be the name of a family as well.
    assert [entry for entry in wrong if not entry.endswith((": engine_hang", ": long_prompts"))] == []


def test_an_unknown_key_is_refused() -> None:
    """A misspelt key would be a fault that is never made."""
    with pytest.raises(ValidationError, match="injct"):
        Family.model_validate(
            {"says": "", "cause": None, "part": "tune", "author": "", "variants": [{"name": "a", "injct": []}]}
        )


def test_an_unknown_name_is_refused_in_words() -> None:
    """And --list is pointed out."""
    with pytest.raises(SystemExit, match="--list"):
        choose(["no_such_fault"], None)


def test_names_are_played_in_their_order() -> None:
    """What matters most can be played first."""
    names = ["worker_hang-busy", "engine_hang-quiet"]
    assert [scenario.name for scenario in choose(names, None)] == names


def test_a_planted_defect_leads_the_path_that_was_given_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where vLLM itself is found by PYTHONPATH, a server with planted code still finds it."""
    monkeypatch.setenv("PYTHONPATH", "/vllm/site")
    pool, kind = Pool(tmp_path), servers()["planted_scheduler"]
    monkeypatch.setenv("RESPONDER_VLLM_PYTHON", sys.executable)
    monkeypatch.setattr(find, "model", lambda: tmp_path)
    given: list[dict[str, str]] = []
    monkeypatch.setattr(processes, "start", lambda argv, log, *, env: given.append(env))
    VllmServer(tmp_path, kind.flags, environment=pool._environment(kind)).launch()
    assert given[0]["PYTHONPATH"].split(os.pathsep) == [str(FAIR), str(tmp_path / "plugin"), "/vllm/site"]
    assert given[0]["PLANTED"] == "scheduler"


def test_a_share_of_what_the_server_can_read_becomes_a_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of one GPU's second are those of a CPU's minutes: a rate in requests would not be the same fault."""

    async def ten_per_second(self: Pool, server: object, usual: Requests) -> float:
        assert usual == LONG
        return 10.0

    monkeypatch.setattr(Pool, "capacity", ten_per_second)
    wanted = Requests(prefill_share=0.5, prompt_tokens=1000, shared=0.1)
    rated = asyncio.run(Pool(tmp_path).rated(None, wanted))  # type: ignore[arg-type]
    assert rated is not None
    assert rated.rate == pytest.approx(0.5 * 10 * LONG.prompt_tokens / 900)


def test_a_host_too_busy_to_measure_is_named_and_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shares of nothing are no traffic: such a run would be rejected as not felt, and nobody would know why."""
    answered = [0.0, 12.0]

    async def measured(server: object, usual: Traffic, *, seconds: float) -> float:
        return answered.pop(0)

    monkeypatch.setattr("bench.faults.pool.measure_capacity", measured)
    pool = Pool(tmp_path)
    pool._kind = servers()["plain"]
    with pytest.raises(NothingAnswered, match="the host is too busy"):
        asyncio.run(pool.capacity(None, Requests()))  # type: ignore[arg-type]
    assert asyncio.run(pool.capacity(None, Requests())) == 12.0  # type: ignore[arg-type]


def test_a_word_in_front_spoils_a_shared_prompt() -> None:
    """The length stays; what all have in common comes after it."""
    load = Load("", Traffic(rate=1.0))
    usual, led = (
        load._prompt(Traffic(rate=1.0, prompt_tokens=40, shared=0.9, spread=0.0, lead=n)).split() for n in (0, 1)
    )
    assert len(led) == len(usual) == 40
    assert led[1:37] == usual[:36]


def test_a_call_may_have_several_prompts_and_fields_of_its_own() -> None:
    """Each prompt has its own words; a schema is never the same twice, and one word stays one."""
    load, seen = Load("", Traffic(rate=1.0)), []

    async def ask(traffic: Traffic, prompt: str | list[str], output: int) -> None:
        seen.append(prompt)

    async def send() -> None:
        load._ask = ask  # type: ignore[method-assign]
        for pack in (1, 3):
            load._send(Traffic(rate=1.0, prompt_tokens=20, pack=pack))
        await asyncio.gather(*load._requests)

    asyncio.run(send())
    assert isinstance(seen[0], str)
    assert isinstance(seen[1], list)
    assert len(set(seen[1])) == 3
    first, second = (load._filled({"a": {"b": "$form"}, "c": "$unique", "d": 1}) for _ in range(2))
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert first["a"]["b"]["type"] == "object"
    assert first["a"] != second["a"]
    assert first["c"] != second["c"]
    assert first["d"] == 1


def test_labels_before_the_name_are_kept() -> None:
    """Prometheus sorts labels by bytes, so that NVIDIA's Hostname comes before __name__."""
    line = '{Hostname="h", __name__="DCGM_FI_DEV_GPU_UTIL", gpu="0", instance="i:1", job="dcgm"} 94 1795668078204'
    labels = 'Hostname="h", gpu="0", instance="i:1", job="dcgm"'
    assert parsed(line) == ("DCGM_FI_DEV_GPU_UTIL", labels, "94", 1795668078.204)
    assert parsed('{__name__="up", job="v"} 1 2000') == ("up", 'job="v"', "1", 2.0)
    assert parsed("# nothing") is None


def calls(ttft: float, at: float = 0.0, count: int = 20) -> list[Call]:
    return [Call(at=at + n * 0.1, ttft=ttft, gaps=[0.01] * 8, tokens=9) for n in range(count)]


@pytest.mark.parametrize(("ttft", "felt"), [(0.1, False), (0.9, True)])
def test_a_fault_counts_only_when_clients_felt_it(ttft: float, felt: bool) -> None:
    """Measured by the clients, against the time before."""
    wanted = [Feels(measure="ttft_p50", at_least=3)]
    found = judge(wanted, calls(0.1), 10, calls(ttft, at=100), 100, 110, None)
    assert [item.holds for item in found] == [felt]


@pytest.mark.parametrize(("ttft", "holds"), [(1.9, True), (10.0, False)])
def test_a_control_whose_clients_wait_is_none(ttft: float, holds: bool) -> None:
    """Seconds and not a ratio: what was usual does not matter where the limit is reached."""
    wanted = [Feels(measure="ttft_p99", at_most_s=2.0)]
    found = judge(wanted, calls(0.1), 10, calls(ttft, at=100), 100, 110, None)
    assert found[0].holds is holds
    assert ("OVER THE LIMIT" in words(found)) is not holds
    assert judge(wanted, calls(0.1), 10, [], 100, 110, None)[0].holds


def test_answers_after_the_fault_do_not_count_as_answers() -> None:
    """What comes when the stopped process goes on was missing while it stood still."""
    wanted = [Feels(measure="unanswered", at_least=0.9)]
    assert judge(wanted, calls(0.1), 10, calls(60.0, at=100), 100, 110, None)[0].holds


@pytest.mark.parametrize(
    ("told", "right"),
    [("client_abort_storm/bad_requests", True), ("insufficient_load", True), ("unknown", True), ("engine_hang", False),
     ("engine_hang/paused", False), (None, False)],
)  # fmt: skip
def test_a_finer_name_of_whatever_the_author_accepts_is_right(told: str | None, right: bool) -> None:
    """Not only of the first cause of the truth; nobody told is told wrongly."""
    scenario = next(s for s in scenarios() if "client_abort_storm" in s.truth.causes and s.truth.cause == "unknown")
    incident = {"class": scenario.truth.class_, "opened_at": "2026-11-27T00:00:00Z"}
    report = {
        "incident": incident, "symptoms": [], "timings": None,
        "hypotheses": [{"cause": told, "status": "probable", "probability": 0.8}],
    }  # fmt: skip
    assert row(Outcome(scenario, reports={"one": report} if told else {}))["right"] is right


def test_a_kept_folder_replays_to_the_same_verdict(tmp_path: Path) -> None:
    """Packed and without the machine's paths, the verdict is the same; nothing is left out that it needs."""
    source = ROOT / "tests" / "incidents" / "cpu_engine_stopped"
    loose = tmp_path / "loose"
    manifest = json.loads((source / "manifest.json").read_text())
    from responder.folder import IncidentFolder

    for entry in manifest["evidence"]:
        for name, data in IncidentFolder(source).read_raw(entry["evidence"]["id"]).items():
            target = loose / "raw" / entry["evidence"]["id"] / name
            target.parent.mkdir(parents=True, exist_ok=True)
            ours = f"\n# {find.ROOT}/secret {LIBRARY}/x.py\n".encode() if name == "log.txt" else b""
            target.write_bytes(data + ours)
    (loose / "manifest.json").write_text(json.dumps(manifest))
    kept = keep(loose, tmp_path / "kept", {"cause": "engine_hang"})
    content = load(Config(), STEPS)
    assert to_json(replay(kept, STEPS, content)) == to_json(replay(loose, STEPS, content))
    logs = [
        IncidentFolder(kept).read_raw(entry["evidence"]["id"]).get("log.txt", b"") for entry in manifest["evidence"]
    ]
    assert any(b"/secret" in log for log in logs)
    assert not any(str(place).encode() in log for log in logs for place in (find.ROOT, LIBRARY))
