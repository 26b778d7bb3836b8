"""How does a command stand in a report so that it can be pasted? Address and pids filled in where they are known."""

from __future__ import annotations

import re

from responder.model import Report
from responder.report_facts import facts_by_name

STOPPED = "processes.stopped_names"
KINDS = {"worker": "Worker", "EngineCore": "EngineCore", "API server": "APIServer"}
"""What a remedy calls a process -> what its title holds."""
STATE = "processes.state"
DEAD = ("gone", "Z", "X")
NAMED_PID = re.compile(r"([^;,]*)\(pid (\d+)\)")
BLANK = re.compile(r"<([^<>]*)>")
PORT = re.compile(r":(\d+)(?:/|$)")


def runnable(report: Report, command: str) -> str:
    """A command as it can be pasted: the server's address, and the pid where only one process is stopped, or there is
    only one of its kind."""
    if report.target_url:
        command = command.replace("$URL", report.target_url)
        port = PORT.search(report.target_url)
        command = command.replace("$PORT", port[1]) if port else command
    stopped = NAMED_PID.findall(_stopped(report)) if report.incident.state == "open" else []
    if len(stopped) == 1:
        name, pid = stopped[0]
        kind = next((kind for kind, title in KINDS.items() if title in name), "API server")
        command = command.replace("<pid>", pid).replace(f"<{kind} pid>", pid)
    for kind, title in KINDS.items() if report.incident.state == "open" else ():
        pids = [pid for name, pid in _alive(report) if title in name]
        if len(pids) == 1:
            command = command.replace(f"<{kind} pid>", pids[0])
    if _is_cpu(report):
        command = "; ".join(part for part in command.split("; ") if not part.startswith("nvidia-smi"))
    # A shell reads `<` as a redirection; an option's blank is not pasted as it stands.
    return command if command.startswith("-") else BLANK.sub(_name, command)


def _is_cpu(report: Report) -> bool:
    device = facts_by_name(report).get("config.device")
    return device is not None and device.value == "cpu"


def _name(blank: re.Match[str]) -> str:
    return blank[1].upper().replace(" ", "_")


def _alive(report: Report) -> list[tuple[str, str]]:
    """(name, pid) of the server's processes that were there at the last look."""
    looks = [[f for f in item.facts if f.name == STATE and f.subject] for item in report.evidence]
    last = next((look for look in reversed(looks) if look), [])
    return [found[0] for f in last if f.value not in DEAD and (found := NAMED_PID.findall(f.subject))]


def _stopped(report: Report) -> str:
    """The names of stopped processes as last seen, whatever later looks could not see."""
    found = [str(fact.value) for item in report.evidence for fact in item.facts if fact.name == STOPPED and fact.value]
    return found[-1] if found else ""
