"""Commands of a report can be pasted."""

from __future__ import annotations

from responder.model import Fact
from responder.report_commands import runnable
from tests.sample_report import sample


def test_commands_can_be_pasted_as_they_are() -> None:
    """The server's address, and the pid where exactly one process is stopped and the incident is open."""
    name = Fact(name="processes.stopped_names", value="VLLM::Worker_TP1 (pid 1014)", step="processes")
    look = sample().evidence[0].model_copy(update={"facts": (name,)})
    command = "curl $URL/health; kill -CONT <pid>; kill <worker pid> <EngineCore pid>"
    filled = "curl http://chat-70b-a:8000/health; kill -CONT 1014; kill 1014 ENGINECORE_PID"
    assert runnable(sample(evidence=(look,)), command) == filled
    two = look.model_copy(update={"facts": (name.model_copy(update={"value": f"{name.value}, x (pid 7)"}),)})
    assert "-CONT PID;" in runnable(sample(evidence=(two,)), command)
    assert "-CONT PID;" in runnable(sample("resolved", evidence=(look,)), command)


def test_the_only_process_of_its_kind_is_named_by_its_pid() -> None:
    """Of those alive at the last look; of two workers it is not known which, and a launcher is no API server."""
    there = [("VLLM::EngineCore", 41, "S"), ("VLLM::Worker_TP0", 51, "S"), ("APIServer", 31, "gone"), ("vllm", 30, "S")]
    facts = tuple(
        Fact(name="processes.state", value=state, step="processes", subject=f"{name} (pid {pid})")
        for name, pid, state in there
    )
    look = sample().evidence[0].model_copy(update={"facts": facts})
    command = "kill <EngineCore pid> <worker pid> <API server pid>"
    assert runnable(sample(evidence=(look,)), command) == "kill 41 51 API_SERVER_PID"
    more = look.model_copy(
        update={"facts": (*facts, facts[1].model_copy(update={"subject": "VLLM::Worker_TP1 (pid 52)"}))}
    )
    assert runnable(sample(evidence=(more,)), command) == "kill 41 WORKER_PID API_SERVER_PID"
    assert runnable(sample("resolved", evidence=(look,)), command) == "kill ENGINECORE_PID WORKER_PID API_SERVER_PID"
