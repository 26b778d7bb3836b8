"""A storm: many incidents at once. Which of them share one message, what does it say, and when may it be edited?

The first few incidents get messages of their own. From then on a new one joins the digest, for good: its later reports
change its line. Lines live in a file, so a restart goes on with the same message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from responder.folder import write_atomic
from responder.notify.notifier import Message
from responder.notify.slack_blocks import MOST_BLOCKS, Block, address, context, escape, header, section
from responder.report_words import clean, duration, named
from responder.words import language, say, speaking

EDIT_GAP_S = 3.0
"""Between two edits: one edit tells of everything that came in meanwhile."""
MOST_LINES = 40
LINE = 180
LINES_EACH = 10
COVERED = "told in the digest of a storm"
MOST_ROWS = 1000
"""A storm that never ends as a whole forgets those of its incidents that are long over."""
MARKS = {"resolved": ":white_check_mark:", "critical": ":red_circle:", "warning": ":large_orange_circle:"}


class Digest:
    """The digest of one channel. `over` incidents within `within_s` seconds are told one by one, more share it."""

    def __init__(self, over: int, within_s: float, path: Path | None = None) -> None:
        self.over, self.within_s, self.path = over, within_s, path
        self.recent: dict[str, float] = {}
        """When each of the latest incidents was first seen here."""
        self.ts = ""
        self.rows: dict[str, dict[str, str]] = {}
        self.told: dict[str, dict[str, str]] = {}
        """The rows as the message shows them."""
        self.edited_at = 0.0
        self._load()

    def covers(self, message: Message, now: float) -> bool:
        """Whether this incident is told in the digest; decided once, when it is first seen."""
        if message.earlier:
            return "digest" in message.earlier
        if message.incident in self.rows:
            return True
        self.recent = {i: at for i, at in self.recent.items() if now - at <= self.within_s}
        self.recent.setdefault(message.incident, now)
        return len(self.recent) > self.over

    def take(self, message: Message) -> None:
        """Remember what there is to say about an incident."""
        if self.ts and self.over_now and message.incident not in self.rows:
            self.ts, self.rows, self.told = "", {}, {}  # the last storm is over: this is another one
        report = message.report
        incident, hypotheses = report["incident"], report.get("hypotheses") or []
        over = [name for name, row in self.rows.items() if row["state"] == "resolved"]
        for name in over[: max(0, len(self.rows) - MOST_ROWS)]:
            del self.rows[name]
        self.rows[message.incident] = {
            "state": incident["state"],
            "severity": incident["severity"],
            "target": clean(incident["target"], 60),
            "cause": clean(hypotheses[0]["title"] if hypotheses else named("class", incident["class"]), 70),
            "since": incident["onset_at"][11:19],
            "language": str(report.get("language", "en")),
        }

    def shown(self, message: Message) -> bool:
        """Whether the message says this already."""
        return bool(self.ts) and self.told.get(message.incident) == self.rows.get(message.incident)

    def due(self, now: float) -> bool:
        """Whether it may be written now; also when the clock was set back since."""
        return not self.ts or not 0 <= now - self.edited_at < EDIT_GAP_S

    def written(self, ts: str, now: float) -> None:
        """It was written as it is."""
        self.ts, self.edited_at, self.told = ts, now, dict(self.rows)
        self.save()

    @property
    def over_now(self) -> bool:
        """Whether all of its incidents are resolved."""
        return bool(self.rows) and all(row["state"] == "resolved" for row in self.rows.values())

    def words(self) -> str:
        """One line about it, for notifications."""
        with speaking(language(self._language())):
            over = sum(row["state"] == "resolved" for row in self.rows.values())
            return say("digest.title", count=len(self.rows), open=len(self.rows) - over, resolved=over)

    def ended(self) -> str:
        """What its thread says at the end."""
        with speaking(language(self._language())):
            return say("digest.over", count=len(self.rows))

    def blocks(self, link: str = "") -> list[Block]:
        """Open ones first, latest first; as many as fit."""
        with speaking(language(self._language())):
            rows = sorted(self.rows.items(), key=lambda row: row[1]["since"], reverse=True)
            rows.sort(key=lambda row: row[1]["state"] == "resolved")
            lines = [_line(name, row, link) for name, row in rows[:MOST_LINES]]
            if len(rows) > MOST_LINES:
                lines.append(say("digest.more", count=len(rows) - MOST_LINES))
            parts = [section(lines[at : at + LINES_EACH], 2900) for at in range(0, len(lines), LINES_EACH)]
            why = say("digest.why", over=self.over, within=duration(self.within_s))
            return [header(self.words()), *parts[: MOST_BLOCKS - 2], context(escape(why))]

    def _language(self) -> str:
        return next(iter(self.rows.values()), {}).get("language", "en")

    def save(self) -> None:
        """Onto the disk, where there is one."""
        if self.path is not None:
            state = {"ts": self.ts, "rows": self.rows, "told": self.told, "edited_at": self.edited_at}
            write_atomic(self.path, json.dumps(state).encode())

    def _load(self) -> None:
        if self.path is None or not self.path.is_file():
            return
        try:
            state: Mapping[str, Any] = json.loads(self.path.read_bytes())
            self.ts, self.edited_at = str(state["ts"]), float(state["edited_at"])
            self.rows, self.told = dict(state["rows"]), dict(state["told"])
        except (OSError, ValueError, KeyError, TypeError):
            self.ts, self.rows, self.told = "", {}, {}


def _line(incident: str, row: Mapping[str, str], link: str) -> str:
    tone = "resolved" if row["state"] == "resolved" else row["severity"]
    words = say("digest.line", state=MARKS.get(tone, ":large_blue_circle:"), target=f"*{escape(row['target'])}*",
                cause=escape(row["cause"]), since=escape(row["since"]))  # fmt: skip
    return f"{words} <{address(link, incident)}|{say('slack.report')}>" if link and len(words) < LINE else words
