"""What do we say about ourselves? Our own metrics: `responder_*`, base units, no request ids or pids as labels."""

from __future__ import annotations

from collections import Counter as Counted
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from responder import __version__
from responder.model import Opinion, Sample


class Telemetry:
    """Our metrics on a registry of their own, so that two daemons in one test process never clash."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.build = Gauge("responder_build_info", "Version.", ["version"], registry=self.registry)
        self.build.labels(__version__).set(1)
        self.evaluations = Counter(
            "responder_evaluations", "Rounds of rule evaluation.", ["result"], registry=self.registry
        )
        self.evaluation_seconds = Histogram(
            "responder_evaluation_seconds",
            "Time one round takes.",
            buckets=(0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10),
            registry=self.registry,
        )
        self.signal_absent = Gauge(
            "responder_signal_absent", "1: no series for it.", ["signal", "target"], registry=self.registry
        )
        self.prometheus_up = Gauge(
            "responder_prometheus_up", "Whether Prometheus answered the last round.", registry=self.registry
        )
        self.incidents_open = Gauge("responder_incidents_open", "Open incidents.", registry=self.registry)
        self.incidents = Counter(
            "responder_incidents", "Incidents opened.", ["class", "severity"], registry=self.registry
        )
        self.steps = Counter(
            "responder_steps", "Capture steps by how they ended.", ["step", "outcome"], registry=self.registry
        )
        self.step_seconds = Histogram(
            "responder_step_seconds",
            "Time a capture step takes.",
            ["step"],
            buckets=(0.01, 0.1, 0.5, 1, 5, 15),
            registry=self.registry,
        )
        self.capture_bytes = Counter(
            "responder_capture_bytes", "Bytes captured, after redaction.", ["step"], registry=self.registry
        )
        self.target_pause = Counter(
            "responder_target_pause_seconds", "Pauses we caused.", ["step"], registry=self.registry
        )
        self.obligations = Gauge(
            "responder_capture_obligations_open", "Ends we still owe a server.", registry=self.registry
        )
        self.redactions = Counter("responder_redactions", "Things redacted.", ["kind"], registry=self.registry)
        self._messages()
        self.store_full = Gauge(
            "responder_store_full", "1: the disk is full, captures are off.", registry=self.registry
        )
        self.alerts = Counter(
            "responder_alerts_received", "Alerts from Alertmanager, by result.", ["result"], registry=self.registry
        )
        self.loop_lag = Gauge(
            "responder_loop_lag_seconds", "Worst event-loop lag since the last scrape.", registry=self.registry
        )
        self.loop_lags = Histogram(
            "responder_loop_lag_sampled_seconds", "Event-loop lag, ten samples a second.", registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
        )  # fmt: skip
        self.reload_ok = Gauge("responder_config_last_reload_successful", "1 or 0.", registry=self.registry)
        self.reload_at = Gauge(
            "responder_config_last_reload_success_timestamp_seconds", "When.", registry=self.registry
        )
        self.requests = RequestCollector()
        self.registry.register(self.requests)
        self.opinions = OpinionCollector()
        self.registry.register(self.opinions)
        self.probes = ProbeCollector()
        self.registry.register(self.probes)
        self._worst_lag = 0.0

    def _messages(self) -> None:
        self.targets_unseen = Gauge(
            "responder_targets_unseen", "Targets Prometheus has no vLLM metrics of.", registry=self.registry
        )
        self.limits_as_ever = Gauge(
            "responder_limits_passed_as_ever",
            "Limits that servers are over as in their last hour, so that no incident is open.", registry=self.registry,
        )  # fmt: skip
        self.rounds_failed = Counter(
            "responder_rounds_failed", "Rounds of the daemon that broke off; `tick` is detection.", ["round"],
            registry=self.registry,
        )  # fmt: skip
        self.incidents_failed = Counter(
            "responder_incidents_failed", "Work on an incident that broke off for a fault of ours.",
            registry=self.registry,
        )  # fmt: skip
        self.notifications = Counter(
            "responder_notifications", "Attempts.", ["receiver", "outcome"], registry=self.registry
        )
        self.queue = Gauge(
            "responder_notification_queue_length", "Undelivered messages.", ["receiver"], registry=self.registry
        )
        self.dead_letters = Gauge(
            "responder_notifications_dead", "Messages given up.", ["receiver"], registry=self.registry
        )

    def lag(self, seconds: float) -> None:
        """Record how late the event loop ran."""
        self._worst_lag = max(self._worst_lag, seconds)
        self.loop_lags.observe(seconds)

    def page(self) -> bytes:
        """The exposition text."""
        self.loop_lag.set(self._worst_lag)
        self._worst_lag = 0.0
        return generate_latest(self.registry)


class RequestCollector(Collector):
    """What became of the spans sent to us; nothing while no receiver runs."""

    def __init__(self) -> None:
        self.numbers: Callable[[], Mapping[str, int]] | None = None

    def collect(self) -> Iterable[CounterMetricFamily]:
        """One counter, by what became of it."""
        if self.numbers is None:
            return
        family = CounterMetricFamily("responder_otlp", "Spans and messages received over OTLP.", labels=["what"])
        for what, count in self.numbers().items():
            family.add_metric([what], count)
        yield family


class OpinionCollector(Collector):
    """What engineers said of verdicts, by the cause that was named and by playbook."""

    def __init__(self) -> None:
        self.read: Callable[[], Iterable[Opinion]] = tuple

    def collect(self) -> Iterable[CounterMetricFamily]:
        """One counter; an incident of two playbooks counts for each."""
        counted = Counted(
            (o.named, book, "right" if o.right else "wrong") for o in self.read() for book in o.playbooks or ("",)
        )
        family = CounterMetricFamily(
            "responder_verdicts", "Verdicts engineers judged.", labels=["cause", "playbook", "verdict"]
        )
        for labels, count in sorted(counted.items()):
            family.add_metric(labels, count)
        yield family


class ProbeCollector(Collector):
    """The probes' samples under the names that rules use, so that the same rules work inside Prometheus."""

    def __init__(self) -> None:
        self.samples: tuple[Sample, ...] = ()
        self.instances: dict[str, str] = {}
        """Target name -> instance label, so that probe series join with vLLM's in Prometheus."""

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One gauge family per signal."""
        families: dict[str, GaugeMetricFamily] = {}
        for sample in self.samples:
            if sample.value is None:
                continue
            family = families.setdefault(
                sample.signal,
                GaugeMetricFamily(sample.signal, "Seen by the responder's probe.", labels=["target", "instance"]),
            )
            name = sample.labels.get("target", "")
            family.add_metric([name, self.instances.get(name, name)], sample.value)
        return families.values()
