"""How is one capture step run? Fetch under a deadline, redact, store, read: every ending is evidence."""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from responder.capture.step import Brief, Fetched, Scene, Step
from responder.folder import IncidentFolder, safe_name
from responder.killpoint import reach
from responder.model import Evidence, Fact, Outcome, StepCall
from responder.redact import scrub
from responder.validation import in_words

MAX_INSIDE = 256 << 20
CUT = b"\n[cut by responder: the file was larger than this step's cap]\n"


@dataclass(frozen=True)
class Collected:
    """One step's evidence and what redaction replaced, by kind."""

    evidence: Evidence
    hashes: Mapping[str, str]
    redactions: Mapping[str, int]


async def collect(
    step: Step,
    call: StepCall,
    scene: Scene,
    brief: Brief,
    folder: IncidentFolder,
    *,
    evidence_id: str,
    secrets: Iterable[str],
    clock: Callable[[], float] = time.time,
) -> Collected:
    """Run one step to its end. Never raises for anything the world does; CancelledError passes through."""
    started, mono = clock(), time.monotonic()
    try:
        params = step.params.model_validate(call.params)
        async with asyncio.timeout(step.timeout_s):
            fetched = await step.fetch(scene, params)
    except TimeoutError:
        fetched = Fetched(outcome=Outcome.TIMED_OUT, reason=f"no end after {step.timeout_s:g} s")
    except ValidationError as error:
        fetched = Fetched(outcome=Outcome.FAILED, reason=_refused(error))
    except Exception as error:  # we meet the outside here: whatever a fetch meets is evidence, not our end
        fetched = Fetched(outcome=Outcome.FAILED, reason=f"{type(error).__name__}: {error}"[:500])
    seconds = time.monotonic() - mono
    reach("step.effect")
    files, redactions, cut = await asyncio.to_thread(_clean, fetched.files, tuple(secrets), step.max_bytes)
    hashes = await asyncio.to_thread(folder.write_raw, evidence_id, files)
    outcome, reason = fetched.outcome, fetched.reason
    if cut and outcome is Outcome.OK:
        outcome, reason = Outcome.PARTIAL, f"cut at {step.max_bytes} bytes"
    facts, complaint = await asyncio.to_thread(read_facts, step, files, brief)
    if complaint and outcome in (Outcome.OK, Outcome.PARTIAL):
        outcome, reason = Outcome.PARTIAL, complaint
    evidence = Evidence(
        id=evidence_id,
        step=step.name,
        rung=step.rung,
        outcome=outcome,
        reason=scrub(reason.encode(), secrets)[0].decode(errors="replace"),
        started_at=started,
        seconds=round(seconds, 3),
        pause_seconds=fetched.pause_seconds,
        bytes=sum(len(data) for data in files.values()),
        files=tuple(sorted(hashes)),
        params=dict(call.params),
        facts=facts,
    )
    return Collected(evidence, hashes, redactions)


def read_facts(step: Step, files: Mapping[str, bytes], brief: Brief) -> tuple[tuple[Fact, ...], str]:
    """The facts of stored bytes, and a complaint when reading broke; the same for live running and replay."""
    if not files:
        return (), ""
    try:
        facts = tuple(step.read(files, brief))
    except Exception as error:  # bytes from the world may break any reader; that too is a row of the report
        return (), f"could not be read: {type(error).__name__}: {error}"[:500]
    return tuple(_of_its_moment(fact, step) for fact in facts), ""


def _of_its_moment(fact: Fact, step: Step) -> Fact:
    momentary = "*" in step.momentary or fact.name in step.momentary
    return fact.model_copy(update={"momentary": True}) if momentary else fact


def _refused(error: ValidationError) -> str:
    """Which parameters are wrong, by name."""
    found = [f"`{'.'.join(map(str, one['loc'])) or 'all'}`: {in_words(one)}"
             for one in error.errors(include_url=False)[:3]]  # fmt: skip
    return f"its parameters are wrong: {'; '.join(found)}"[:500]


def _clean(
    files: Mapping[str, bytes], secrets: tuple[str, ...], max_bytes: int
) -> tuple[dict[str, bytes], dict[str, int], bool]:
    out: dict[str, bytes] = {}
    counts: dict[str, int] = {}
    left, cut = max_bytes, False
    for name, data in files.items():
        if len(data) > left:
            data, cut = data[: max(left, 0)] + CUT, True
        left -= len(data)
        clean, found = _scrub(data, secrets)
        for kind, count in found.items():
            counts[kind] = counts.get(kind, 0) + count
        out[safe_name(name)] = clean
    return out, counts, cut


def _scrub(data: bytes, secrets: tuple[str, ...]) -> tuple[bytes, dict[str, int]]:
    """Secrets hide in compressed files, too; and scrubbing compressed bytes would only break them."""
    if data[:2] != b"\x1f\x8b":
        return scrub(data, secrets)
    try:
        stream = zlib.decompressobj(31)
        inside = stream.decompress(data, MAX_INSIDE)
    except zlib.error:
        return b"", {"unreadable": 1}
    if not stream.eof:  # cut, or too large to look into: what cannot be cleaned is not kept
        return b"", {"unreadable": 1}
    clean, found = scrub(inside, secrets)
    return (data if clean == inside else gzip.compress(clean, mtime=0)), found


def numbered(step: str, taken: Iterable[str]) -> str:
    """An evidence id for the next run of a step: stacks, stacks-2, stacks-3 ..."""
    last = max((_run(step, name) for name in taken), default=0)
    return step if last == 0 else f"{step}-{last + 1}"


def _run(step: str, name: str) -> int:
    """Which run of a step an evidence id is, from 1 on; 0: it is another step's. Earlier ones may have been dropped."""
    number = name.removeprefix(f"{step}-")
    return 1 if name == step else int(number) if number != name and number.isdigit() else 0
