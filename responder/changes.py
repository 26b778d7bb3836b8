"""What is different from when the server was last well, and from its healthy siblings? Snapshots in, differences out.

A snapshot holds how a server was started and what it runs on: options, versions, names of environment variables (of
their values only a digest), models, ranks, GPUs. What a snapshot does not know is unknown, never a difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from responder.model import Noun

KEPT = 4
"""How many ways of being set up are remembered of one server."""
RESTART_S = 2.0
"""Start times nearer to each other than this are one start, read at two moments."""
OWN = frozenset({"host", "port", "uds", "data_parallel_rank", "data_parallel_address", "node_rank", "master_addr",
                 "ssl_keyfile", "ssl_certfile", "log_config_file", "root_path"})  # fmt: skip
"""Options that differ between siblings by nature."""
KINDS = ("options", "version", "environment", "models", "ranks", "cache", "gpus")


class Snapshot(Noun):
    """How a server was set up at a moment; None: could not be seen."""

    at: float
    started_at: float | None = None
    """Start of the API server, unix seconds."""
    options: dict[str, str] | None = None
    """Launch options by their Python name, secrets masked."""
    environment: dict[str, str] | None = None
    """Name -> digest of the value."""
    version: str | None = None
    models: tuple[str, ...] | None = None
    ranks: int | None = None
    cache: dict[str, str] | None = None
    """What the server says of its KV cache."""
    gpus: tuple[str, ...] | None = None
    """One line for each GPU: name, driver, highest clock, power limit."""


class Stay(Noun):
    """A time in which a healthy server kept one set-up."""

    snapshot: Snapshot
    since: float
    until: float


class History(Noun):
    """The set-ups a server was healthy with, oldest first."""

    stays: tuple[Stay, ...] = ()


class Difference(Noun):
    """One thing that is another than it was; None: not there."""

    kind: str
    name: str
    before: str | None
    after: str | None

    @property
    def says(self) -> str:
        """`--max-num-seqs 64 → 256`."""
        name = f"--{self.name.replace('_', '-')}" if self.kind == "options" else self.name
        if self.kind == "environment":
            word = "set" if self.before is None else "no longer set" if self.after is None else "another value"
            return f"{name}: {word}"
        if self.before is None:
            return f"{name} {self.after} (new)"
        return f"{name} {self.before} → {self.after}" if self.after is not None else f"{name} {self.before} (gone)"


def fold(history: History, snapshot: Snapshot) -> History:
    """The history with what a healthy server looks like now."""
    last = history.stays[-1] if history.stays else None
    if last is not None and not differences(last.snapshot, snapshot):
        # What was known once stays known: a source that is silent now has not changed.
        known = {k: v for k, v in snapshot.model_dump().items() if v is not None}
        same = last.snapshot.model_copy(
            update=Snapshot.model_validate({**last.snapshot.model_dump(), **known}).__dict__
        )
        return History(stays=(*history.stays[:-1], last.model_copy(update={"snapshot": same, "until": snapshot.at})))
    return History(stays=(*history.stays, Stay(snapshot=snapshot, since=snapshot.at, until=snapshot.at))[-KEPT:])


def differences(before: Snapshot, after: Snapshot) -> tuple[Difference, ...]:
    """What both know and differs, in the order of KINDS."""
    found: list[Difference] = []
    for kind in KINDS:
        old, new = _named(kind, before), _named(kind, after)
        if old is None or new is None:
            continue
        for name in dict.fromkeys((*old, *new)):
            if old.get(name) != new.get(name):
                found.append(Difference(kind=kind, name=name, before=old.get(name), after=new.get(name)))
    return tuple(found)


def _named(kind: str, snapshot: Snapshot) -> dict[str, str] | None:
    value = getattr(snapshot, kind)
    if value is None or isinstance(value, dict):
        return value
    if isinstance(value, tuple):
        return {"models": ", ".join(value)} if kind == "models" else {f"GPU {n}": line for n, line in enumerate(value)}
    return {"vLLM" if kind == "version" else kind: str(value)}


def restarted(before: Snapshot, after: Snapshot) -> bool | None:
    """Whether the server was started anew in between; None when a start time is not known."""
    if before.started_at is None or after.started_at is None:
        return None
    return after.started_at > before.started_at + RESTART_S


def apart(ours: Snapshot, siblings: Mapping[str, Snapshot]) -> tuple[Difference, ...]:
    """Options and versions in which we differ from what most healthy siblings of our model agree on."""
    same = [one for one in siblings.values() if ours.models is None or one.models == ours.models]
    found: list[Difference] = []
    for kind in ("options", "version"):
        mine = _named(kind, ours)
        theirs = [named for one in same if (named := _named(kind, one)) is not None]
        if mine is None or not theirs:
            continue
        for name in dict.fromkeys((*mine, *(key for one in theirs for key in one))):
            usual = _most(one.get(name) for one in theirs)
            if name not in OWN and usual is not False and usual != mine.get(name):
                found.append(Difference(kind=kind, name=name, before=usual or None, after=mine.get(name)))
    return tuple(found)


def _most(values: Iterable[str | None]) -> str | None | bool:
    """What more than half agree on; False when they do not agree."""
    counted = Counter(values)
    value, count = counted.most_common(1)[0]
    return value if 2 * count > counted.total() else False


def words(found: Sequence[Difference], limit: int = 6) -> str:
    """The differences in one line."""
    more = f"; and {len(found) - limit} more" if len(found) > limit else ""
    return "; ".join(one.says for one in found[:limit]) + more
