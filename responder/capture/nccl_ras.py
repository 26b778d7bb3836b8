"""What does NCCL itself say about its ranks (RAS service, NCCL 2.24 and later)?

Every rank listens on the same port, and the kernel gives a connection to any one of them: a stopped rank accepts and
never answers (measured on two H200s: about half of the connections), a living one tells after 1.3 s who is missing. So
several connections are opened side by side and the first answer counts; that some or all are silent is evidence too.

RAS counts collectives while they are being launched, so ranks of a busy healthy server differ for moments (seen on two
H200s). A mismatch is therefore looked at twice, and a rank is only named when its count stood still in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Outcome, Scalar

STATUS, AGAIN, META = "ras.txt", "ras_again.txt", "ras.json"
DEFAULT = "localhost:28028"
QUESTION = b"timeout 2\nverbose status\n"
"""RAS's own patience with a silent rank, below our deadline: so a living rank has time to tell who is missing."""
DEADLINE_S = 5.0
CONNECTIONS = 8
"""With one of two ranks stopped, one time in 256 all of them reach the stopped one."""
OTHERS_S = 0.5
"""How long the others may still answer after the first: a living rank answers all at about the same time."""
MAX_BYTES = 1 << 20
LOOK_AGAIN_S = 1.0
"""Between two looks at a mismatch; a decoding server launches hundreds of collectives in that time."""


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Ask the RAS service on this host's loopback."""
    inventory = scene.inventory
    if inventory is None or not inventory.local:
        return skipped("NCCL's RAS service listens on the loopback of the server's own host: run a responder there")
    if inventory.environment.get("NCCL_RAS_ENABLE") == "0":
        return skipped("NCCL's RAS service is switched off (NCCL_RAS_ENABLE=0)")
    host, port = address(inventory.environment.get("NCCL_RAS_ADDR", DEFAULT))
    began = time.monotonic()
    replies = await _ask_side_by_side(host, port)
    answered = [reply for reply in replies if reply.complete]
    meta = {
        "address": f"{host}:{port}",
        "listening": any(reply.connected for reply in replies),
        "answered": len(answered),
        "asked": len(replies),
        "seconds": round(min((r.seconds for r in answered), default=time.monotonic() - began), 4),
        "error": next((reply.error for reply in replies if reply.error), ""),
    }
    best = max(replies, key=lambda reply: (reply.complete, len(reply.text)))
    files = {META: json.dumps(meta, indent=1, sort_keys=True).encode()}
    if best.text:
        files[STATUS] = best.text
    if not meta["listening"]:
        why = f"nothing answers on {host}:{port} ({meta['error']}): NCCL 2.24 or later with more than one GPU has it"
        return Fetched(files, Outcome.SKIPPED, why)
    if not answered:
        return Fetched(files, Outcome.PARTIAL, f"connected, but no answer within {DEADLINE_S:g} s")
    if _mismatch(best.text.decode("utf-8", "replace")):
        await asyncio.sleep(LOOK_AGAIN_S)
        second = max(await _ask_side_by_side(host, port), key=lambda reply: (reply.complete, len(reply.text)))
        if second.text:
            files[AGAIN] = second.text
        if not second.complete:
            return Fetched(files, Outcome.PARTIAL, "ranks differed, and the second look was not answered")
    return Fetched(files)


def address(text: str) -> tuple[str, int]:
    """'host:port', '[::1]:port' or ':port' -> (host, port)."""
    host, _, port = text.strip().rpartition(":")
    return host.strip("[]") or "localhost", int(port) if port.isdigit() else 28028


@dataclass(frozen=True)
class _Reply:
    connected: bool
    complete: bool
    text: bytes
    seconds: float
    error: str = ""


async def _ask_side_by_side(host: str, port: int) -> list[_Reply]:
    """What every connection brought; when one has the answer the others get a moment more."""
    asking = [asyncio.ensure_future(_ask(host, port)) for _ in range(CONNECTIONS)]
    try:
        for one in asyncio.as_completed(asking):
            if (await one).complete:
                await asyncio.wait(asking, timeout=OTHERS_S)
                break
    finally:
        for one in asking:
            one.cancel()
        await asyncio.wait(asking)
    return [one.result() for one in asking]


async def _ask(host: str, port: int) -> _Reply:
    began = time.monotonic()
    text, connected, error = b"", False, ""
    try:
        async with asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_connection(host, port)
            connected = True
            try:
                writer.write(QUESTION)
                await writer.drain()
                while len(text) < MAX_BYTES and (part := await reader.read(1 << 16)):
                    text += part
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        error = "timed out"
    except asyncio.CancelledError:  # cut off by ourselves: another connection has the answer
        error = "no answer"
    except OSError as refused:
        error = refused.strerror or type(refused).__name__
    complete = b"Warnings" in text or (b"Errors" in text and not error)
    return _Reply(connected, complete, text, time.monotonic() - began, error)


# ------------------------------------------------------------------------------------------------------ reading

ROW = re.compile(r"^\s*(\d+)\s+(\d+)\s+(\d+)\s+([\d-]+)\s+(\d+)\s+(\d+)\s+(\w+)\s+(\w+)\s*$", re.MULTILINE)
MISSING = re.compile(r"Missing communicator data from (\d+) ranks?")
MISSING_PROCESSES = re.compile(r"Missing communicator data from (\d+) job process")
DEAD = re.compile(r"(\d+) job process(?:es are| is) considered dead")
WHO = re.compile(r"^\s*((?:Rank \d+|Process \d+|The missing ranks?).*)$", re.MULTILINE)
GROUP = re.compile(r"^#\d+-\d+ .*$", re.MULTILINE)
KIND = re.compile(r"^\s*Communicator ranks have different (.*)$")
COUNT = re.compile(r"^\s*(\d+ ranks?|Rank \d+) (?:has|have) launched up to operation (\d+)(?: -- (.*))?$")
NAMED = re.compile(r"^\s*(Rank \d+) -- (.*)$")


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """Facts of the status text; that there is none is a fact too."""
    if META not in files:
        return
    meta = json.loads(files[META])

    def fact(name: str, value: Scalar, unit: str = "", says: str = "", file: str = STATUS) -> Fact:
        return Fact(name=f"ras.{name}", value=value, unit=unit, step="nccl_ras", file=file, at=brief.now, says=says)

    yield fact("listening", meta["listening"], file=META)
    if not meta["listening"]:
        return
    says = f"{meta['answered']} of {meta['asked']} connections were answered"
    yield fact("answered", meta["answered"] > 0, says=says, file=META)
    yield fact("seconds", meta["seconds"], "s", file=META)
    text = files.get(STATUS, b"").decode("utf-8", "replace")
    rows = ROW.findall(text)
    if not rows:
        return
    yield fact("communicators", sum(int(row[1]) for row in rows), "communicators")
    missing = sum(map(int, MISSING.findall(text))) or max(
        sum(map(int, MISSING_PROCESSES.findall(text))), sum(map(int, DEAD.findall(text)))
    )
    who = "; ".join(dict.fromkeys(line.strip() for line in WHO.findall(text)))[:500]
    yield fact("missing_ranks", missing, "ranks", who if missing else "")
    again = files.get(AGAIN, b"").decode("utf-8", "replace")
    mismatch, behind = _told_twice(text, again)
    says = "ranks have launched different numbers of collectives, and stand still" if mismatch else ""
    if mismatch is None:
        says = "ranks differed in one look; a busy server's do for moments"
    yield fact("mismatch", mismatch, says="; ".join(filter(None, (says, behind))))
    first = behind or (who.split("; ")[-1] if missing else "")
    yield fact("first_diverging_rank", None if mismatch is None and not first else first[:200])
    states = sorted({f"{row[6]} {row[7]}" for row in rows})
    yield fact("summary", "; ".join(states) + (f"; missing: {who}" if missing and who else ""))


def _mismatch(text: str) -> bool:
    """Whether this look says that ranks have launched different numbers of collectives."""
    return any(row[7] == "MISMATCH" for row in ROW.findall(text)) or bool(
        re.search(r"^#\d+-\d+ .*MISMATCH", text, re.MULTILINE)
    )


def _told_twice(text: str, again: str) -> tuple[bool | None, str]:
    """(ranks are apart and stay so; None: seen once only, the rank that is furthest behind in words)."""
    if not _mismatch(text):
        return False, ""
    if not ROW.findall(again):
        return None, ""
    if not _mismatch(again):
        return False, ""
    one, two = counts(text), counts(again)
    if not one and not two:  # another NCCL's wording: two looks that agree are all there is
        return True, ""
    gaps = []
    for group, ranks in two.items():
        who = min(ranks, key=lambda rank: (ranks[rank], rank))
        gap = max(ranks.values()) - ranks[who]
        if gap and one.get(group, {}).get(who) == ranks[who]:
            gaps.append((gap, who))
    if not gaps:
        return False, ""
    gap, who = max(gaps)
    return True, f"{who}: {gap} collectives behind the others"


def counts(text: str) -> dict[str, dict[str, int]]:
    """Communicator and kind of collective -> rank in words ('26 ranks' where RAS does not name them) -> how many."""
    found: dict[str, dict[str, int]] = {}
    group, key, last, unnamed = "", "", 0, ""
    for line in text.splitlines():
        if GROUP.match(line):
            group = key = line.strip()
        elif kind := KIND.match(line):
            key = f"{group} {kind[1]}"
        elif told := COUNT.match(line):
            last, unnamed = int(told[2]), "" if told[1].startswith("Rank") else told[1]
            found.setdefault(key, {})[" -- ".join(filter(None, (told[1], told[3])))] = last
        elif (named := NAMED.match(line)) and key in found:
            found[key].pop(unnamed, None)  # the ranks of the line above, one by one
            found[key][f"{named[1]} -- {named[2]}"] = last
    return found


STEP = Step(
    name="nccl_ras",
    rung=0,
    says="asks NCCL's own monitoring thread which ranks answer; GPU work is not touched",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("ras.listening", "", "whether the RAS service accepts connections"),
        FactSpec("ras.answered", "", "whether it answered in time; silence speaks of a stopped process"),
        FactSpec("ras.seconds", "s", "time to the fastest answer (healthy: milliseconds), or that we waited"),
        FactSpec("ras.communicators", "communicators", "communicators known"),
        FactSpec("ras.missing_ranks", "ranks", "ranks that give no data"),
        FactSpec(
            "ras.mismatch", "", "ranks have launched different numbers of collectives, in two looks, and stand still"
        ),
        FactSpec("ras.first_diverging_rank", "", "the rank that gives no data or launched fewest; empty: none"),
        FactSpec("ras.summary", "", "status and errors of all communicators"),
    ),
    timeout_s=2 * DEADLINE_S + LOOK_AGAIN_S + 3,
    max_bytes=2 * MAX_BYTES + (1 << 16),
    needs=("same host", "NCCL 2.24 or later, more than one GPU"),
)
