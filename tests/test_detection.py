"""How soon do the shipped rules find what really happened? Recordings of a real vLLM in a real Prometheus.

vLLM 0.26 with a 7B Llama shape on H200s, scraped every 5 s, the slowest interval that is promised for. Every second is
one round of the daemon's own evaluation, so what is measured here is the time a live daemon would take.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from responder.correlate import Memory, correlate
from responder.evaluate import observe, present
from responder.holding import States, advance
from responder.load import load_rules
from responder.model import Incident, Sample, Target
from responder.onset import last_moved, onset
from responder.rules import widen

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(240)]
ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data" / "detection" / "recordings_5s.om.gz"
SCRAPE_S = 5.0

# Recording -> first and last second of it, and the second in which the fault began (the last second with progress for
# the freezes: the profiler only stops the engine some seconds after it was asked to).
SPANS = {
    "healthy": (1795168408, 1795168469, None),
    "profile_8": (1795169623, 1795169680, None),
    "pyspy_cost": (1795170098, 1795170147, None),
    "spike": (1795168469, 1795168575, 1795168505.4),
    "kv_starve": (1795169512, 1795169623, 1795169543.3),
    "hang_worker": (1795170207, 1795170285, 1795170239.7),
    "profile_free": (1795169050, 1795169127, 1795169077.0),
}
SIGNALS, RULES, _ = load_rules([ROOT / "rules"])
BY_NAME = {signal.name: signal.expr for signal in SIGNALS}


def binary(name: str) -> str:
    local = ROOT / ".tools" / "usr" / "bin" / name
    found = shutil.which(name) or (str(local) if os.access(local, os.X_OK) else None)
    if found is None:
        pytest.fail(f"{name} is neither on PATH nor in .tools/usr/bin: `make setup` or `apt install prometheus`")
    return found


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that holds the recordings; its URL."""
    folder = tmp_path_factory.mktemp("prometheus")
    text = folder / "recordings.om"
    text.write_bytes(gzip.decompress(DATA.read_bytes()))
    make = [binary("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(text), str(folder / "db")]
    subprocess.run(make, check=True, capture_output=True, timeout=120)
    (folder / "empty.yml").write_text("global: {}\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = [binary("prometheus"), f"--storage.tsdb.path={folder / 'db'}", f"--config.file={folder / 'empty.yml'}",
             "--storage.tsdb.retention.time=100y", f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    with (folder / "log").open("w") as log, subprocess.Popen(serve, stdout=log, stderr=log) as child:
        try:
            yield ready(f"http://127.0.0.1:{port}", folder / "log")
        finally:
            child.terminate()


def ready(url: str, log: Path) -> str:
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=5):
                return url
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"Prometheus did not start: {log.read_text()[-2000:]}")


def ask(url: str, name: str, target: Target, start: float, end: float) -> dict[int, tuple[Sample, ...]]:
    """A signal's samples of one target, second by second."""
    query = {"query": widen(BY_NAME[name], SCRAPE_S), "start": start, "end": end, "step": 1}
    with urllib.request.urlopen(f"{url}/api/v1/query_range", urllib.parse.urlencode(query).encode(), 30) as answer:
        rows = json.load(answer)["data"]["result"]
    out: dict[int, tuple[Sample, ...]] = {}
    for row in rows:
        labels = {k: v for k, v in row["metric"].items() if k != "__name__"}
        if labels.get("instance") != target.match["instance"]:
            continue
        for at, text in row["values"]:
            value = float(text) if text not in ("NaN", "+Inf", "-Inf") else None
            sample = Sample(signal=name, labels=labels, value=value, at=float(at))
            out[int(at)] = (*out.get(int(at), ()), sample)
    return out


def watch(url: str, recording: str) -> tuple[dict[str, float], list[Incident]]:
    """Every alert with the second it first fired, and the incidents, as a daemon would have had them."""
    start, end, _ = SPANS[recording]
    target = Target(name=recording, url=f"http://{recording}:8000", match={"instance": f"{recording}:8000"})
    names = sorted({t.signal for rule in RULES for t in rule.terms if t.signal in BY_NAME})
    answers = {name: ask(url, name, target, start, end) for name in names}
    states, memory, fired, incidents = States(), Memory(), dict[str, float](), dict[str, Incident]()
    for now in range(start, end + 1):
        known = {name: answers[name].get(now, ()) for name in names}
        seen = observe(RULES, known, [target], now, states.seen)
        here = present(known, [target])
        states, symptoms = advance(states, seen, now, RULES, targets={recording}, present=here)
        for symptom in symptoms:
            fired.setdefault(symptom.alert, now)
        decisions, memory = correlate(symptoms, incidents.values(), memory, now, targets=[target])
        incidents.update({d.incident.id: d.incident for d in decisions})
    return fired, list(incidents.values())


@pytest.mark.parametrize("recording", ["healthy", "profile_8", "pyspy_cost"])
def test_silent_where_nothing_was_wrong(prometheus: str, recording: str) -> None:
    """A steady load, a profile with safe options, py-spy on every process: nobody is woken."""
    fired, incidents = watch(prometheus, recording)
    assert fired == {}
    assert incidents == []


@pytest.mark.parametrize(
    ("recording", "alert", "within_s", "incident_class"),
    [
        ("hang_worker", "VLLMNoProgress", 15, "hang_or_crash"),
        ("profile_free", "VLLMNoProgress", 15, "hang_or_crash"),
        ("spike", "VLLMQueueGrowing", 45, "high_ttft"),
        ("spike", "VLLMTTFTHigh", 45, "high_ttft"),
        ("kv_starve", "VLLMQueueGrowing", 45, "high_ttft"),
        ("kv_starve", "VLLMKVCachePressure", 45, "high_ttft"),
        ("kv_starve", "VLLMTTFTHigh", 45, "high_ttft"),
    ],
)
def test_found_in_time(prometheus: str, recording: str, alert: str, within_s: float, incident_class: str) -> None:
    """Seconds of the recording, not of this machine: the promise of 15 s for hangs and 45 s for the rest."""
    began = SPANS[recording][2]
    assert began is not None
    fired, incidents = watch(prometheus, recording)
    assert alert in fired
    assert 0 < fired[alert] - began <= within_s
    assert min(fired.values()) >= began, "nothing fired before the fault"
    (incident,) = incidents
    assert incident.incident_class == incident_class


def test_a_catch_up_burst_is_the_same_incident(prometheus: str) -> None:
    """After a freeze the waiting requests come at once; that is no capacity incident."""
    fired, incidents = watch(prometheus, "profile_free")
    assert set(fired) == {"VLLMNoProgress"}
    assert len(incidents) == 1


@pytest.mark.parametrize(
    ("recording", "signal", "alert_after_s"),
    [("spike", "waiting", 33), ("spike", "ttft_p99", 38), ("kv_starve", "waiting", 33), ("kv_starve", "kv_usage", 37)],
)
def test_the_onset_is_near_the_truth(prometheus: str, recording: str, signal: str, alert_after_s: float) -> None:
    """Found backwards from an alert half a minute later, within two scrapes of what was done to the server."""
    start, _, began = SPANS[recording]
    assert began is not None
    target = Target(name=recording, url="http://x", match={"instance": f"{recording}:8000"})
    samples = ask(prometheus, signal, target, start, began + alert_after_s)
    points = [(float(at), of_second[0].value) for at, of_second in sorted(samples.items())]
    found = onset(points, began + alert_after_s, "up")
    assert found is not None
    assert abs(found - began) <= 2 * SCRAPE_S


@pytest.mark.parametrize("recording", ["hang_worker", "profile_free"])
def test_a_freeze_began_when_counters_last_moved(prometheus: str, recording: str) -> None:
    """To the scrape: between the last one that brought something new and the one before."""
    start, _, began = SPANS[recording]
    assert began is not None
    target = Target(name=recording, url="http://x", match={"instance": f"{recording}:8000"})
    samples = ask(prometheus, "progress_total", target, start, began + 15)
    found = last_moved([(float(at), s[0].value) for at, s in sorted(samples.items())], began + 15)
    assert found is not None
    assert abs(found - began) <= SCRAPE_S + 1
