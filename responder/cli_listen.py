"""What does a webhook's receiver see? A listener on this host: a line for each message, its signature checked."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import typer

from responder.notify.webhook import signed_by

MAX_BYTES = 8 << 20


def listener(port: int, secret_file: Path | None, whole: bool) -> ThreadingHTTPServer:
    """Not yet serving. OSError when the port is taken or the secret cannot be read."""
    secret = secret_file.read_text().strip() if secret_file else ""

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802 - the library's name
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if 0 < length <= MAX_BYTES else b""
            try:
                got = json.loads(body)
                line = f"{got['stage']}, revision {got['revision']}: {got['title']}"
            except (ValueError, KeyError, TypeError):
                got, line = None, "no report of ours"
            right = not secret or signed_by(secret, dict(self.headers.items()), body)
            state = "" if not secret else " (signature right)" if right else " (SIGNATURE WRONG)"
            typer.echo(f"{line}{state}")
            if whole and got is not None:
                typer.echo(json.dumps(got, indent=1, ensure_ascii=False))
            self.send_response(204 if right and got is not None else 401 if not right else 400)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Every message has its line already."""

    return ThreadingHTTPServer(("127.0.0.1", port), Hook)


def listen(port: int, secret_file: Path | None, whole: bool) -> int:
    """`responder notify listen`, until Ctrl-C."""
    try:
        server = listener(port, secret_file, whole)
    except OSError as error:
        typer.echo(f"cannot listen on 127.0.0.1:{port}: {error.strerror or error}", err=True)
        return 1
    typer.echo(f"listening: receivers: {{mine: {{kind: webhook, url: 'http://127.0.0.1:{server.server_port}/'}}}}")
    with server:
        server.serve_forever()
    return 0
