"""What does a new playbook, cause or test start from? Text that passes `responder check` as it stands. Pure."""

from __future__ import annotations

import re

from responder.classes import CAUSES, CAUSES_OF, PRECEDENCE, canonical

NAME = re.compile(r"[a-z][a-z0-9_]{1,60}")
CAUSE = re.compile(r"[a-z][a-z0-9_]{1,60}/[a-z][a-z0-9_]{1,60}")
SCHEMA_URL = "schemas"
"""Folder that `responder schema --dir` writes, beside the files."""


def playbook(name: str, incident_class: str, alert: str) -> str:
    """A playbook with a cause of its own and a command step. ValueError says what is wrong with the names."""
    if not NAME.fullmatch(name):
        raise ValueError(f"`{name}` is no name for a playbook; write for example one_tenant (letters, digits, _)")
    if incident_class not in PRECEDENCE:
        raise ValueError(f"`{incident_class}` is no class; there are {', '.join(PRECEDENCE)}")
    refined = CAUSES_OF[incident_class][0]
    return f"""\
# yaml-language-server: $schema={SCHEMA_URL}/playbook.json
apiVersion: responder/v1
kind: Playbook
id: {name}
class: {incident_class}
title: {name.replace("_", " ").capitalize()}
alerts: [{alert}]
ladder:
  - rung: 0                       # 0 observe, 1 look, 2 touch, 3 operate: in order of harm
    steps:
      - metrics_window
      - log_tail
  - rung: 1
    steps:
      - step: command             # any read-only program; what it prints becomes facts
        why: how full the disk of the server is
        with:
          argv: [df, --output=pcent, /]
          facts:
            - fact: disk_used_percent
              regex: '(\\d+)%'
              unit: "%"
causes:
  {refined}/{name}:
    title: {name.replace("_", " ").capitalize()}
    says: One sentence, plain words - what is going on inside the server.
    prior: 0.05                   # how often, among incidents of this class
    explains: [{alert}]
    evidence:
      - id: disk_full
        group: disk               # probes of the same thing share a group; the loudest counts
        when: command.disk_used_percent >= 95
        yes: +10 dB               # 10 dB is ten to one
        no: -12 dB
        says: the disk is full
        says_not: the disk has room
    confirm: [disk_full]          # never called confirmed without these
    disproved_by:
      - command.disk_used_percent < 80
    would_disprove:
      says: There is room on the disk.
      command: df -h /
    remedies:
      - says: What to do, in one sentence.
        tradeoff: what it costs
        safe_now: true            # can be done at night - no restart, no lost request
"""


def cause(name: str) -> str:
    """A cause file of one's own. ValueError says what is wrong with the name."""
    if not CAUSE.fullmatch(name) or canonical(name) not in CAUSES:
        raise ValueError(
            f"`{name}` is no name for a cause of your own; write <canonical cause>/<name>, for example "
            f"capacity_exceeded/one_tenant (canonical: {', '.join(CAUSES)})"
        )
    return f"""\
# yaml-language-server: $schema={SCHEMA_URL}/cause.json
apiVersion: responder/v1
kind: Cause
id: {name}
title: {name.partition("/")[2].replace("_", " ").capitalize()}
says: One sentence, plain words - what is going on inside the server.
prior: 0.05
explains: ["*"]                   # or the alerts it accounts for
evidence:
  - id: queue
    group: queue
    when: metrics.waiting.max >= 20
    yes: +6 dB
    no: -12 dB
    says: requests wait in the queue
    says_not: nothing waits
confirm: [queue]
would_disprove:
  says: No queue.
  command: curl -s $URL/metrics | grep num_requests_waiting
remedies:
  - says: What to do, in one sentence.
    tradeoff: what it costs
"""


def test(name: str, alert: str, cause_id: str) -> str:
    """A test of a scaffolded playbook: one case that accuses, one that does not."""
    return f"""\
# yaml-language-server: $schema={SCHEMA_URL}/test.json
apiVersion: responder/v1
kind: PlaybookTest
cases:
  - name: a full disk is named
    alerts: [{alert}]
    outputs: {{command: "Use%\\n 99%"}}      # what the program prints
    expect: {{playbooks: [{name}], first: [{cause_id}], runs: [command], facts: {{command.disk_used_percent: 99}}}}
  - name: with room on the disk it is something else
    alerts: [{alert}]
    facts: {{command.disk_used_percent: 40}}
    expect: {{not_confirmed: [{cause_id}], first: [unknown]}}
"""
