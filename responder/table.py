"""Which samples are a target's? Answers, indexed once a round by the labels targets are matched by."""

from __future__ import annotations

from collections.abc import Mapping
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


class Table:
    """Answers of one round."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self._index: dict[tuple[str, tuple[str, ...]], dict[tuple[str, ...], list[Sample]]] = {}
        self._keys: dict[str, Key] = {}
        self._of: dict[tuple[str, str], list[Sample]] = {}

    def silent(self, signal: str) -> bool:
        """Nobody answered."""
        return self.answers.get(signal) is None

    def of(self, signal: str, target: Target) -> list[Sample]:
        """The target's samples of a signal, at most one per model and engine."""
        known = self._of.get((signal, target.name))
        if known is None:
            known = self._of[signal, target.name] = self._newest(signal, target)
        return known

    def scraped(self, signal: str, target: Target) -> list[Sample]:
        """Everything Prometheus has of the target under a signal."""
        return self._with(signal, *self._key(target))

    def vanished(self, target: Target) -> bool:
        """Prometheus talks about others and not about this one. No word about anybody is no news."""
        return bool(self.answers.get(UP)) and not self.of(UP, target)

    def _newest(self, signal: str, target: Target) -> list[Sample]:
        found = self._with(signal, OURS, (target.name,))
        if not found:
            dcgm = signal.startswith("dcgm_")
            found = self._on_host(signal, target) if dcgm else self._with(signal, *self._key(target))
        if len(found) < 2:
            return found
        newest: dict[tuple[str, ...], Sample] = {}
        for sample in found:
            key = tuple(sample.labels.get(label, "") for label in IDENTITY)
            if key not in newest or sample.at > newest[key].at:
                newest[key] = sample
        return list(newest.values())

    def _key(self, target: Target) -> Key:
        known = self._keys.get(target.name)
        if known is None:
            labels = tuple(sorted(target.match))
            known = self._keys[target.name] = (labels, tuple(target.match[label] for label in labels))
        return known

    def _with(self, signal: str, labels: tuple[str, ...], values: tuple[str, ...]) -> list[Sample]:
        if not labels:
            return []
        index = self._index.get((signal, labels))
        if index is None:
            index = self._index[signal, labels] = {}
            for sample in self.answers.get(signal) or ():
                index.setdefault(tuple(sample.labels.get(label, "") for label in labels), []).append(sample)
        return index.get(values, [])

    def _on_host(self, signal: str, target: Target) -> list[Sample]:
        """An exporter of the machine has an address of its own: the host is what it shares with the server."""
        host = urlsplit(target.url).hostname or ""
        hosts = {host, host_of(target.match.get("instance", host))} - {""}
        return [
            sample
            for sample in self.answers.get(signal) or ()
            if sample.labels.get("Hostname") in hosts or host_of(sample.labels.get("instance", "")) in hosts
        ]
