"""What did engineers say of our verdicts, and what does that tell about the next one?

A word about an incident comes over HTTP, from a button, or as a file in `opinions/` (the command line, which works
without a daemon); the newest word about an incident counts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog

from responder.case import Case, Kit
from responder.classes import UNKNOWN
from responder.fingerprint import Fingerprint, nearest, signs_of
from responder.folder import folder_of, write_atomic
from responder.model import Experience, Opinion, Record, Status

log = structlog.get_logger()
PAST_LOOKED_AT = 300
FINGERPRINT = "fingerprint.json"
NOTE_LENGTH = 1000


class NoSuchVerdict(ValueError):
    """There is nothing to judge; the message says why."""


def opinion_on(
    data_dir: Path, incident: str, *, right: bool, cause: str, who: str, note: str, now: float
) -> Opinion:  # fmt: skip
    """An engineer's word on what the last report of an incident named first. NoSuchVerdict in words."""
    try:
        report = folder_of(data_dir, incident).read_json("report.json")
        top = report["hypotheses"][0]
        target, books = report["incident"]["target"], tuple(report.get("playbooks", ()))
        named, status = str(top["cause"]), Status(top["status"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        raise NoSuchVerdict(
            f"no report of {incident!r} here: `responder incidents list` shows the ids there are"
        ) from None
    if not who.strip():
        raise NoSuchVerdict("say who says so")
    if right and cause and cause != named:
        raise NoSuchVerdict(f"the report named `{named}`: if it was `{cause}`, say --wrong --cause {cause}")
    if right and named == UNKNOWN and not cause:
        raise NoSuchVerdict("the report named no cause: say --wrong --cause CAUSE, or --right --cause unknown")
    return Opinion(
        incident=incident, target=target, named=named, status=status, playbooks=books, right=right,
        cause=cause.strip()[:120], who=who.strip()[:120], note=note.strip()[:NOTE_LENGTH], at=now,
    )  # fmt: skip


def leave(data_dir: Path, opinion: Opinion) -> Path:
    """Put a word where the daemon finds it."""
    path = data_dir / "opinions" / f"{folder_of(data_dir, opinion.incident).path.name}.json"
    write_atomic(path, opinion.model_dump_json().encode())
    return path


class Ledger:
    """All words, and what they tell."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.opinions: dict[str, Opinion] = {}
        kit.experience = self.experience
        kit.telemetry.opinions.read = lambda: tuple(self.opinions.values())

    async def take_in(self) -> None:
        """What is stored, and what lies in the folder."""
        self.opinions = {opinion.incident: opinion for opinion in await self.kit.store.opinions()}
        for path, opinion in await asyncio.to_thread(lambda: list(_left(self.kit.data_dir / "opinions"))):
            if opinion is not None:
                await self._keep(opinion)
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def judge(self, incident: str, right: bool, cause: str, who: str, note: str) -> dict[str, Any]:
        """One word, now. NoSuchVerdict in words."""
        opinion = await asyncio.to_thread(
            opinion_on, self.kit.data_dir, incident, right=right, cause=cause, who=who, note=note, now=self.kit.clock()
        )
        await self._keep(opinion)
        return opinion.model_dump(mode="json")

    async def press(self, incident: str, cause: str, right: bool, who: str, truth: str = "", note: str = "") -> str:
        """A button: '' when it counts, else why not. `truth` is what it was instead of `cause`."""
        try:
            opinion = await asyncio.to_thread(
                opinion_on, self.kit.data_dir, incident, right=right, cause=cause if right else truth, who=who,
                note=note, now=self.kit.clock(),
            )  # fmt: skip
        except NoSuchVerdict as error:
            return str(error)
        if opinion.named != cause:  # the button is of an older message: its word is about another cause
            return f"the report has changed: it names {opinion.named} now"
        await self._keep(opinion)
        return ""

    async def _keep(self, opinion: Opinion) -> None:
        await self.kit.store.save_opinion(opinion)
        self.opinions[opinion.incident] = opinion
        log.info("verdict.judged", incident=opinion.incident, cause=opinion.named, right=opinion.right, who=opinion.who)

    # ------------------------------------------------------------------------------------------- what it tells

    async def experience(self, case: Case) -> Experience:
        """What earlier incidents say about this one. What this one looks like is kept for later ones."""
        return await asyncio.to_thread(self._experience, case)

    def _experience(self, case: Case) -> Experience:
        if case.verdict is None:
            return Experience()
        top = case.verdict.hypotheses[0]
        now = Fingerprint(
            incident=case.incident.id, target=case.incident.target, at=case.incident.opened_at, named=top.cause,
            status=top.status, signs=signs_of(self.kit.content.causes, case.weighed),
        )  # fmt: skip
        case.folder.write(FINGERPRINT, now.model_dump_json().encode())
        near = nearest(now, self._past(now.incident), self.opinions)
        causes = [h.cause for h in case.verdict.hypotheses if h.cause != UNKNOWN]
        others = [o for o in self.opinions.values() if o.incident != now.incident]
        return Experience(records=tuple(record for cause in causes for record in _record(cause, others)), nearest=near)

    def _past(self, this: str) -> Iterator[Fingerprint]:
        """The newest incidents' fingerprints."""
        root = self.kit.data_dir / "incidents"
        paths = [path for path in root.glob(f"*/{FINGERPRINT}") if path.parent.name != this]
        for path in sorted(paths, key=lambda path: (-path.stat().st_mtime, path.parent.name))[:PAST_LOOKED_AT]:
            try:
                yield Fingerprint.model_validate_json(path.read_bytes())
            except (OSError, ValueError):
                log.warning("fingerprint.unreadable", file=str(path))


def _record(cause: str, opinions: list[Opinion]) -> Iterator[Record]:
    told = [o for o in opinions if o.named == cause]
    if told:
        yield Record(cause=cause, right=sum(o.right for o in told), told=len(told))


def _left(folder: Path) -> Iterator[tuple[Path, Opinion | None]]:
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            yield path, Opinion.model_validate(json.loads(path.read_bytes()))
        except OSError as error:  # no file left to open: it is a word all the same, and is read the next time
            log.warning("opinion.unreadable", file=str(path), reason=error.strerror)
        except ValueError:
            log.warning("opinion.unreadable", file=str(path))
            yield path, None
