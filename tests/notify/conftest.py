"""What every notifier test needs: a session, messages of each stage, and a fake Slack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from responder.model import Report
from responder.notify.notifier import Message
from responder.report import summary_text, to_json, to_markdown
from tests.notify.fake_slack import FakeSlack
from tests.sample_report import sample


def message_of(report: Report, **more: Any) -> Message:
    """A report as the outbox hands it over."""
    return Message(
        delivery_id=f"{report.incident.id}.{report.revision}.team",
        incident=report.incident.id,
        revision=report.revision,
        stage=report.stage,
        body=to_json(report),
        text=summary_text(report),
        markdown=to_markdown(report),
        **more,
    )


@pytest.fixture
def message() -> Callable[..., Message]:
    """Messages of the sample incident, by stage."""
    return lambda stage="final", **more: message_of(sample(stage), **more)


@pytest.fixture
async def http():
    """As the daemon's: no default timeout."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        yield session


@pytest.fixture
async def slack():
    """A fake Slack on a free port; every payload it gets is held against the documented limits."""
    fake = FakeSlack()
    async with TestServer(fake.app()) as server:
        fake.base = f"http://127.0.0.1:{server.port}"
        yield fake
    assert fake.violations == []


@pytest.fixture
def charts(tmp_path) -> tuple[str, ...]:
    """Two PNG files and an empty one, which Slack would refuse."""
    for name, content in (("1-kv_usage.png", b"\x89PNG kv"), ("2-ttft_p99.png", b"\x89PNG ttft"), ("3-empty.png", b"")):
        (tmp_path / name).write_bytes(content)
    return tuple(str(path) for path in sorted(tmp_path.glob("*.png")))
