"""What holds for every test: tools `make setup` fetched are found, live tests are marked and come last.

A run of all tests has two workers (`-n 2 --dist loadscope --no-loadscope-reorder`): a file is one worker's, what waits
for another program for minutes begins first, and all that is live is one group, since a real vLLM wants a machine. The
live tests marked `unhurried` lead that group and run beside the last of the quick tests."""

from __future__ import annotations

import os
import pathlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

from responder import load
from tests.cluster import Cluster, PostgresMissing, running
from tests.live.harness import figures

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIVE = ROOT / "tests" / "live"
PROMTOOL = "test_prometheus_agrees_with_what_fires_and_what_stays_silent"
"""The test that takes promtool minutes."""
QUICK_BEFORE_LIVE = 0.67
"""The share of the quick tests that two workers begin before the live ones."""

os.environ["PATH"] = f"{os.environ['PATH']}{os.pathsep}{ROOT / '.tools' / 'usr' / 'bin'}"
# As the daemon does before it imports gRPC: its fork handlers abort children that are no program yet.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# A machine that is busy is no mistake of ours: no test is timed. The same examples every time: CI is no lottery.
settings.register_profile(
    "ours", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, print_blob=True
)
settings.load_profile("ours")


@pytest.fixture(autouse=True)
def _every_line_is_logged() -> Iterator[None]:
    """What a command of an earlier test made of the log, such as a level below which nothing is said, ends with it."""
    yield
    structlog.reset_defaults()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Whatever lies in tests/live is live; the quick tests speak first."""
    for item in items:
        live = item.path.is_relative_to(LIVE)
        if live:
            item.add_marker(pytest.mark.live)
            # An experiment on a machine that others use can be spoilt by them; one that fails twice is a failure. The
            # run says RERUN for each, so nothing is hidden.
            item.add_marker(pytest.mark.flaky(reruns=1))
    quick = [item for item in items if not item.get_closest_marker("live")]
    live = [item for item in items if item.get_closest_marker("live")]
    quick.sort(key=lambda item: not item.get_closest_marker("minutes"))
    live.sort(key=lambda item: not item.get_closest_marker("unhurried"))
    # Of two workers one begins with the live tests while the other still has as many quick ones as the unhurried take.
    before = int(len(quick) * QUICK_BEFORE_LIVE) if hasattr(config, "workerinput") else len(quick)
    items[:] = [*quick[:before], *live, *quick[before:]]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What stays together: a file, what is live, what waits for promtool. `loadgroup` would be xdist's word for it; its
    groups do nothing in pytest 9.2, which keeps ids elsewhere."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid)

    return Together(config, log) if config.getvalue("dist") == "loadscope" else None


def together(nodeid: str) -> str:
    """The unit of work that a test belongs to, by its id."""
    file, _, test = nodeid.partition("::")
    if file.startswith("tests/live/"):
        return "live"
    return "promtool" if test.startswith(PROMTOOL) else file


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker's figures are printed by who started it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = figures.LINES


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker has ended."""
    figures.LINES.extend(getattr(node, "workeroutput", {}).get("figures", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the experiments measured: seconds after the fault, for cause and report seconds after opening."""
    if figures.LINES:
        terminalreporter.section("live experiments, seconds", sep="-")
        for line in figures.LINES:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real PostgreSQL for all tests that need one; each makes a database of its own in it."""
    try:
        with running() as made:
            yield made
    except PostgresMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def database(cluster: Cluster) -> str:
    """URL of an empty database."""
    return cluster.new_database(f"t{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="session", autouse=True)
def _shipped_is_read_once() -> Iterator[None]:
    """Reading it takes half a second: what is shipped is read from its files once for all tests, copies each time."""
    real, known = load._found, {}

    def found(paths: load.Paths, *, rules: bool) -> load.Found:
        names = tuple(str(path) for path in paths)
        if not all(pathlib.Path(name).parent == ROOT for name in names):
            return real(names, rules=rules)
        if (names, rules) not in known:
            known[names, rules] = real(names, rules=rules)
        return known[names, rules]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "_found", found)
        yield
