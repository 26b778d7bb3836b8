"""How do spans get from the network into the ring without holding anybody up? Through a queue with a fixed size.

Whoever receives only checks the envelope and puts the message down; one thread takes messages apart. When the queue is
full the message is dropped and its spans are counted: the server that sent it gets its answer at once either way, and
never a reason to send it again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from responder.requests.forward import Forwarder
from responder.requests.record import Request, Span
from responder.requests.ring import RequestRing
from responder.requests.spans import TENANT_ATTRIBUTES, Around, around_of, is_request, is_start_up, request_of
from responder.requests.wire import Envelope, decode, walk

QUEUE_BYTES = 16 << 20
QUEUE_MESSAGES = 1000
PAST_S, FUTURE_S = 86400.0, 600.0
"""A span that began longer ago or ends later than this has a broken clock and would disturb the ring's order."""


@dataclass
class Counts:
    """What became of everything that was sent to us, since the start."""

    messages: int = 0
    spans: int = 0
    requests: int = 0
    around: int = 0
    start_up: int = 0
    dropped_spans: int = 0
    """Refused because the queue was full."""
    dropped_messages: int = 0
    refused_messages: int = 0
    """Not OTLP, truncated, too big, a bomb."""
    bad_spans: int = 0
    """Too large, unreadable, or with an impossible time."""


class Intake:
    """The queue and the thread behind it."""

    def __init__(
        self,
        ring: RequestRing,
        *,
        clock: Callable[[], float] = time.time,
        forward: Forwarder | None = None,
        tenants: Sequence[str] = (),
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self.ring = ring
        self.clock = clock
        self.forward = forward
        self.tenants = (*tenants, *TENANT_ATTRIBUTES)
        self.queue_bytes = queue_bytes
        self.counts = Counts()
        self._queue: deque[tuple[Envelope, str]] = deque()
        self._waiting_bytes = 0
        self._something = threading.Condition()
        self._ending = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._work, name="request spans", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take in what waits, then end; at most a second or two."""
        with self._something:
            self._ending = True
            self._something.notify()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
            self._thread = None

    def offer(self, data: bytes, peer: str = "") -> int:
        """Take a message, or drop it when there is no room. Returns the number of spans we will not keep: all of them
        when it was dropped. Refused when it is no message. Never waits."""
        try:
            envelope = walk(data)
        except ValueError:
            self.refuse()
            raise
        if self.forward is not None:
            self.forward.offer(data)
        with self._something:
            self.counts.messages += 1
            self.counts.spans += len(envelope.spans) + envelope.oversized
            self.counts.bad_spans += envelope.oversized
            if self._waiting_bytes + len(data) > self.queue_bytes or len(self._queue) >= QUEUE_MESSAGES:
                self.counts.dropped_messages += 1
                self.counts.dropped_spans += len(envelope.spans)
                return len(envelope.spans) + envelope.oversized
            self._queue.append((envelope, peer))
            self._waiting_bytes += len(data)
            self._something.notify()
        return envelope.oversized

    def refuse(self) -> None:
        """Count a message that was refused before it came here."""
        with self._something:
            self.counts.refused_messages += 1

    def settle(self, patience_s: float = 5.0) -> bool:
        """Wait until nothing waits; False when that took too long. For the end of a test or a measurement."""
        limit = time.monotonic() + patience_s
        while time.monotonic() < limit:
            with self._something:
                if not self._waiting_bytes:
                    return True
            time.sleep(0.002)
        return False

    def _work(self) -> None:
        while True:
            with self._something:
                while not self._queue and not self._ending:
                    self._something.wait()
                if not self._queue:
                    return
                envelope, peer = self._queue.popleft()
            try:
                self._take(envelope, peer)
            except Exception:  # a message must never end the thread; it is one bad message
                self.counts.bad_spans += len(envelope.spans)
            with self._something:
                # Only now: what is being taken apart still takes memory.
                self._waiting_bytes -= len(envelope.data)

    def _take(self, envelope: Envelope, peer: str) -> None:
        now = self.clock()
        requests: list[Request] = []
        around: list[Around] = []
        for span in decode(envelope, peer, self.tenants):
            if span is None or not _sane(span, now):
                self.counts.bad_spans += 1
            elif is_request(span):
                requests.append(request_of(span, self.tenants))
            elif is_start_up(span):
                self.counts.start_up += 1
            else:
                around.append(around_of(span, self.tenants))
        self.counts.requests += len(requests)
        self.counts.around += len(around)
        self.ring.add(requests, around, now=now)


def _sane(span: Span, now: float) -> bool:
    """Whether its times can be true: nobody's clock may put the ring out of order."""
    return now - PAST_S <= span.start <= span.end <= now + FUTURE_S
