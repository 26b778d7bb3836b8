"""What changed? The server as it is set up now, against itself when it was last well and against its siblings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ValidationError

from responder.capture.step import Brief, FactSpec, Fetched, Scene, Step
from responder.changes import Difference, History, Snapshot, apart, differences, restarted, words
from responder.model import Fact, Scalar
from responder.snapshot import SMI_TIMEOUT_S, TIMEOUT_S, take

NOW, HEALTHY, SIBLINGS = "now.json", "healthy.json", "siblings.json"
SNAPSHOT = "snapshot"
"""The name under which the daemon remembers a server's healthy set-ups."""


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """A snapshot now, and what is remembered of this server and the others."""
    now = await take(scene.target, scene.inventory, scene.http, scene.runner, scene.now)
    files = {NOW: now.model_dump_json(indent=1).encode()}
    remembered = scene.remembered.get(scene.target.name, {}).get(SNAPSHOT)
    if remembered is not None:
        files[HEALTHY] = remembered.encode()
    others = {
        sibling.name: json.loads(kept[SNAPSHOT])
        for sibling in scene.siblings
        if SNAPSHOT in (kept := scene.remembered.get(sibling.name, {}))
    }
    if others:
        files[SIBLINGS] = json.dumps(others, indent=1, sort_keys=True).encode()
    return Fetched(files)


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """What differs, since when, and in one line; unknown without a healthy time to compare with."""
    now, history = _snapshot(files.get(NOW)), _history(files.get(HEALTHY))
    if now is None:
        return

    def fact(name: str, value: Scalar, unit: str = "", says: str = "", at: float | None = None) -> Fact:
        when = now.at if at is None else at
        return Fact(name=f"changes.{name}", value=value, unit=unit, step="changes", file=NOW, at=when, says=says)

    yield fact("known", bool(history.stays))
    if now.started_at is not None:
        yield fact("start_before_onset_s", round(brief.onset_at - now.started_at, 1), "s", at=now.started_at)
    if history.stays:
        yield from _against_itself(fact, now, history, brief)
    siblings = _siblings(files.get(SIBLINGS))
    if siblings:
        found = apart(now, siblings)
        says = f"unlike its {len(siblings)} healthy siblings: {words(found)}" if found else ""
        yield fact("from_siblings", len(found), says=says)


def _against_itself(fact, now: Snapshot, history: History, brief: Brief) -> Iterator[Fact]:  # type: ignore[no-untyped-def]
    last = history.stays[-1]
    found = differences(last.snapshot, now)
    again = restarted(last.snapshot, now)
    yield fact("healthy_before_onset_s", round(brief.onset_at - last.until, 1), "s", at=last.until)
    yield fact("restarted", again)
    for kind in ("options", "version", "environment", "models", "ranks", "gpus"):
        mine = [one for one in found if one.kind == kind or (kind == "options" and one.kind == "cache")]
        yield fact(kind, len(mine) if _comparable(kind, last.snapshot, now) else None, says=words(mine))
    yield fact("count", len(found))
    began, what = _deploy(now, history, found)
    yield fact("deploy_before_onset_s", None if began is None else round(brief.onset_at - began, 1), "s", at=began)
    parts = [words(found)] if found else []
    if again and now.started_at is not None:
        parts.append(f"restarted {_away(brief.onset_at - now.started_at)} the onset")
    elif not found and began is not None:
        parts.append(f"{words(what)}, {_away(brief.onset_at - began)} the onset and healthy since then")
    yield fact("summary", "; ".join(parts), at=now.at)


def _comparable(kind: str, before: Snapshot, after: Snapshot) -> bool:
    if kind == "options" and before.cache is not None and after.cache is not None:
        return True
    return getattr(before, kind) is not None and getattr(after, kind) is not None


def _deploy(
    now: Snapshot, history: History, found: tuple[Difference, ...]
) -> tuple[float | None, tuple[Difference, ...]]:
    """When the set-up changed last, as far as that is known, and what of it."""
    if found:
        return now.started_at, found
    if len(history.stays) < 2:
        return None, ()
    before, after = history.stays[-2:]
    began = after.snapshot.started_at if restarted(before.snapshot, after.snapshot) else after.since
    return began, differences(before.snapshot, after.snapshot)


def _away(seconds: float) -> str:
    minutes = abs(seconds) / 60
    length = (
        f"{abs(seconds):.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    )
    return f"{length} {'before' if seconds >= 0 else 'after'}"


def _snapshot(raw: bytes | None) -> Snapshot | None:
    try:
        return Snapshot.model_validate_json(raw) if raw else None
    except ValidationError:
        return None


def _history(raw: bytes | None) -> History:
    try:
        return History.model_validate_json(raw) if raw else History()
    except ValidationError:
        return History()


def _siblings(raw: bytes | None) -> dict[str, Snapshot]:
    """The newest healthy set-up of each sibling."""
    try:
        rows = json.loads(raw) if raw else {}
        kept = {name: History.model_validate(row) for name, row in rows.items()}
    except (ValueError, AttributeError):
        return {}
    return {name: history.stays[-1].snapshot for name, history in kept.items() if history.stays}


STEP = Step(
    name="changes",
    rung=0,
    says="compares launch options, versions, environment names, models, ranks and GPUs with the last healthy time and "
    "with healthy siblings; asks /version, /v1/models and /metrics once",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("changes.known", "", "whether there is a healthy time to compare with"),
        FactSpec("changes.start_before_onset_s", "s", "how long before the onset the server was started"),
        FactSpec("changes.healthy_before_onset_s", "s", "how long before the onset it was last seen well"),
        FactSpec("changes.restarted", "", "whether it was started anew since it was last well"),
        FactSpec("changes.options", "", "launch options that differ"),
        FactSpec("changes.version", "", "whether vLLM's version differs"),
        FactSpec("changes.environment", "", "environment variables that differ"),
        FactSpec("changes.models", "", "whether it serves other models"),
        FactSpec("changes.ranks", "", "whether it has another number of worker processes"),
        FactSpec("changes.gpus", "", "GPUs whose name, driver, highest clock or power limit differs"),
        FactSpec("changes.count", "", "how many things differ"),
        FactSpec("changes.deploy_before_onset_s", "s", "how long before the onset its set-up changed last"),
        FactSpec("changes.from_siblings", "", "options in which it differs from its healthy siblings"),
        FactSpec("changes.summary", "", "what changed, in one line"),
    ),
    timeout_s=max(TIMEOUT_S, SMI_TIMEOUT_S) + 2,
    max_bytes=1 << 20,
    needs=("a healthy time before the incident", "same host, ssh or pod for launch options"),
)
