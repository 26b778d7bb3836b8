"""Strict YAML, and every problem of what operators write, with its place and a way out."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from responder.authored import json_schemas
from responder.load import (
    MAX_BYTES,
    load_causes,
    load_content,
    load_mapping,
    load_playbooks,
    load_rules,
    parse_yaml,
    read_yaml,
)
from responder.model import Content, Problem
from responder.problems import render, to_objects

RULES = """\
groups:
  - name: g
    rules:
      - record: signal:waiting
        expr: vllm:num_requests_waiting
      - record: signal:ttft_p99
        expr: histogram_quantile(0.99, rate(x_bucket[20s]))
      - alert: VLLMTTFTHigh
        expr: signal:ttft_p99 > 2 and signal:waiting >= 1
        for: 1m30s
        keep_firing_for: 20s
        labels: {class: high_ttft, severity: critical}
        annotations: {unit: s, summary: late}
"""
CAUSE = """\
apiVersion: responder/v1
kind: Cause
id: capacity_exceeded
title: Too much traffic
says: Requests wait.
prior: 0.2
explains: [VLLMTTFTHigh]
evidence:
  - id: queue
    group: queue
    when: metrics.waiting.max >= 5
    yes: +8 dB
    no: -3 dB
    says: requests wait
  - id: full
    group: slots
    any:
      - metrics.running.pinned == true
      - gpu.state == busy
    yes: 4.5 dB
    says: all slots are taken
confirm: [queue]
disproved_by:
  - metrics.waiting.max == 0
would_disprove:
  says: no queue
  command: curl -s $URL/metrics
remedies:
  - says: Add replicas.
    option: --max-num-seqs 64
    tradeoff: cost
    safe_now: true
"""
PLAYBOOK = """\
apiVersion: responder/v1
kind: Playbook
id: high_ttft
class: high_ttft
title: The first token comes late
alerts: [VLLMTTFTHigh]
ladder:
  - rung: 1
    steps:
      - step: log_tail
        with: {lines: 100}
        why: what it says
  - rung: 0
    steps: [metrics_window]
causes:
  capacity_exceeded: 0.3
"""


class LogParams(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    lines: int = 10


class NoParams(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


STEPS: dict[str, type[BaseModel]] = {"metrics_window": NoParams, "log_tail": LogParams}
FACTS = ("metrics.{signal}.max", "metrics.running.pinned", "gpu.state")


def load(folder: Path, **files: str) -> tuple[Content, tuple[Problem, ...]]:
    """Content of the three files above, each replaced by an argument of its name."""
    for name, text in {"rules": RULES, "cause": CAUSE, "playbook": PLAYBOOK, **files}.items():
        place = folder / ("rules" if name == "rules" else "playbooks")
        place.mkdir(exist_ok=True)
        (place / f"{name}.yaml").write_text(text)
    return load_content([folder / "rules"], [folder / "playbooks"], STEPS, FACTS)


def said(problems: Iterable[Problem]) -> list[tuple[str, int, int, str, str]]:
    return [(Path(p.file).name, p.line, p.column, p.what, p.instead) for p in problems]


# ------------------------------------------------------------------------------------------------------ good files


def test_good_content_becomes_nouns(tmp_path: Path) -> None:
    """Every field arrives, with the line it stands on."""
    content, problems = load(tmp_path)
    assert said(problems) == []
    rule, cause, book = content.rules[0], content.causes[0], content.playbooks[0]
    assert [(t.signal, t.op, t.number) for t in rule.terms] == [("ttft_p99", ">", 2), ("waiting", ">=", 1)]
    assert (rule.for_s, rule.keep_firing_for_s, rule.line, rule.incident_class) == (90, 20, 8, "high_ttft")
    assert [signal.name for signal in content.signals] == ["ttft_p99", "waiting"]
    assert [(w.yes, w.no) for w in cause.evidence] == [(8, -3), (4.5, 0)]
    assert [(c.fact, c.op, c.value, c.line) for c in cause.evidence[1].test.any] == [
        ("metrics.running.pinned", "==", True, 18),
        ("gpu.state", "==", "busy", 19),
    ]
    assert cause.disproved_by[0].all[0].value == 0
    assert [(c.step, c.rung, c.params) for c in book.ladder] == [
        ("metrics_window", 0, {}),
        ("log_tail", 1, {"lines": 100}),
    ]
    assert book.priors == {"capacity_exceeded": 0.3}


def test_a_playbook_may_define_a_cause_of_its_own(tmp_path: Path) -> None:
    """Inline, as a refinement of a canonical cause."""
    body = textwrap.indent(CAUSE.split("id: capacity_exceeded\n")[1], "    ")
    inline = PLAYBOOK + "  capacity_exceeded/one_tenant:\n" + body
    content, problems = load(tmp_path, playbook=inline)
    assert said(problems) == []
    assert [cause.id for cause in content.causes] == ["capacity_exceeded", "capacity_exceeded/one_tenant"]
    assert content.playbooks[0].causes == ("capacity_exceeded", "capacity_exceeded/one_tenant")


def test_a_later_folder_replaces_by_name(tmp_path: Path) -> None:
    """A site tunes one rule and one cause without copying the rest."""
    load(tmp_path)
    site = tmp_path / "site"
    site.mkdir()
    (site / "r.yaml").write_text(RULES.replace("ttft_p99 > 2", "ttft_p99 > 7"))
    (site / "c.yaml").write_text(CAUSE.replace("prior: 0.2", "prior: 0.7"))
    content, problems = load_content(
        [tmp_path / "rules", site / "r.yaml"], [tmp_path / "playbooks", site / "c.yaml"], STEPS, FACTS
    )
    assert said(problems) == []
    assert content.rules[0].terms[0].number == 7
    assert content.causes[0].prior == 0.7


def test_alerts_can_be_switched_off(tmp_path: Path) -> None:
    """The rule is gone, playbooks may still name it; a name nobody defines is a mistake."""
    load(tmp_path)
    content, problems = load_content(
        [tmp_path / "rules"], [tmp_path / "playbooks"], STEPS, FACTS, disable_alerts=["VLLMTTFTHigh", "VLLMTTFTHihg"]
    )
    assert content.rules == ()
    assert said(problems) == [
        ("disable_alerts", 0, 0, "no rule defines the alert `VLLMTTFTHihg`", "did you mean `VLLMTTFTHigh`?")
    ]


def test_one_kind_at_a_time(tmp_path: Path) -> None:
    """The loaders of rules, playbooks and causes also work alone."""
    load(tmp_path)
    assert [r.alert for r in load_rules([tmp_path / "rules"])[1]] == ["VLLMTTFTHigh"]
    assert [b.id for b in load_playbooks([tmp_path / "playbooks"])[0]] == ["high_ttft"]
    assert [c.id for c in load_causes([tmp_path / "playbooks"])[0]] == ["capacity_exceeded"]


def test_schemas_for_editors_name_every_key() -> None:
    """JSON Schema with the aliases operators write."""
    schemas = json_schemas()
    assert {"apiVersion", "kind", "class", "alerts", "ladder", "causes"} <= set(schemas["Playbook"]["properties"])
    assert {"evidence", "confirm", "would_disprove", "remedies"} <= set(schemas["Cause"]["required"])


# -------------------------------------------------------------------------------------------------- what is wrong

PROBLEMS = [
    ("cause", ("title: Too", "titel: Too"), (4, 1, "unknown key `titel`", "did you mean `title`?")),
    ("cause", ("metrics.waiting.max >= 5", "metrics.waitin.max >= 5"),
     (11, 11, "no signal is called `waitin`", "did you mean `metrics.waiting.max`?")),
    ("cause", ("metrics.running.pinned", "metrics.runing.pinned"),
     (18, 9, "no step captures the fact `metrics.runing.pinned`", "did you mean `metrics.running.pinned`?")),
    ("cause", ("confirm: [queue]", "confirm: [queu]"),
     (22, 11, "no evidence of this cause has the id `queu`", "did you mean `queue`?")),
    ("cause", ("confirm: [queue]", "confirm: [[queue, queu]]"),
     (22, 19, "no evidence of this cause has the id `queu`", "did you mean `queue`?")),
    ("cause", ("confirm: [queue]", "confirm: [[]]"), (22, 11, "`confirm`: must not be empty", "")),
    ("cause", ("[VLLMTTFTHigh]", "[VLLMTTFTHihg]"),
     (7, 12, "no rule defines the alert `VLLMTTFTHihg`", "did you mean `VLLMTTFTHigh`?")),
    ("cause", ("yes: +8 dB", "yes: lots"),
     (12, 10, "`yes`: `lots` is not decibans; write for example +8 dB or -3 dB", "")),
    ("cause", ("yes: +8 dB", "yes: +40 dB"),
     (12, 10, "`yes`: `+40 dB` is more than one piece of evidence may say; write +15 dB, the most there is", "")),
    ("cause", ("yes: +8 dB", "yes: 8"), (12, 10, "`yes`: `8` is not decibans; write +8 dB", "")),
    ("cause", (">= 5", ">= 5 %"),
     (11, 11, "`when`: `>=` needs a number, not `5 %`: write 5, the unit is the fact's own (or 0.05 where its unit is "
      "a share of 1)", "")),
    ("cause", ("prior: 0.2", "prior: 5%"), (6, 8, "`prior`: must be a number: write 0.05", "")),
    ("cause", ("says: Requests wait.", "says: it waits: long"),
     (5, 15, "not YAML: mapping values are not allowed here", "a `: ` inside a text: put the whole text in quotes")),
    ("cause", ("    group: queue\n", "\tgroup: queue\n"),
     (10, 1, "not YAML: while scanning for the next token, found character '\\t' that cannot start any token",
      "a tab stands here; indent with spaces")),
    ("cause", (">= 5", ">= five"), (11, 11, "`when`: `>=` needs a number, not `five`", "")),
    ("cause", ("metrics.waiting.max >= 5", "waiting high"),
     (11, 11, "`when`: `waiting high` is not `fact operator value`, for example `metrics.kv_usage.max >= 0.9`", "")),
    ("cause", ("    yes: 4.5 dB\n", ""),
     (15, 5, "`evidence`: `yes` and `no` are both 0: this evidence decides nothing", "")),
    ("cause", ("    tradeoff: cost\n", ""), (29, 5, "`tradeoff` is missing", "")),
    ("cause", ("  says: no queue\n", ""), (26, 3, "`says` is missing", "")),
    ("cause", ("id: full", "id: queue"), (15, 9, "evidence `queue` is given twice", "")),
    ("cause", ("title: Too much traffic", "title: 7"), (4, 8, "`title`: must be text: put it in quotes", "")),
    ("cause", ("responder/v1", "responder/v2"), (1, 13, "`apiVersion`: must be responder/v1", "")),
    ("cause", ("kind: Cause", "kind: Kause"), (2, 7, "`kind` must be Playbook, Cause or PlaybookTest", "")),
    ("playbook", ("class: high_ttft", "class: hihg_ttft"),
     (4, 8, "`hihg_ttft` is no class", "did you mean `high_ttft`?")),
    ("playbook", ("step: log_tail", "step: log_tial"),
     (10, 15, "there is no step `log_tial`", "did you mean `log_tail`?")),
    ("playbook", ("{lines: 100}", "{lnies: 100}"), (11, 16, "unknown key `lnies`", "did you mean `lines`?")),
    ("playbook", ("{lines: 100}", "{lines: many}"),
     (11, 23, "`lines`: must be a whole number", "")),
    ("playbook", ("alerts: [VLLMTTFTHigh]", "alerts: [VLLMTTFT]"),
     (6, 10, "no rule defines the alert `VLLMTTFT`", "did you mean `VLLMTTFTHigh`?")),
    ("playbook", ("rung: 1", "rung: 7"), (8, 11, "`rung`: must be at most 3", "")),
    ("playbook", ("capacity_exceeded: 0.3", "capacity_exceeded: 3"),
     (16, 22, "`capacity_exceeded`: must be at most 1", "")),
    ("rules", ("class: high_ttft", "class: hihg_ttft"),
     (12, 25, "`hihg_ttft` is no class", "did you mean `high_ttft`?")),
    ("rules", ("severity: critical", "severity: bad"),
     (12, 46, "`bad` is no severity", "one of info, warning, critical")),
    ("rules", ("for: 1m30s", "for: soon"),
     (10, 14, "`for`: `soon` is not a duration; write for example 15s or 1m30s", "")),
    ("rules", ("signal:waiting >= 1", "signal:wating >= 1"),
     (8, 1, "alert `VLLMTTFTHigh` compares `wating`, which no rule records", "did you mean `waiting`?")),
]  # fmt: skip


@pytest.mark.parametrize(("file", "change", "expected"), PROBLEMS, ids=lambda value: str(value)[:40])
def test_each_mistake_is_found_at_its_place(
    tmp_path: Path, file: str, change: tuple[str, str], expected: tuple[int, int, str, str]
) -> None:
    """One change, one problem: file, line, column, what is wrong, what was meant; no echo in other files."""
    text = {"rules": RULES, "cause": CAUSE, "playbook": PLAYBOOK}[file]
    assert change[0] in text
    _, problems = load(tmp_path, **{file: text.replace(*change)})
    assert said(problems) == [(f"{file}.yaml", *expected)]


def test_names_across_files(tmp_path: Path) -> None:
    """A cause nobody defines, one nobody lists, and one outside the canon."""
    _, problems = load(
        tmp_path,
        playbook=PLAYBOOK.replace("capacity_exceeded: 0.3", "capacity_exeeded: 0.3\n  kv_magic:"),
        cause=CAUSE.replace("id: capacity_exceeded", "id: kv_magic/mine"),
        other=CAUSE,
    )
    assert [(Path(p.file).stem, p.line, p.what) for p in problems] == [
        ("cause", 3, "`kv_magic` is no canonical cause"),
        ("cause", 3, "no playbook lists the cause `kv_magic/mine`, so it would never be considered"),
        ("other", 3, "no playbook lists the cause `capacity_exceeded`, so it would never be considered"),
        ("playbook", 16, "nobody defines the cause `capacity_exeeded`"),
        ("playbook", 17, "nobody defines the cause `kv_magic`"),
    ]


def test_twice_in_one_folder_is_a_mistake(tmp_path: Path) -> None:
    """Which of the two would hold is nobody's guess."""
    _, problems = load(tmp_path, second=CAUSE)
    first = tmp_path / "playbooks" / "cause.yaml"
    assert [p.what for p in problems] == [f"cause `capacity_exceeded` is defined twice, first in {first}:1"]


def test_all_problems_not_the_first(tmp_path: Path) -> None:
    """One run of the check is enough to repair a file."""
    wrong = (
        CAUSE.replace("title: Too", "titel: Too").replace("yes: 4.5", "yes: much").replace("tradeoff: cost", "cost: 1")
    )
    _, problems = load(tmp_path, cause=wrong, playbook=PLAYBOOK.replace("log_tail", "log"))
    assert [(Path(p.file).stem, p.line) for p in problems] == [
        ("cause", 4), ("cause", 20), ("cause", 29), ("cause", 31), ("playbook", 10),
    ]  # fmt: skip


def test_a_file_that_is_no_yaml_does_not_echo(tmp_path: Path) -> None:
    """Files are named after their cause: the playbook that lists it is not blamed as well."""
    load(tmp_path)
    (tmp_path / "playbooks" / "cause.yaml").unlink()
    (tmp_path / "playbooks" / "capacity_exceeded.yaml").write_text(CAUSE.replace("title: Too", "title: 'Too"))
    _, problems = load_content([tmp_path / "rules"], [tmp_path / "playbooks"], STEPS, FACTS)
    assert [p.what[:8] for p in problems] == ["not YAML"]


def test_problems_as_text_have_a_caret(tmp_path: Path) -> None:
    """The line, the place under it, and nothing a terminal would obey."""
    _, problems = load(tmp_path, cause=CAUSE.replace("title: Too", "titel: Too"))
    text = render(problems)
    assert "cause.yaml:4:1: unknown key `titel` (did you mean `title`?)\n" in text
    assert "    4 | titel: Too much traffic\n      | ^^^^^\n" in text
    assert to_objects(problems)[0]["instead"] == "did you mean `title`?"
    assert "\x1b" not in render([Problem(file="a\x1b[2J", line=1, column=1, what="b\x07", excerpt="c\x1b[0m")])


# ------------------------------------------------------------------------------------------------------ strict YAML


def test_scalars_are_those_of_yaml_1_2() -> None:
    """No surprises from an older YAML: Norway is a country and 22:22 a time."""
    text = "{a: NO, b: 22:22, c: on, d: 010, e: 1_000, f: 0x1F, g: 1e3, h: true, i: ~, j: '7', k: .inf, l: 2026-11-20}"
    source, problems = parse_yaml(text, "f")
    assert problems == ()
    assert source is not None
    assert source.root.plain() == {
        "a": "NO", "b": "22:22", "c": "on", "d": 10, "e": "1_000", "f": 31, "g": 1000.0, "h": True, "i": None,
        "j": "7", "k": ".inf", "l": "2026-11-20",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "column", "what"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "duplicate key `a`, first on line 1"),
        ("a: &x 1\n", 1, 4, "anchor `&x` is not allowed"),
        ("a: !!python/object:os.system 1\n", 1, 4, "tag `tag:yaml.org,2002:python/object:os.system` is not allowed"),
        ("a: {<<: {b: 1}}\n", 1, 5, "merge keys (`<<`) are not allowed"),
        ("? [a]\n: 1\n", 1, 3, "a key must be text"),
        ("a: 1\n---\nb: 2\n", 2, 1, "a second document"),
        ("", 0, 0, "is empty"),
        ("# only a comment\n", 0, 0, "is empty"),
        ("a: b: c\n", 1, 5, "not YAML: mapping values are not allowed here"),
        ("a: [1, 2\n", 2, 1, "not YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
        ("a: \x07\n", 1, 4, "not YAML: special characters are not allowed"),
        ("a:\n\t- 1\n", 2, 1,
         "not YAML: while scanning for the next token, found character '\\t' that cannot start any token"),
    ],
)  # fmt: skip
def test_what_strict_yaml_refuses(text: str, line: int, column: int, what: str) -> None:
    """With the place and without executing, resolving or merging anything."""
    _, problems = parse_yaml(text, "f")
    assert [(p.line, p.column, p.what) for p in problems] == [(line, column, what)]


BOMBS = {
    "aliases": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{b}: &{b} [" + ", ".join([f"*{a}"] * 9) + "]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "merges": "a: &a {x: 1}\n" + "".join(f"m{n}: &m{n} {{<<: [*a, *a, *a]}}\n" for n in range(200)),
    "brackets": "[" * 100_000,
    "braces": "{a: " * 50_000,
    "indents": "".join(f"{' ' * n}a:\n" for n in range(1000)),
    "items": "- a\n" * 200_000,
    "keys": "\n".join(f"k{n}: {n}" for n in range(60_000)),
    "duplicates": "a: 1\n" * 100_000,
    "words": "a: " + "x y " * 250_000,
    "quotes": 'a: "' + "\\n" * 500_000 + '"',
    "comments": "# x\n" * 200_000,
    "tags": "a: " + "!!python/object/apply:os.system ['x']\n",
    "tag chain": "a: !<" + "x" * 100_000 + "> 1\n",
    "spaces in a clause": CAUSE.replace("metrics.waiting.max >= 5", f"'a.b > x{' ' * 900_000}y'"),
    "long key": "? " + "x" * 500_000 + "\n: 1\n",
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_hostile_files_are_harmless(tmp_path: Path, name: str) -> None:
    """Refused, or read as the large scalar they are; without expansion, recursion or endless lists of problems."""
    file = tmp_path / "bomb.yaml"
    file.write_text(BOMBS[name])
    source, problems = read_yaml(file)
    assert problems or name in ("words", "quotes", "long key", "spaces in a clause")
    assert load_causes([file])[1]
    assert len(problems) <= 101
    assert all(len(p.what) <= 300 and len(p.excerpt) <= 200 for p in problems)
    assert source is None or len(repr(source.root.plain())) < 4 * MAX_BYTES


def test_large_binary_and_strange_files(tmp_path: Path) -> None:
    """Over 1 MiB, not UTF-8, a pipe, a folder, missing: a problem each, and no waiting for the pipe."""
    (tmp_path / "large.yaml").write_bytes(b"a" * (2 << 20))
    (tmp_path / "binary.yaml").write_bytes(b"a: 1\nb: \xff\xfe\n")
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    found = {name: read_yaml(tmp_path / f"{name}.yaml")[1][0] for name in ("large", "binary", "pipe", "folder", "none")}
    assert {name: problem.what for name, problem in found.items()} == {
        "large": "is larger than 1 MiB",
        "binary": "is not UTF-8 text",
        "pipe": "cannot be read: not a regular file",
        "folder": "cannot be read: Is a directory",
        "none": "cannot be read: No such file or directory",
    }
    assert found["binary"].line == 2


def test_a_mapping_for_the_configuration(tmp_path: Path) -> None:
    """Plain values, and where each stands; the nearest place for a path that is not there."""
    file = tmp_path / "c.yaml"
    file.write_text("targets:\n  - url: http://a\n    canary: false\n")
    plain, locate, problems = load_mapping(file)
    assert problems == ()
    assert plain == {"targets": [{"url": "http://a", "canary": False}]}
    assert locate(("targets", 0, "canary")) == (3, 13)
    assert locate(("targets", 0, "no_such")) == (2, 5)
    file.write_text("- a\n")
    assert [p.what for p in load_mapping(file)[2]] == ["must be a mapping of keys to values"]


@given(st.text(max_size=200))
def test_no_text_makes_the_reader_raise(text: str) -> None:
    """Whatever is in the file: a tree, problems, or both."""
    source, problems = parse_yaml(text, "f")
    assert source is not None or problems


written = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(10**15), 10**15), st.text(st.characters(codec="ascii"), max_size=8)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text("abcxyz", min_size=1, max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(written)
def test_what_json_says_is_what_is_read(value: object) -> None:
    """JSON is YAML 1.2: the tree's plain value is the value written."""
    import json

    source, problems = parse_yaml(json.dumps(value), "f")
    assert problems == ()
    assert source is not None
    assert source.root.plain() == value
