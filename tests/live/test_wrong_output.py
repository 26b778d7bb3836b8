"""Wrong answers of a real vLLM: damaged weights are found and told apart while it runs; bisection names the option."""

from __future__ import annotations

import os
import time
from pathlib import Path

import aiohttp
import pytest

from responder.bisect.changes import Launch, steps
from responder.bisect.run import Bisection
from responder.bisect.story import State
from responder.canaries.learn import record
from responder.canaries.patrol import Patrol
from responder.canaries.pins import DEFAULT_PROMPTS
from responder.canaries.stored import Shelf
from responder.model import Target
from tests.live.harness import find, scenarios
from tests.live.harness.planted import write_plugin
from tests.live.harness.vllm_server import DEVICES, ENVIRONMENT, SERVED_AS, VllmServer, fair

pytestmark = [pytest.mark.live, pytest.mark.unhurried, pytest.mark.timeout(900)]


async def test_damaged_weights_of_a_running_server_are_found_and_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN is NaN, other weights are other weights, and after both the good ones are right again."""
    switch = tmp_path / "damage"
    monkeypatch.setenv("PYTHONPATH", str(write_plugin(tmp_path / "plugin")), prepend=os.pathsep)
    monkeypatch.setenv("PLANTED", "weights")
    monkeypatch.setenv("PLANTED_FILE", str(switch))
    with VllmServer(tmp_path, scenarios.ROOMY) as server:
        target = Target(name="t", url=server.url, model=SERVED_AS)
        async with aiohttp.ClientSession() as http:
            patrol = Patrol(http, Shelf(tmp_path), lambda _: (), time.time, 60.0)
            patrol.shelf.keep((await record(http, target, DEFAULT_PROMPTS, (), loads=(0, 4), runs_per_load=2)).record)

            async def look() -> tuple[bool | None, bool | None]:
                await patrol.probe(target, patrol.shelf.of("t"))
                found = patrol.watched["t"].judgement
                assert found is not None
                return found.bad, found.nan

            async def until(wanted: tuple[bool, bool]) -> None:
                limit = time.monotonic() + 60
                while await look() != wanted:
                    assert time.monotonic() < limit, f"{patrol.watched['t'].judgement} is not (bad, NaN) {wanted}"

            assert await look() == (False, False)
            for damage, wanted in (("noise 0.1", (True, False)), ("", (False, False)), ("nan", (True, True))):
                switch.write_text(damage)
                await until(wanted)
            switch.unlink()
            await until((False, False))


async def test_bisection_names_the_option_that_a_planted_defect_needs(tmp_path: Path) -> None:
    """Cached prefixes are mixed up: the original is wrong, prefix caching off heals, and both are checked again.
    Hugging Face transformers says what is right."""
    argv = (find.vllm_python(), "-m", "vllm.entrypoints.openai.api_server", "--model", str(find.model()),
            "--served-model-name", SERVED_AS, "--enforce-eager", "--max-model-len", "2048", "--block-size", "32",
            "--max-num-seqs", "16")  # fmt: skip
    planted = {"PLANTED": "prefix_blocks", "PYTHONPATH": str(write_plugin(tmp_path / "plugin"))}
    environment = {**ENVIRONMENT, **DEVICES["cpu"][0], "VLLM_CPU_OMP_THREADS_BIND": "0", **planted}
    launch = Launch(argv=argv, environment=fair(environment))
    state = State(id="x", command=argv, reference="Hugging Face transformers", began_at=time.time())
    told: list[str] = []
    verdict = await Bisection(
        launch, steps(launch, "cpu"), DEFAULT_PROMPTS, None, state, tmp_path, 240.0, told.append
    ).run()
    assert (verdict.status, verdict.change) == ("found", "prefix_caching_off"), told
