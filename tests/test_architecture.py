"""The architecture as a test: who may import whom, no clock or I/O in the core, sizes, registrations."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "responder"

# What is not listed here is an edge: it may do I/O, and may import the core but no other edge.
CORE = {
    "model", "model.authored", "model.concluded", "model.done", "model.noun", "model.told", "model.watched",
    "model.wrong", "moments",
    "signals", "signal_words", "spelling", "pace", "rules", "evaluate", "holding", "alertmanager", "onset",
    "correlate", "plan",
    "redact", "redact_text", "spans", "diagnose", "claims", "classes", "report", "report_json", "report_markdown",
    "report_html", "report_words", "report_facts", "report_answers", "report_rows", "report_signals", "report_style",
    "report_commands",
    "exposition", "statsline", "logsigns", "waiting", "titles", "gpu_text", "window", "windowfacts", "lengths", "stops",
    "slowing", "serverconfig",
    "launchargs", "problems", "located", "validation", "authored", "written", "assemble", "crosscheck", "rule_files",
    "canaries", "canaries.pins", "canaries.compare", "bisect", "bisect.changes", "bisect.story", "capture.step",
    "ringfile", "stepstory", "recorder", "recorder.layout", "requests.record", "requests.explain",
    "requests.bursts", "stackfacts", "flame", "smi_text", "plainpickle", "remote", "harm", "profiling",
    "told", "store", "store_db", "store_tables", "store_work", "shares", "table", "judge",
    "config_places", "overrides", "units", "authoring", "authoring.testfile", "authoring.series", "authoring.judge",
    "authoring.climb", "authoring.testnames", "authoring.scaffold",
    "routes", "routing", "words", "words.en", "words.zh", "signal_names", "signal_names.en", "signal_names.zh",
    "fact_words", "fact_words.en", "fact_words.zh",
    "page_words", "page_words.en", "page_words.zh", "terminal_words", "terminal_words.en", "terminal_words.zh",
    "scenes", "manifest",
    "absence", "cover", "beside", "stepwork", "batchslope", "rush", "changes", "expected", "worth",
    "backtest", "backtest.times", "backtest.find", "backtest.scan", "backtest.walk", "backtest.alerts",
    "backtest.vanished", "backtest.tally", "fingerprint", "remedies",
    "store_look", "kept", "receipts", "turned", "report_changed",
    "report_harm", "report_unknown",
    "report_trace", "traces.shown", "traces.drawing", "traces.kernels", "traces.numbers",
    "traces.pagestyle",
}  # fmt: skip
WIRING = {
    "surplus",
    "overview",
    "loaded",
    "authoring.command",
    "authoring.cli",
    "authoring.history",
    "authoring.given",
    "authoring.silence",
    "authoring.new",
    "authoring.reference",
    "resume",
    "missed",
    "moments",
    "learner",
    "ledger",
    "explain",
    "cli_check",
    "cli_silences",
    "spoken_there",
    "cli_verdicts",
    "cli_hand",
    "cli_listen",
    "cli_books",
    "first",
    "fleet",
    "agent",
    "agents",
    "cli_agent",
    "known_values",
    "sharing",
    "where",
    "pressed",
    "cli_notify",
    "offers",
    "safety",
    "carefully",
    "asking",
    "byhand",
    "cli_capture",
    "cli_captures",
    "app",
    "upkeep",
    "respond",
    "perform",
    "publish",
    "case",
    "watch",
    "roster",
    "configured",
    "answers",
    "known",
    "cli",
    "__main__",
    "replay",
    "collect",
    "content",
    "outbox",
    "canaries.command",
    "bisect.command",
    "onsets",
    "backtest.past",
    "backtest.look",
    "backtest.run",
    "backtest.sight",
    "backtest.command",
}
"""Here edges meet."""
SHARED_EDGES = {
    "config_values",
    "config_shared",
    "config_http",
    "config_prometheus",
    "config_overrides",
    "artifacts",
    "nsight",
    "profilesession",
    "ask",
    "canary",
    "canaries.ask",
    "proc",
    "aside",
    "runner",
    "load",
    "config",
    "folder",
    "killpoint",
    "store_reserve",
    "charts_curves",
    "charts_draw",
    "charts_labels",
    "charts_shapes",
    "ptrace",
    "pyspy",
    "halting",
    "silence_files",
    "snapshot",
    "runner_ssh",
    "runner_pod",
    "startuplog",
    "traces",
    "traces.analyse",
    "traces.facts",
}
"""Neutral ways into the world that several edges share; each has one job and imports no edge but another of these."""
ONE_IMPORTER = {
    "psycopg": {"postgres"},
    "psycopg_pool": {"postgres"},
    "boto3": {"artifacts_s3"},
    "botocore": {"artifacts_s3"},
    "prometheus_api_client": {"metrics"},
    "yaml": {"load"},
    "apscheduler": {"rounds"},
    "matplotlib": {"charts_curves", "charts_draw", "charts_shapes", "charts", "traces"},
    "apprise": {"notify.apprise"},
    "slack_sdk": {"notify.slack_api", "notify.slack_bot", "notify.slack_clicks"},
    "standardwebhooks": {"notify.webhook"},
    "asyncssh": {"runner_ssh"},
    "pynvml": {"nvml_probe"},
    "typer": {
        "authoring",
        "__main__",
        "cli",
        "cli_notify",
        "cli_capture",
        "cli_captures",
        "cli_agent",
        "cli_check",
        "cli_silences",
        "cli_verdicts",
        "cli_hand",
        "cli_listen",
        "cli_books",
        "traces",
        "requests",
        "canaries",
        "bisect",
        "backtest",
    },
}
NO_CORE = {"time", "datetime.now", "os", "socket", "subprocess", "asyncio", "logging", "structlog", "aiohttp",
           "pathlib", "shutil", "random", "threading", "requests", "sqlite3"}  # fmt: skip
MAX_FILE, MAX_FUNCTION = 400, 70
DECLARATIONS = {"words.zh": 640}
"""Words of one language are read as one list; there is no logic in it to get lost in."""


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__") or "__init__"] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> set[str]:
    """Absolute names of all imports; those only for type checkers do not count."""
    found: set[str] = set()
    skip: set[ast.AST] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skip |= set(ast.walk(node))
    for node in ast.walk(tree(path)):
        if node in skip:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def ours(path: Path) -> set[str]:
    """Our modules a file imports."""
    names = {i.removeprefix("responder.") for i in imports(path) if i.startswith("responder.")}
    return {n for n in names if n in modules()}


def top(name: str) -> str:
    return name.split(".", 1)[0]


def of_core() -> list[str]:
    return sorted(name for name in modules() if name in CORE)


@pytest.mark.parametrize("name", of_core())
def test_the_core_is_pure(name: str) -> None:
    """Values in, values out: no clock, disk, network, logger; imports only the core."""
    path = modules()[name]
    outside = {top(i) for i in imports(path)} & NO_CORE
    allowed = {"capture.step": {"aiohttp"}}.get(name, set())
    assert outside - allowed == set()
    assert {n for n in ours(path) if n not in CORE and n not in {"capture", "notify"}} == set()


def test_the_model_imports_nothing_of_ours() -> None:
    """The nouns stand alone, and everybody takes them from one place: a file that is forgotten there is no noun."""
    parts = {name for name in modules() if name.startswith("model.")}
    assert parts
    assert {other for name in parts for other in ours(modules()[name])} <= parts
    assert ours(modules()["model"]) == parts


def test_edges_do_not_import_each_other() -> None:
    """They meet in the wiring, or share one of the neutral ways into the world."""
    wrong = []
    for name, path in modules().items():
        if name in CORE or name in WIRING or top(name) in ("traces", "requests", "recorder", "__init__"):
            continue
        package = name.rsplit(".", 1)[0] if "." in name else name
        for other in ours(path):
            siblings = other == package or other.startswith(f"{package}.") or top(other) == top(name)
            if not (other in CORE or other in SHARED_EDGES or siblings):
                wrong.append(f"{name} imports {other}")
    assert wrong == []


def test_capture_steps_do_not_import_each_other() -> None:
    """Interchangeable siblings with one signature, step.py; two that share bytes share a module outside."""
    names = [n for n in modules() if n.startswith("capture.") and n != "capture.step"]
    wrong = [(n, o) for n in names for o in ours(modules()[n]) if o.startswith("capture.") and o != "capture.step"]
    assert wrong == []


@pytest.mark.parametrize("package", sorted(ONE_IMPORTER))
def test_a_dependency_has_one_importer(package: str) -> None:
    """So that replacing it is one file's work."""
    users = {n for n, p in modules().items() if any(top(i) == package for i in imports(p))}
    allowed = ONE_IMPORTER[package]
    assert {u for u in users if u not in allowed and top(u) not in allowed} == set()


def test_reading_a_step_is_pure() -> None:
    """`read` functions and what they call in the same file use no clock and open no file."""
    wrong = []
    for name, path in modules().items():
        if not name.startswith("capture.") or name == "capture.step":
            continue
        functions = {n.name: n for n in tree(path).body if isinstance(n, ast.FunctionDef)}
        todo, seen = ["read"], set()
        while todo:
            current = todo.pop()
            if current in seen or current not in functions:
                continue
            seen.add(current)
            for node in ast.walk(functions[current]):
                if isinstance(node, ast.Name):
                    todo.append(node.id)
                if isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "time.monotonic"):
                    wrong.append(f"{name}.{current} reads the clock")
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "open":
                    wrong.append(f"{name}.{current} opens a file")
    assert wrong == []


def test_nobody_waits_in_a_way_that_swallows_a_cancellation() -> None:
    """Python 3.11's `asyncio.wait_for` does where what it waits for comes at that moment: such a task never ends."""
    assert [name for name, path in modules().items() if ".wait_for(" in path.read_text()] == []


def test_every_capture_step_and_notifier_is_registered() -> None:
    """A file nobody registered is a step nobody runs."""
    from responder.capture import STEPS
    from responder.notify import KINDS

    files = {n.split(".")[1] for n in modules() if n.startswith("capture.") and n != "capture.step"}
    assert files == set(STEPS)
    notifiers = {n.split(".")[1] for n in modules() if n.startswith("notify.")} - {
        "notifier",
        "slack_blocks",
        "slack_api",
        "slack_clicks",
        "digest",
    }
    assert notifiers == set(KINDS)


def test_steps_declare_what_they_deliver() -> None:
    """Declared facts carry the step's subject; rungs, caps and deadlines are set."""
    from responder.capture import STEPS

    for step in STEPS.values():
        assert step.facts, step.name
        assert len({spec.name for spec in step.facts}) == len(step.facts), step.name
        assert step.rung in (0, 1, 2, 3)
        assert 0 < step.timeout_s <= 60
        assert 0 < step.max_bytes <= 64 << 20
        assert step.rung > 0 or step.worst_pause_s == 0, step.name


def functions() -> list[tuple[str, int]]:
    out = []
    for name, path in modules().items():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                out.append((f"{name}.{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1))
    return out


def test_files_and_functions_stay_readable() -> None:
    """One file, one question: at most 400 lines; functions at most 70, nine in ten under 30."""
    long_files = {n: len(p.read_text().splitlines()) for n, p in modules().items()}
    assert {n: count for n, count in long_files.items() if count > DECLARATIONS.get(n, MAX_FILE)} == {}
    lengths = functions()
    assert [f for f in lengths if f[1] > MAX_FUNCTION] == []
    assert sorted(length for _, length in lengths)[int(len(lengths) * 0.9)] < 30


def test_every_module_opens_with_its_question_and_nothing_is_called_utils() -> None:
    """The docstring of a file says what it answers."""
    for name, path in modules().items():
        assert ast.get_docstring(tree(path)), f"{name} has no docstring"
        assert not set(name.split(".")) & {"utils", "common", "helpers", "base", "manager", "service"}


def test_importing_the_daemon_loads_no_heavy_library() -> None:
    """matplotlib, numpy, pandas, torch, grpc belong in children or behind a switch: the daemon must stay small."""
    import subprocess
    import sys

    heavy = ("matplotlib", "numpy", "pandas", "torch", "grpc", "vllm", "psycopg", "boto3")
    code = f"import sys, responder.app; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
