"""Does an operator's command run as written, bounded by what was declared, and become the declared facts?"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from responder.capture import command
from responder.capture.step import Fetched
from responder.load import load_content
from responder.model import Inventory, Outcome, ProcessInfo, Scalar
from responder.problems import render
from responder.runner import LocalRunner
from tests.doubles import BRIEF, Files, scene
from tests.facts import FACTS, STEPS

ROOT = Path(__file__).parents[2]
FACT = {"fact": "n", "regex": r"n=(\d+)"}
API = ProcessInfo(pid=42, ppid=1, started_at=1, role="api_server", name="a")


def call(*argv: str, facts: Any = (FACT,), **more: Any) -> command.CommandParams:
    return command.CommandParams.model_validate({"argv": argv, "facts": facts, **more})


async def run(
    params: command.CommandParams, runner: Any = None, known: bool = True
) -> tuple[Fetched, dict[str, Scalar]]:
    inventory = Inventory(at=0, local=True, processes=(API,)) if known else None
    async with scene("http://gpu-1:8001", inventory=inventory, runner=runner or LocalRunner()) as where:
        fetched = await command.fetch(where, params)
    return fetched, {fact.name: fact.value for fact in command.read(fetched.files, BRIEF)}


async def test_values_by_pattern_and_by_path() -> None:
    """Numbers, text, found or not; what is not there is unknown."""
    facts = [
        FACT,
        {"fact": "who", "regex": r"who is (\w+)", "kind": "text"},
        {"fact": "bad", "regex": "bad", "kind": "found"},
        {"fact": "there", "regex": "who", "kind": "found"},
        {"fact": "none", "regex": r"none=(\d+)"},
    ]
    fetched, said = await run(call("printf", "x\\nn=12\\nwho is it", facts=facts))
    assert fetched.outcome is Outcome.OK
    assert said == {
        "command.n": 12.0,
        "command.who": "it",
        "command.bad": False,
        "command.there": True,
        "command.none": None,
    }
    paths = [
        {"fact": "a", "json_path": "x[1].y"},
        {"fact": "b", "json_path": "x[9].y"},
        {"fact": "c", "json_path": "z", "kind": "text"},
    ]
    _, said = await run(call("printf", "%s", '{"x": [0, {"y": 2.5}], "z": "w"}', facts=paths))
    assert said == {"command.a": 2.5, "command.b": None, "command.c": "w"}


async def test_items_stay_items() -> None:
    """A value is one item, whatever it holds; what the step knows itself is filled in."""
    params = {"path": {"value": "/tmp/a b;c", "matches": "[a-z/ ;]+"}}
    runner = Files({}, {"tool": b"n=1"})
    await run(call("tool", "--of={path}", "{pid}", "{port}", "{target}", params=params), runner)
    assert runner.ran == [["tool", "--of=/tmp/a b;c", "42", "8001", "http://gpu-1:8001"]]
    fetched, _ = await run(call("tool", "{pid}"), runner, known=False)
    assert fetched.outcome is Outcome.SKIPPED


@pytest.mark.parametrize(
    "wrong",
    [
        {"argv": []},
        {"argv": ["{program}"], "params": {"program": {"value": "x"}}},
        {"argv": ["tool", "{unknown}"]},
        {"argv": ["tool"], "params": {"x": {"value": "a b"}}},
        {"argv": ["tool"], "params": {"x": {"value": "--evil"}}},
        {"argv": ["tool"], "params": {"x": {"value": "a", "matches": "("}}},
        {"argv": ["tool"], "facts": [{"fact": "n"}]},
        {"argv": ["tool"], "facts": [{"fact": "n", "regex": "no group"}]},
        {"argv": ["tool"], "facts": [{"fact": "n", "regex": "("}]},
        {"argv": ["tool"], "facts": [{"fact": "N n", "regex": "(x)"}]},
        {"argv": ["tool"], "facts": [FACT, FACT]},
        {"argv": ["tool"], "facts": []},
        {"argv": "tool -x"},
    ],
)
def test_a_mistake_is_found_before_it_runs(wrong: dict[str, Any]) -> None:
    """`responder check` says it."""
    with pytest.raises(ValidationError):
        command.CommandParams.model_validate({"facts": [FACT], **wrong})


@pytest.mark.parametrize("program", ["sh", "/bin/bash", "env", "sudo"])
async def test_a_shell_only_where_the_operator_allowed_it(program: str) -> None:
    """Also under a path; nothing was run."""
    fetched, _ = await run(call(program, "-c", "echo n=1"))
    assert fetched.outcome is Outcome.SKIPPED
    assert "shell: true" in fetched.reason


async def test_endings() -> None:
    """Missing, failing, and too slow are told apart; a found-fact of a killed command is unknown."""
    assert (await run(call("no-such-program")))[0].outcome is Outcome.SKIPPED
    assert (await run(call("false")))[0].outcome is Outcome.PARTIAL
    slow = call("sleep", "600", timeout_s=0.3, facts=[{"fact": "f", "regex": "x", "kind": "found"}])
    fetched, said = await run(slow)
    assert (fetched.outcome, said) == (Outcome.TIMED_OUT, {"command.f": None})


@pytest.mark.parametrize(("script", "value"), [("exit 7", None), ("echo busy; exit 1", False), ("true", False)])
async def test_a_program_that_failed_and_printed_nothing_has_not_looked(script: str, value: Scalar) -> None:
    """Exit 7 of curl is no evidence that nothing waits; what it printed before it failed is."""
    facts = [{"fact": "f", "regex": "waiting", "kind": "found"}]
    async with scene("http://gpu-1:8001", runner=LocalRunner()) as where:
        where = replace(where, shell_allowed=True)
        fetched = await command.fetch(where, call("sh", "-c", script, facts=facts))
    assert {fact.name: fact.value for fact in command.read(fetched.files, BRIEF)} == {"command.f": value}


def test_declared_facts_may_be_used_in_causes(tmp_path: Path) -> None:
    """A playbook that declares a fact and a cause that reads it load together; a misspelt one is a problem."""
    book = (ROOT / "playbooks" / "slow_decode.yaml").read_text()
    step = "      - step: command\n        with:\n          argv: [probe, \"{port}\"]\n          facts:\n" \
        "            - {fact: jitter, regex: 'jitter=([0-9.]+)'}\n"  # fmt: skip
    at = book.index("    steps:\n") + len("    steps:\n")
    (tmp_path / "slow_decode.yaml").write_text(book[:at] + step + book[at:])
    cause = (ROOT / "playbooks" / "causes" / "slow_kernel.yaml").read_text()
    steps = STEPS | {"command": command.CommandParams}
    for fact, right in (("command.jitter", True), ("command.gitter", False)):
        changed, times = re.subn(r"when: .*", f"when: {fact} > 1", cause, count=1)
        assert times == 1
        (tmp_path / "slow_kernel.yaml").write_text(changed)
        _, problems = load_content([ROOT / "rules"], [ROOT / "playbooks", tmp_path], steps, FACTS)
        wrong = [problem for problem in problems if "itter" in problem.what]
        assert bool(wrong) is not right, render(problems)
