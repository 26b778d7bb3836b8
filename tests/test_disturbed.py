"""Is the verdict still right when the evidence is disturbed? Recorded incidents with lost scrapes, clocks that are off,
coarse buckets, several engines, and foreign text that tries to have a say."""

from __future__ import annotations

import json
import lzma
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from responder.capture import STEPS
from responder.config import Config
from responder.content import load
from responder.folder import IncidentFolder
from responder.model import Content, Report, Status
from responder.replay import replay
from responder.report import to_json
from responder.signals import bucket_of
from responder.window import SCRAPED_AT, Values, Window, decode, encode
from tests.hostile import HOSTILE

FOLDER = Path(__file__).parent / "incidents"
RECORDED = ["cpu_engine_stopped", "cpu_frontend_stopped", "cpu_kv_starvation", "cpu_prefix_collapse", "cpu_spike",
            "cpu_worker_stopped", "h200_tp2_rank_stopped"]  # fmt: skip
Disturb = Callable[[str, dict[str, bytes]], Mapping[str, bytes]]


@pytest.fixture(scope="module")
def content() -> Content:
    return load(Config(), STEPS)


def disturbed(name: str, folder: Path, content: Content, disturb: Disturb) -> Report:
    """The report of a recorded incident whose raw files were changed."""
    shutil.copytree(FOLDER / name, folder)
    for path in sorted((folder / "raw").iterdir()):
        files = IncidentFolder(folder).read_raw(path.name)
        shutil.rmtree(path)
        path.mkdir()
        for file, data in disturb(path.name, files).items():
            (path / f"{file}.xz").write_bytes(lzma.compress(data, preset=0))
    return replay(folder, STEPS, content)


def on_windows(change: Callable[[Window], Window]) -> Disturb:
    """A change of every stored metrics window."""

    def disturb(evidence: str, files: dict[str, bytes]) -> Mapping[str, bytes]:
        window = decode(files.get("series.json", b"")) if evidence.startswith("metrics_window") else None
        return files if window is None else files | {"series.json": encode(change(window))}

    return disturb


def truth(name: str) -> str:
    return str(json.loads((FOLDER / name / "truth.json").read_text())["cause"])


def cause_of(report: Report) -> tuple[str, Status]:
    top = report.verdict.hypotheses[0]
    return top.cause, top.status


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("seconds", [-5.0, 5.0])
def test_clocks_that_are_off_by_seconds(name: str, seconds: float, tmp_path: Path, content: Content) -> None:
    """Everything Prometheus says is five seconds early, or late."""

    def shift(window: Window) -> Window:
        stamps = window.signals.get(SCRAPED_AT)
        moved = dict(window.signals)
        if stamps is not None:
            moved[SCRAPED_AT] = tuple(None if at is None else at + seconds for at in stamps)
        return replace(window, start=window.start + seconds, signals=moved)

    assert cause_of(disturbed(name, tmp_path / "i", content, on_windows(shift)))[0] == truth(name)


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("seed", [1, 2])
def test_half_the_scrapes_lost(name: str, seed: int, tmp_path: Path, content: Content) -> None:
    """At random, for all signals of a scrape together."""

    def lose(window: Window) -> Window:
        dice = random.Random(seed)
        kept = [dice.random() < 0.5 for _ in range(window.length)]

        def thin(row: Values) -> Values:
            return tuple(value if keep else None for value, keep in zip(row, kept, strict=True))

        return replace(window, signals={name: thin(row) for name, row in window.signals.items()})

    assert cause_of(disturbed(name, tmp_path / "i", content, on_windows(lose)))[0] == truth(name)


@pytest.mark.parametrize("name", RECORDED)
def test_coarse_buckets(name: str, tmp_path: Path, content: Content) -> None:
    """Every latency quantile is only known to its bucket: its upper edge stands for it."""

    def coarse(window: Window) -> Window:
        def edge(family: str, value: float | None) -> float | None:
            bucket = None if value is None else bucket_of(family, value)
            return value if bucket is None or bucket[1] == float("inf") else bucket[1]

        rows = dict(window.signals)
        for signal, row in window.signals.items():
            family, _, aspect = signal.rpartition("_")
            if aspect in ("p50", "p99"):
                rows[signal] = tuple(edge(family, value) for value in row)
        return replace(window, signals=rows)

    assert cause_of(disturbed(name, tmp_path / "i", content, on_windows(coarse)))[0] == truth(name)


@pytest.mark.parametrize("name", RECORDED)
def test_nothing_from_prometheus(name: str, tmp_path: Path, content: Content) -> None:
    """Hangs are still told from the processes; nothing wrong is ever confirmed."""

    def silent(evidence: str, files: dict[str, bytes]) -> Mapping[str, bytes]:
        return {} if evidence.startswith(("metrics_window", "siblings")) else files

    cause, status = cause_of(disturbed(name, tmp_path / "i", content, silent))
    assert status is not Status.CONFIRMED or cause == truth(name)
    if name.endswith("stopped"):
        assert cause == truth(name)


@pytest.mark.parametrize("name", RECORDED)
def test_two_engines_of_which_one_idles(name: str, tmp_path: Path, content: Content) -> None:
    """Several engines in one process: the sum is what it was, and one of them has nothing to do."""

    def split(window: Window) -> Window:
        idle = {signal: tuple(None if v is None else 0.0 for v in row) for signal, row in window.signals.items()}
        engines = {signal: {"0": row, "1": idle[signal]} for signal, row in window.signals.items()}
        return replace(window, engines=engines)

    assert cause_of(disturbed(name, tmp_path / "i", content, on_windows(split)))[0] == truth(name)


@pytest.mark.parametrize("name", RECORDED)
def test_foreign_text_has_no_say(name: str, tmp_path: Path, content: Content) -> None:
    """Prompts, label values and tracebacks that name causes, give orders or look like our own markup: the verdict is
    the same to the last digit."""
    plain = replay(FOLDER / name, STEPS, content)
    texts = [text.encode("utf-8", "surrogatepass").replace(b"\n", b" ") for text in HOSTILE]

    def speak(evidence: str, files: dict[str, bytes]) -> Mapping[str, bytes]:
        if not evidence.startswith("log_tail") or "log.txt" not in files:
            return files
        lines = files["log.txt"].split(b"\n")
        stamp = next((line[:40] for line in reversed(lines) if line.startswith(b"(") or b"INFO" in line[:60]), b"")
        said = [b"prompt: " + text for text in texts] + [stamp + b" prompt: '" + text + b"'" for text in texts]
        return files | {"log.txt": b"\n".join([*lines[:-1], *said, *lines[-1:]])}

    spoken = disturbed(name, tmp_path / "i", content, speak)
    told = [(h.cause, h.status, h.probability, h.decibans) for h in spoken.verdict.hypotheses]
    assert told == [(h.cause, h.status, h.probability, h.decibans) for h in plain.verdict.hypotheses]
    assert to_json(spoken) == to_json(replay(tmp_path / "i", STEPS, content))
