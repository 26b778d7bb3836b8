"""Does an Alertmanager take our incidents, keep one alert for each, and see them end?"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from responder.notify.alertmanager import Alertmanager, AlertmanagerReceiver, alert
from tests.live.harness.find import NotInstalled, binary
from tests.notify.conftest import message_of
from tests.sample_report import ONSET, hostile, sample

TEMPLATES = Path("/usr/share/prometheus/alertmanager/default.tmpl")
"""Where Debian's build looks for its templates, whatever its flags say."""
NOW = ONSET + 30


def settings(url="http://127.0.0.1:9093/", **more):
    """With a label of the operator's."""
    return AlertmanagerReceiver(url=url, labels={"team": "inference"}, **more)


def test_labels_name_the_incident_and_nothing_that_changes(message):
    """Another label set is another alert to Alertmanager."""
    found = [alert(message(stage), NOW, settings()) for stage in ("first", "update", "final", "resolved")]
    assert len({json.dumps(one["labels"], sort_keys=True) for one in found}) == 1
    assert found[0]["labels"]["alertname"] == "VLLMIncident"
    assert found[0]["labels"]["team"] == "inference"


def test_an_open_incident_lasts_and_a_resolved_one_has_its_end(message):
    """Alertmanager ends what it hears nothing of, so the end of an open one is far ahead."""
    assert alert(message("final"), NOW, settings())["endsAt"].startswith("2026-11-21T03:13:10")
    assert alert(message("resolved"), NOW, settings())["endsAt"] == "2026-11-20T03:23:46.000Z"


@pytest.mark.parametrize("name", ["team-a", "1st", "a b", ""])
def test_a_label_that_alertmanager_refuses_is_refused_when_written(name):
    """Not with every incident, by a 400 that nobody reads."""
    with pytest.raises(ValueError, match="is no label name"):
        AlertmanagerReceiver(url="http://127.0.0.1:9093", labels={name: "x"})


@pytest.mark.parametrize("text", ["", "<x>\n\x00", "a" * 4000])
def test_foreign_words_are_plain(text):
    """Labels and annotations are single printable lines."""
    found = alert(message_of(hostile(text or "x")), NOW, settings())
    assert all(value.isprintable() and value for value in found["labels"].values())


@pytest.fixture
async def server(tmp_path):
    """A real Alertmanager on a free port."""
    try:
        tool = Path(binary("prometheus-alertmanager")).resolve()
    except NotInstalled as missing:
        pytest.skip(str(missing))
    (tmp_path / "am.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(tool), f"--config.file={tmp_path}/am.yml", f"--storage.path={tmp_path}/data",
               f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]  # fmt: skip
    if not TEMPLATES.exists():
        # Unpacked, not installed: give it a /usr/share of its own, seen by nobody else.
        ours = tool.parents[1] / "share/prometheus/alertmanager"
        mount = (
            f"mount -t tmpfs none /usr/share && mkdir -p {TEMPLATES.parent.parent} && cp -r {ours} {TEMPLATES.parent}"
        )
        command = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh", *command]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             env={"PATH": os.environ["PATH"]})  # fmt: skip
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            break
        if child.poll() is not None:
            pytest.skip("Alertmanager does not start here (it is unpacked, and `unshare -rm` is not allowed)")
        await asyncio.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    child.terminate()
    child.wait(10)


async def alerts(http, base):
    """What it holds, once it answers."""
    async with asyncio.timeout(30):
        while True:
            try:
                async with http.get(f"{base}/api/v2/alerts") as answer:
                    return await answer.json()
            except OSError:
                await asyncio.sleep(0.05)


@pytest.mark.prometheus
async def test_a_real_alertmanager_holds_one_alert_until_the_end(server, http):
    """Opened, told again, resolved: as its own API shows it."""
    import time

    shift = time.time() - ONSET - 60
    assert await alerts(http, server) == []
    notifier = Alertmanager("am", settings(server))
    for stage in ("first", "final"):
        report = sample(stage)
        incident = report.incident.model_copy(update={"onset_at": report.incident.onset_at + shift})
        told = message_of(report.model_copy(update={"incident": incident}))
        assert (await notifier.send(http, told)).outcome == "delivered"
    (held,) = await alerts(http, server)
    assert held["labels"]["incident"] == "inc-20261120-031304-7f3a"
    assert held["status"]["state"] in ("active", "unprocessed")
    over = sample("resolved")
    ended = {"onset_at": over.incident.onset_at + shift, "resolved_at": time.time() - 1}
    told = message_of(over.model_copy(update={"incident": over.incident.model_copy(update=ended)}))
    assert (await notifier.send(http, told)).outcome == "delivered"
    assert await alerts(http, server) == []
