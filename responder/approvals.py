"""Who allowed what, until when? Questions and answers as files, so that they survive us and need no server.

`DATA_DIR/approvals/<incident>.<step>.json` holds the question; the answer is written beside it by the command line or
by the daemon's HTTP. An answer counts only before the expiry; nobody's answer means: skipped, and said so.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from responder.folder import safe_name, write_atomic
from responder.model import Approval


class ApprovalRefused(ValueError):
    """The answer cannot count; the message says why."""


class Approvals:
    """Questions to people about captures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ask(self, item: Approval) -> Approval:
        """Put the question, or go on with the one that was put before a restart."""
        known = self.of(item.incident, item.step)
        if known is not None:
            return known
        write_atomic(self._path(item.incident, item.step), item.model_dump_json().encode())
        return item

    def of(self, incident: str, step: str) -> Approval | None:
        """The question as it stands, with its answer; None when it was never put."""
        path = self._path(incident, step)
        for source in (path.with_suffix(".answer"), path):
            try:
                return Approval.model_validate_json(source.read_bytes())
            except (OSError, ValueError):
                continue
        return None

    def decide(self, incident: str, step: str, *, approve: bool, who: str, now: float) -> Approval:
        """Answer. ApprovalRefused when nothing is asked, it is too late, or somebody was faster."""
        item = self.of(incident, step)
        if item is None:
            raise ApprovalRefused(f"nobody asks for {step} in incident {incident}")
        if item.decision != "pending":
            raise ApprovalRefused(f"{step} was {item.decision} already" + (f" by {item.who}" if item.who else ""))
        if not who.strip():
            raise ApprovalRefused("say who decides")
        if now >= item.expires_at:
            raise ApprovalRefused(f"the question about {step} has expired")
        return self._answer(item, "approved" if approve else "denied", who.strip()[:80], now)

    def expire(self, item: Approval, now: float) -> Approval:
        """Nobody has answered in time."""
        return self._answer(item, "expired", "", now)

    def pending(self) -> tuple[Approval, ...]:
        """Open questions, oldest first."""
        found = [self.of(*path.stem.rsplit(".", 1)) for path in self.folder.glob("*.json")]
        return tuple(sorted((i for i in found if i and i.decision == "pending"), key=lambda i: i.asked_at))

    def forget(self, before: float, keep: Collection[str]) -> None:
        """Remove what was asked and answered before then (unix seconds), but of the incidents in `keep`."""
        kept = {safe_name(name) for name in keep}
        for path in [p for p in self.folder.glob("*.*") if p.suffix in (".json", ".answer")]:
            if path.stem.rpartition(".")[0] not in kept and path.stat().st_mtime < before:
                path.unlink(missing_ok=True)

    def _answer(self, item: Approval, decision: str, who: str, now: float) -> Approval:
        item = item.model_copy(update={"decision": decision, "who": who, "decided_at": now})
        write_atomic(self._path(item.incident, item.step).with_suffix(".answer"), item.model_dump_json().encode())
        return item

    def _path(self, incident: str, step: str) -> Path:
        return self.folder / f"{safe_name(incident)}.{safe_name(step)}.json"
