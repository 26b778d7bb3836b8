"""What does a press of a button mean? The message carries an opaque id; the meaning lies on our disk.

`DATA_DIR/buttons/<token>.json` holds the buttons of one incident, `<token>.<name>` is a button's id. A token says
nothing about its incident to anybody without the key beside it, and an id nobody was given leads nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Collection, Iterable
from pathlib import Path

from responder.folder import write_atomic
from responder.model import Button

ID = re.compile(r"([0-9a-f]{16})\.([0-9a-z]{1,16})")


class Buttons:
    """The buttons that were shown."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def offer(self, incident: str, wanted: Iterable[Button]) -> tuple[Button, ...]:
        """The same buttons with their ids, remembered; a button shown again keeps its id. OSError as open() raises."""
        token = self._token(incident)
        known = self._read(token)
        shown = []
        for button in wanted:
            bare = button.model_copy(update={"id": "", "until": 0.0, "what": ""})
            name = hashlib.sha256(bare.model_dump_json().encode()).hexdigest()[:12]
            shown.append(button.model_copy(update={"id": f"{token}.{name}"}))
            known[name] = shown[-1].model_dump(mode="json")
        if shown:
            write_atomic(self.folder / f"{token}.json", json.dumps(known).encode())
        return tuple(shown)

    def meant(self, button_id: str) -> Button | None:
        """The button with this id; None for an id nobody was given."""
        got = ID.fullmatch(button_id)
        row = self._read(got[1]).get(got[2]) if got else None
        return Button.model_validate(row) if row else None

    def forget(self, before: float, keep: Collection[str]) -> None:
        """Remove what was last shown before then (unix seconds), but of the incidents in `keep`."""
        kept = {self._token(name) for name in keep}
        for path in self.folder.glob("*.json"):
            if path.stem not in kept and path.stat().st_mtime < before:
                path.unlink(missing_ok=True)

    def _read(self, token: str) -> dict[str, dict[str, object]]:
        try:
            found: dict[str, dict[str, object]] = json.loads((self.folder / f"{token}.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found

    def _token(self, incident: str) -> str:
        path = self.folder / "key"
        if not path.is_file():
            write_atomic(path, secrets.token_hex(32).encode())
        return hmac.new(path.read_bytes(), incident.encode(), "sha256").hexdigest()[:16]
