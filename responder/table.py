"""Which samples are a target's? Answers, indexed once a round by the labels targets are matched by."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from responder.model import Sample, Target
from responder.window import host_of

Answers = Mapping[str, tuple[Sample, ...] | None]
"""Signal name (or the expression of a rule of another shape) -> samples; None or missing: nobody answered."""
IDENTITY = ("model_name", "engine")
"""Labels that tell apart what one server runs; everything else identifies the server."""
UP = "up"
OURS = ("target",)
"""What we know ourselves carries the target's name."""
Key = tuple[tuple[str, ...], tuple[str, ...]]


class Places:
    """The labels each target is matched by, worked out once for all signals.

    Of its own, so that columns do not hold the table that holds them: what hangs in such a circle - all samples of a
    round - waits for Python's collector, which held a thousand servers' daemon up for 100 ms.
    """

    def __init__(self) -> None:
        self._known: dict[str, Key] = {}

    def of(self, target: Target) -> Key:
        """Names and values."""
        known = self._known.get(target.name)
        if known is None:
            labels = tuple(sorted(target.match))
            known = self._known[target.name] = (labels, tuple(target.match[label] for label in labels))
        return known


class Column:
    """One signal's samples."""

    def __init__(self, signal: str, samples: Collection[Sample], places: Places) -> None:
        self.samples = samples
        self._dcgm, self._places = signal.startswith("dcgm_"), places
        self._ours = any(OURS[0] in sample.labels for sample in samples)
        self._index: dict[tuple[str, ...], dict[tuple[str, ...], list[Sample]]] = {}
        self._known: dict[str, list[Sample]] = {}

    def of(self, target: Target) -> list[Sample]:
        """The target's samples, at most one per model and engine."""
        known = self._known.get(target.name)
        if known is None:
            known = self._known[target.name] = self._newest(target) if self.samples else []
        return known

    def scraped(self, target: Target) -> list[Sample]:
        """Everything Prometheus has of the target."""
        return self._with(*self._places.of(target))

    def _newest(self, target: Target) -> list[Sample]:
        found = self._with(OURS, (target.name,)) if self._ours else []
        if not found:
            found = self._on_host(target) if self._dcgm else self.scraped(target)
        if len(found) < 2:
            return found
        newest: dict[tuple[str, ...], Sample] = {}
        for sample in found:
            key = tuple(sample.labels.get(label, "") for label in IDENTITY)
            if key not in newest or sample.at > newest[key].at:
                newest[key] = sample
        return list(newest.values())

    def _with(self, labels: tuple[str, ...], values: tuple[str, ...]) -> list[Sample]:
        if not labels:
            return []
        index = self._index.get(labels)
        if index is None:
            index = self._index[labels] = {}
            for sample in self.samples:
                index.setdefault(tuple(sample.labels.get(label, "") for label in labels), []).append(sample)
        return index.get(values, [])

    def _on_host(self, target: Target) -> list[Sample]:
        """An exporter of the machine has an address of its own: the host is what it shares with the server."""
        host = urlsplit(target.url).hostname or ""
        hosts = {host, host_of(target.match.get("instance", host))} - {""}
        return [
            sample
            for sample in self.samples
            if sample.labels.get("Hostname") in hosts or host_of(sample.labels.get("instance", "")) in hosts
        ]


class Table:
    """Answers of one round."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self._columns: dict[str, Column] = {}
        self._places = Places()

    def column(self, signal: str) -> Column:
        """A signal, for whoever asks of many targets."""
        column = self._columns.get(signal)
        if column is None:
            column = self._columns[signal] = Column(signal, self.answers.get(signal) or (), self._places)
        return column

    def silent(self, signal: str) -> bool:
        """Nobody answered."""
        return self.answers.get(signal) is None

    def of(self, signal: str, target: Target) -> list[Sample]:
        """The target's samples of a signal, at most one per model and engine."""
        return self.column(signal).of(target)

    def scraped(self, signal: str, target: Target) -> list[Sample]:
        """Everything Prometheus has of the target under a signal."""
        return self.column(signal).scraped(target)

    def vanished(self, target: Target) -> bool:
        """Prometheus talks about others and not about this one. No word about anybody is no news."""
        return bool(self.answers.get(UP)) and not self.of(UP, target)
