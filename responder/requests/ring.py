"""Where do finished requests stay? In a ring of columns: at most so many, at most so old, at most so much memory.

100,000 requests in columns of plain numbers, ids of at most 128 bytes and interned names: `bench/receiver.py` prints
what they really take. Spans around requests (phases, gateways) have a smaller ring of their own.
"""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Any, Generic, TypeVar

from responder.requests.record import Replica, Request
from responder.requests.spans import Around, join

CAPACITY = 100_000
MAX_AGE_S = 1800.0
AROUND = 20_000
NAMES = 20_000
FLOATS = ("e2e", "ttft", "queue", "prefill", "decode", "temperature", "top_p")
WHOLES = ("prompt_tokens", "completion_tokens", "max_tokens", "n", "preemptions")
NAN = float("nan")
NONE = -1
T = TypeVar("T", bound=Hashable)


class Names(Generic[T]):
    """Values that repeat, kept once. When there are too many, the rest become the first, the empty one."""

    def __init__(self, empty: T, most: int = NAMES) -> None:
        self.values: list[T] = [empty]
        self.places: dict[T, int] = {empty: 0}
        self.most = most

    def place(self, value: T) -> int:
        """Its number."""
        found = self.places.get(value)
        if found is None:
            if len(self.values) >= self.most:
                return 0
            found = self.places[value] = len(self.values)
            self.values.append(value)
        return found


class RequestRing:
    """Thread-safe; the oldest go first."""

    def __init__(self, capacity: int = CAPACITY, max_age_s: float = MAX_AGE_S, around: int = AROUND) -> None:
        self.capacity, self.max_age_s, self.most_around = capacity, max_age_s, around
        self._lock = threading.Lock()
        self._start = array("d", bytes(8 * capacity))
        self._floats = {name: array("f", bytes(4 * capacity)) for name in FLOATS}
        self._wholes = {name: array("i", bytes(4 * capacity)) for name in WHOLES}
        self._links = {name: array("i", bytes(4 * capacity)) for name in ("replica", "model", "tenant", "layout")}
        self._error = bytearray(capacity)
        self._trace = bytearray(32 * capacity)
        """Trace, span and parent id of each: 16 + 8 + 8 bytes."""
        self._id: list[bytes] = [b""] * capacity
        self._added = 0
        self._oldest = 0
        self._names_reset()
        self._around: OrderedDict[str, Around] = OrderedDict()

    def _names_reset(self) -> None:
        self._replicas: Names[Replica] = Names(Replica())
        self._text = {name: Names("") for name in ("model", "tenant", "layout")}

    def __len__(self) -> int:
        return self._added - self._oldest

    def add(self, requests: Iterable[Request], around: Iterable[Around] = (), *, now: float) -> None:
        """Append; what is too old or too much falls out."""
        with self._lock:
            for item in requests:
                self._put(item)
            for other in around:
                self._around[other.span] = other
            while len(self._around) > self.most_around:
                self._around.popitem(last=False)
            self._expire(now)

    def expire(self, now: float) -> None:
        """Let go of what is too old, also when nothing new comes."""
        with self._lock:
            self._expire(now)

    def between(self, since: float, until: float, *, now: float) -> list[Request]:
        """Requests alive between two times, joined with the spans around them, oldest arrival first."""
        with self._lock:
            self._expire(now)
            alive = [i for i in range(self._oldest, self._added) if self._alive(i, since, until)]
            found = [self._get(i % self.capacity) for i in alive]
            around = list(self._around.values())
        return sorted(join(found, around), key=lambda r: r.start)

    def _alive(self, index: int, since: float, until: float) -> bool:
        at = index % self.capacity
        return self._start[at] <= until and self._start[at] + self._floats["e2e"][at] >= since

    def _put(self, item: Request) -> None:
        if self._added - self._oldest >= self.capacity:
            self._drop_oldest()
        at = self._added % self.capacity
        self._start[at] = item.start
        for name, column in self._floats.items():
            value = getattr(item, name)
            column[at] = NAN if value is None else value
        for name, wholes in self._wholes.items():
            value = getattr(item, name)
            wholes[at] = NONE if value is None else value
        self._links["replica"][at] = self._replicas.place(item.replica)
        for name, names in self._text.items():
            self._links[name][at] = names.place(getattr(item, name))
        self._error[at] = item.error
        self._trace[32 * at : 32 * at + 32] = _packed(item.trace, 16) + _packed(item.span, 8) + _packed(item.parent, 8)
        self._id[at] = item.id.encode()[:128]
        self._added += 1

    def _get(self, at: int) -> Request:
        rest: dict[str, Any] = {
            **{name: None if (v := column[at]) != v else v for name, column in self._floats.items()},
            **{name: None if (v := column[at]) == NONE else v for name, column in self._wholes.items()},
            **{name: names.values[self._links[name][at]] for name, names in self._text.items()},
        }
        ids = bytes(self._trace[32 * at : 32 * at + 32])
        return Request(
            id=self._id[at].decode(errors="replace"),
            start=self._start[at],
            error=bool(self._error[at]),
            replica=self._replicas.values[self._links["replica"][at]],
            trace=_hex(ids[:16]),
            span=_hex(ids[16:24]),
            parent=_hex(ids[24:]),
            **rest,
        )

    def _expire(self, now: float) -> None:
        limit = now - self.max_age_s
        while self._oldest < self._added:
            at = self._oldest % self.capacity
            if self._start[at] + self._floats["e2e"][at] >= limit:
                break
            self._drop_oldest()
        if self._oldest == self._added:
            self._names_reset()
        while self._around and next(iter(self._around.values())).end < limit:
            self._around.popitem(last=False)

    def _drop_oldest(self) -> None:
        self._id[self._oldest % self.capacity] = b""
        self._oldest += 1


def _packed(text: str, size: int) -> bytes:
    try:
        return bytes.fromhex(text)[:size].ljust(size, b"\0")
    except ValueError:
        return bytes(size)


def _hex(raw: bytes) -> str:
    return raw.hex() if any(raw) else ""
