"""Where are the pinned canaries kept? DATA_DIR/canaries/<target>/<fingerprint>.json; nothing is ever overwritten."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from responder.canaries.pins import Record, file_name
from responder.folder import write_atomic


class Shelf:
    """The records of all targets."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir / "canaries"
        self._seen: dict[Path, tuple[int, Record | None]] = {}

    def targets(self) -> Callable[[str], bool]:
        """Whether anything is kept of a target, for many at once: one look, not one for each."""
        names = {path.name for path in self.root.iterdir()} if self.root.is_dir() else set()
        return lambda target: file_name(target) in names

    def of(self, target: str) -> tuple[Record, ...]:
        """A target's records, newest first. A file that cannot be read is left out: `problems` names it."""
        folder = self.root / file_name(target)
        found = [record for path in sorted(folder.glob("*.json")) if (record := self._read(path)) is not None]
        return tuple(sorted(found, key=lambda record: -record.at))

    def problems(self, target: str) -> tuple[str, ...]:
        """Files of a target that cannot be read."""
        folder = self.root / file_name(target)
        return tuple(str(path) for path in sorted(folder.glob("*.json")) if self._read(path) is None)

    def keep(self, record: Record) -> Path:
        """Write a record; one of the same fingerprint is moved to *.json.old-<time> first."""
        path = self.root / file_name(record.target) / f"{record.digest}.json"
        if path.exists():
            path.rename(path.with_name(f"{path.name}.old-{record.at:.0f}"))
        write_atomic(path, record.model_dump_json(indent=1).encode())
        return path

    def _read(self, path: Path) -> Record | None:
        """Read anew only when the file has changed: the daemon asks every few seconds."""
        try:
            stamp = path.stat().st_mtime_ns
            if path in self._seen and self._seen[path][0] == stamp:
                return self._seen[path][1]
            record: Record | None = Record.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            stamp, record = path.stat().st_mtime_ns if path.exists() else 0, None
        self._seen[path] = (stamp, record)
        return record
