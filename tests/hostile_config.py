"""Configurations that must be refused: malformed and hostile ones, any number of them, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

import yaml

from tests.hostile import HOSTILE

GOOD = """\
apiVersion: responder/v1
prometheus:
  url: http://127.0.0.1:9090
  timeout: 4s
targets:
  - url: http://gpu-1:8000
    name: gpu-1
    canary: true
    thresholds: {VLLMTTFTHigh: 2.5}
    capture: {max_rung: 1, pause: 2s}
  - url: http://gpu-2:8000
http:
  listen: 127.0.0.1:9119
capture:
  max_rung: 2
  heavy_per_hour: 3
retention: {age: 30d, size: 5GiB}
language: en
hold_down: 30s
"""
PLACES = (
    "prometheus: {url: X}", "prometheus: {timeout: X}", "targets: [{url: X}]", "targets: X",
    "targets: [{url: 'http://a:1', canary: X}]", "targets: [{url: 'http://a:1', thresholds: {A: X}}]",
    "http: {listen: X}", "http: X", "capture: {max_rung: X}", "capture: {heavy_per_hour: X}", "retention: {size: X}",
    "retention: {age: X}", "hold_down: X", "evaluation_interval: X", "language: X", "silences: [X]",
    "requests: {keep: X}", "apiVersion: X", "canaries: {interval: X}",
)  # fmt: skip
VALUES = (
    "[]", "{a: 1}", "-1s", "5 parsecs", "'http://'", "ftp://a", "'http://u:p@h'", "1e999", "-7", "'0x'", "'0s'", "''",
    "9" * 400, "9" * 200_000, "NaN", "[[1]]", "{}",
)  # fmt: skip
"""None of them may stand in any of the places above."""
BOMBS = (
    "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n",
    "x: !!python/object/apply:os.system [id]\n",
    "x: !!binary aGVsbG8=\n", "<<: {a: 1}\n", "[" * 100_000, "{a: " * 50_000, "x: " + "y" * 3_000_000, "- a\n- b\n",
    "a: 1\n---\nb: 2\n", "just words\n", "x: \x00\n", "\tx: 1\n", "x: {a: 1\n", "x: 'never ends\n", "x: [1, 2\ny: 3\n",
    "? [complex, key]\n: value\n", "*nobody\n", "x: %bad\n@: 1\n", "&a x: 1\n", "1: 2\n", "%YAML 9.9\n---\nx: 1\n",
    "targets: [{url: 'http://a:1'}, {url: 'http://a:1'}]\n", "http: {listen: '0.0.0.0:9119'}\n",
)  # fmt: skip


def configurations(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """(what is wrong with it, the file's bytes)."""
    dice = random.Random(seed)
    kinds = (_unknown_key, _twice, _wrong_value, _bomb, _not_text, _torn)
    for index in range(count):
        yield kinds[index % len(kinds)](dice)


def _unknown_key(dice: random.Random) -> tuple[str, bytes]:
    name = dice.choice(("tagets", "promteheus", "htpp", "x", "__proto__", *HOSTILE))
    where = dice.choice((GOOD, "", "hold_down: 30s\n"))
    key = yaml.safe_dump({name: 1}, width=10**9)
    return "unknown key", (where + key).encode()


def _twice(dice: random.Random) -> tuple[str, bytes]:
    line = dice.choice([line for line in GOOD.splitlines() if ":" in line and line[0] not in " -"])
    return "a key twice", (GOOD + line.partition(":")[0] + ": {}\n").encode()


def _wrong_value(dice: random.Random) -> tuple[str, bytes]:
    place, value = dice.choice(PLACES), dice.choice(VALUES)
    while (place, value) in FITS or place.partition(":")[0] in MAPS and value == "{}":
        place, value = dice.choice(PLACES), dice.choice(VALUES)
    return f"{place} with {value[:20]}", (place.replace("X", value) + "\n").encode()


FITS = {("targets: X", "[]"), ("targets: [{url: 'http://a:1', thresholds: {A: X}}]", "-7")}
"""What may stand there after all."""
MAPS = {"http", "retention"}


def _bomb(dice: random.Random) -> tuple[str, bytes]:
    bomb = dice.choice(BOMBS)
    return f"bomb {bomb[:20]!r}", bomb.encode()


def _not_text(dice: random.Random) -> tuple[str, bytes]:
    at = dice.randrange(20, len(GOOD) - 20)
    bad = dice.choice((b"\xff\xfe", b"\x00", b"\xc3\x28", b"\x1b[31m", b"\xed\xa0\x80"))
    return "not text", GOOD[:at].encode() + bad + GOOD[at:].encode()


def _torn(dice: random.Random) -> tuple[str, bytes]:
    at = dice.choice([index for index, sign in enumerate(GOOD) if sign in "{["])
    return "torn", GOOD[: at + dice.randint(1, 8)].encode()
