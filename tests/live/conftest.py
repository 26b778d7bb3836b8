"""What do live tests share? One vLLM server at a time, kept between tests; starting one takes half a minute."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator

import pytest

from tests.live.harness import find
from tests.live.harness.watched import Servers


@pytest.fixture(scope="session", autouse=True)
def _vllm_is_set_up() -> None:
    """CI sets vLLM up beside the other tests, under this lock (`scripts/setup-vllm`)."""
    lock = find.CACHE / "setup-vllm.lock"
    if lock.exists():
        with lock.open() as held:
            fcntl.flock(held, fcntl.LOCK_SH)
    find.vllm_python()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Real vLLM servers."""
    pool = Servers(tmp_path_factory.mktemp("vllm"))
    yield pool
    pool.end()
