"""Does the test message prove a receiver, and can nobody take it for an incident?"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from responder.cli_listen import listener
from responder.cli_notify import sample, tell_receiver
from responder.words import ENGLISH, language


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]], list[int]]]:
    """A webhook's receiver: its URL, what it got, and the status it answers."""
    got: list[dict[str, Any]] = []
    status = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802 - the library's name
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status[0])
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", got, status
    server.shutdown()
    server.server_close()
    thread.join()


def config(folder: Path, url: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(f"receivers: {{oncall: {{url: '{url}'}}}}\n")
    return path


def test_a_receiver_gets_it_opened_and_resolved(hook: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pager must not be left ringing."""
    url, got, _ = hook
    assert tell_receiver("oncall", config(tmp_path, url)) == 0
    assert [(body["stage"], body["incident"]["state"]) for body in got] == [("first", "open"), ("resolved", "resolved")]
    told = capsys.readouterr().out
    assert f"oncall (webhook, {url.rstrip('/')}): resolved message delivered" in told
    assert {body["title"] for body in got} == {"This is only a TEST. Nothing is broken."}
    assert "Not known" not in json.dumps([body["says"] for body in got])


def test_a_failure_is_told(hook: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the receiver's answer, as exit code 1."""
    url, _, status = hook
    status[0] = 403
    assert tell_receiver("oncall", config(tmp_path, url)) == 1
    assert f"NOT DELIVERED to oncall (webhook, {url.rstrip('/')}): HTTP 403" in capsys.readouterr().err


def test_a_secret_that_cannot_be_read_is_said_before_anything_is_sent(
    hook: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its path."""
    url, got, _ = hook
    file = config(tmp_path, url)
    file.write_text(file.read_text().replace("}}", ", secret_file: no_such_file}}"))
    assert tell_receiver("oncall", file) == 2
    assert "no_such_file cannot be read: No such file or directory" in capsys.readouterr().err
    assert got == []


@pytest.mark.parametrize(("theirs", "state"), [("whsec_c2VjcmV0", "signature right"), ("whsec_b3RoZXI=", "WRONG")])
def test_our_own_listener_shows_what_arrives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], theirs: str, state: str
) -> None:
    """A line for each message; one with another signature is refused."""
    (tmp_path / "theirs").write_text(theirs)
    server = listener(0, tmp_path / "theirs", whole=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        file = config(tmp_path, f"http://127.0.0.1:{server.server_port}/")
        file.write_text(file.read_text().replace("}}", ", secret: whsec_c2VjcmV0}}"))
        tell_receiver("oncall", file)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    told = capsys.readouterr().out
    assert f"first, revision 1: This is only a TEST. Nothing is broken. ({state}" in told.replace("SIGNATURE ", "")


def test_a_receiver_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which ones there are."""
    assert tell_receiver("pager", config(tmp_path, "http://x")) == 2
    assert "there are: oncall" in capsys.readouterr().err


@pytest.mark.parametrize(("spoken", "word"), [(ENGLISH, "TEST"), (language("zh"), "测试")])
def test_everything_people_read_says_that_it_is_a_test(spoken: Any, word: str) -> None:
    """Title, text, class and cause."""
    message = sample("pager", "first", 1_795_144_360.0, spoken)
    assert word in message.text.splitlines()[0]
    assert message.report["incident"]["severity"] == "info"
    assert message.report["incident"]["target"] == "TEST"
