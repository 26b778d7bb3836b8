"""Is every malformed or hostile configuration refused, quickly, with its place?  python -m bench.hostile_configs [N]

Seeded mutations of a right configuration: misspelt and doubled keys, wrong types, cut text, foreign bytes, bombs, deep
nesting, tags, huge values. Each is read as `responder run` and a reload read it. Printed: how many were refused, the
slowest, and every one that was taken although it should not have been.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import machine
from responder.capture import STEPS
from responder.cli import configured
from responder.content import ContentRefused, check
from responder.model import Problem

GOOD = """\
apiVersion: responder/v1
targets:
  - url: http://127.0.0.1:8000
    thresholds: {VLLMTTFTHigh: 2.5}
    labels: {team: search}
receivers:
  hook: {kind: webhook, url: "https://example.org/hook"}
capture:
  max_rung: 1
  pause: 4s
retention: {age: 30d, size: 5GiB}
overrides:
  alerts:
    VLLMQueueGrowing: {threshold: 20, for: 1m}
hold_down: 30s
"""
LIMIT_S = 1.0
Maker = Callable[[random.Random], bytes]


def _line(draw: random.Random, keep: Callable[[str], bool] = lambda _: True) -> int:
    return draw.choice([n for n, line in enumerate(GOOD.splitlines()) if keep(line)])


def _with(number: int, text: str) -> bytes:
    lines = GOOD.splitlines()
    lines[number] = text
    return ("\n".join(lines) + "\n").encode()


def misspelt(draw: random.Random) -> bytes:
    """A key with a letter more."""
    number = _line(
        draw, lambda line: line.rstrip().endswith(":") or ": " in line and not line.startswith((" " * 4, "  hook"))
    )
    line = GOOD.splitlines()[number]
    key = line.split(":")[0]
    at = draw.randrange(len(key) - len(key.lstrip()) + 1, len(key) + 1)
    return _with(number, f"{key[:at]}q{key[at:]}:{line.split(':', 1)[1]}".replace("- q", "- uq"))


def unknown(draw: random.Random) -> bytes:
    """A key nobody knows."""
    return GOOD.encode() + f"{draw.choice('abcdefgh')}xq{draw.randrange(1000)}: 1\n".encode()


def doubled(draw: random.Random) -> bytes:
    """The same key twice."""
    line = draw.choice([line for line in GOOD.splitlines() if line and not line.startswith((" ", "-"))])
    return GOOD.encode() + line.split(":")[0].encode() + b": {}\n"


def wrong_type(draw: random.Random) -> bytes:
    """A value that cannot be what it must be."""
    wrong = draw.choice(["[[]]", '"x y"', "-1", "{a: {b: c}}", "soon"])
    return GOOD.replace(draw.choice(["30s\n", "4s\n", "5GiB}", "20, ", "2.5}"]), f"{wrong}\n").encode()


def not_text(draw: random.Random) -> bytes:
    """Bytes that are no UTF-8, or control characters."""
    at = draw.randrange(len(GOOD))
    return GOOD.encode()[:at] + draw.choice([b"\xff\xfe", b"\x00", b"\x1b[31m", b"\xc3\x28"]) + GOOD.encode()[at:]


def bomb(draw: random.Random) -> bytes:
    """Aliases and merge keys that would grow without end."""
    depth = draw.randrange(5, 30)
    rows = ["a0: &a0 [x,x,x,x,x,x,x,x,x]", *(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, depth))]
    return ("\n".join(rows) + "\n").encode()


def deep(draw: random.Random) -> bytes:
    """Nesting without end."""
    return GOOD.encode() + b"targets: " + draw.choice([b"[", b"{a: ", b"- "]) * draw.randrange(100, 60_000)


def tagged(draw: random.Random) -> bytes:
    """Objects of a programming language."""
    what = draw.choice(["!!python/object/apply:os.system ['id']", "!!python/name:os.system", "!x {}", "!!binary aGk="])
    return GOOD.replace("hold_down: 30s", f"hold_down: {what}").encode()


def huge(draw: random.Random) -> bytes:
    """More than anybody writes."""
    return GOOD.encode() + b"redact: [" + b"a, " * draw.randrange(30_000, 600_000) + b"a]\n"


def bad_url(draw: random.Random) -> bytes:
    """URLs that are none, or carry secrets or other schemes."""
    urls = [
        "ftp://x",
        "http://",
        "http://u:p@h:8000",
        "file:///etc/passwd",
        "javascript:1",
        "http://h:99999",
        "http://[::1",
    ]
    return GOOD.replace("http://127.0.0.1:8000", draw.choice(urls)).encode()


def no_such_name(draw: random.Random) -> bytes:
    """Alerts nobody defines."""
    where = draw.choice(["VLLMTTFTHigh: 2.5", "VLLMQueueGrowing: {threshold"])
    return GOOD.replace(where, "X" + where).encode()


MAKERS: tuple[Maker, ...] = (
    misspelt, unknown, doubled, wrong_type, not_text, bomb, deep, tagged, huge, bad_url, no_such_name
)  # fmt: skip


def cases(count: int, seed: int = 7) -> Iterator[tuple[str, bytes]]:
    """(kind, file) each; the same for the same seed."""
    draw = random.Random(seed)
    for number in range(count):
        maker = MAKERS[number % len(MAKERS)]
        yield maker.__name__, maker(draw)


def problems_of(raw: bytes, file: Path) -> tuple[Problem, ...]:
    """What an operator is told of this configuration; nothing when it is taken."""
    file.write_bytes(raw)
    try:
        _, found = check(configured(file, {}), STEPS)
    except ContentRefused as error:
        return error.problems
    return found


def main(count: int) -> int:
    """Print the figures; 1 when a bad configuration was taken or took too long."""
    print(machine.describe())
    taken, placeless, slowest = [], [], (0.0, "")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "responder.yaml"
        assert problems_of(GOOD.encode(), file) == (), "the configuration that is mutated is wrong itself"
        for number, (kind, raw) in enumerate(cases(count)):
            began = time.process_time()
            found = problems_of(raw, file)
            slowest = max(slowest, (time.process_time() - began, f"{kind} #{number}"))
            if not found:
                taken.append(f"{kind} #{number}")
            elif not any(p.line or p.file == "configuration" or "larger" in p.what for p in found):
                placeless.append(f"{kind} #{number}: {found[0].what}")
    print(f"{count - len(taken)} of {count} refused, slowest {slowest[0]:.2f} s of CPU ({slowest[1]})")
    for what, rows in (("taken although wrong", taken), ("refused without a place", placeless)):
        for row in rows[:20]:
            print(f"  {what}: {row}")
    return int(bool(taken or placeless or slowest[0] > LIMIT_S))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
