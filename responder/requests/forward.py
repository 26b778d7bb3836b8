"""How do spans reach the operator's own collector as well? As they came, from a queue of their own, with a deadline.

A collector that is slow or gone costs its own copy, never ours and never the server's answer.
"""

from __future__ import annotations

import importlib
import threading
import urllib.error
import urllib.request
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

QUEUE_BYTES = 16 << 20
TIMEOUT_S = 5.0
METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@dataclass
class Forwarded:
    """What became of the copies."""

    sent: int = 0
    failed: int = 0
    dropped: int = 0


class Way(Protocol):
    """One attempt to deliver a message; raises when it fails."""

    def __call__(self, data: bytes) -> None: ...


class Forwarder:
    """Sends messages on, in order, one at a time; no retries, the collector's exporter side is best effort anyway."""

    def __init__(self, url: str, way: Way | None = None) -> None:
        self.url = url
        self.counts = Forwarded()
        self._way = way or way_to(url)
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._something = threading.Condition()
        self._ending = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._work, name="forward spans", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Leave what has not been sent."""
        with self._something:
            self._ending = True
            self._something.notify()
        if self._thread is not None:
            self._thread.join(timeout=TIMEOUT_S + 1)
            self._thread = None

    def offer(self, data: bytes) -> None:
        """Queue a copy, or drop and count it. Never waits."""
        with self._something:
            if self._bytes + len(data) > QUEUE_BYTES:
                self.counts.dropped += 1
                return
            self._queue.append(data)
            self._bytes += len(data)
            self._something.notify()

    def _work(self) -> None:
        while True:
            with self._something:
                while not self._queue and not self._ending:
                    self._something.wait()
                if self._ending:
                    return
                data = self._queue.popleft()
            try:
                self._way(data)
                self.counts.sent += 1
            except Exception:  # whatever the collector or the network does is counted, not raised
                self.counts.failed += 1
            with self._something:
                self._bytes -= len(data)


def way_to(url: str) -> Way:
    """http(s)://…/v1/traces goes over HTTP; any other URL is a gRPC endpoint, as vLLM and the SDKs read it."""
    parts = urlsplit(url)
    if parts.path.rstrip("/").endswith("/v1/traces"):
        return _http(url)
    return _grpc(parts.netloc, secure=parts.scheme == "https")


def _http(url: str) -> Way:
    # No proxy from the environment: spans go where the operator wrote, nowhere else.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def send(data: bytes) -> None:
        request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/x-protobuf"})
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            answer.read(4096)

    return send


def _grpc(address: str, *, secure: bool) -> Way:
    grpc: Any = importlib.import_module("grpc")
    channel = grpc.secure_channel(address, grpc.ssl_channel_credentials()) if secure else grpc.insecure_channel(address)
    call = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)

    def send(data: bytes) -> None:
        call(data, timeout=TIMEOUT_S)

    return send
