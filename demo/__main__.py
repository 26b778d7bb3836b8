"""What does the responder do when a real vLLM gets into real trouble? Makes the trouble and shows the answer.

A tiny model on the CPU gets too little KV cache, its clients ask for long answers, work is thrown away and done again.
Nothing here is staged: the same daemon, rules and playbooks watch it as would watch yours. Ends all it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import signal
import sys
import time
from collections.abc import AsyncIterator

from rich.console import Console
from rich.rule import Rule
from rich.status import Status
from rich.text import Text

from responder.report_words import outcome_words
from responder.terminal import show_markdown
from tests.live.harness import find, scenarios
from tests.live.harness.daemon import Daemon
from tests.live.harness.play import Play, measure_capacity
from tests.live.harness.receiver import Received, Report, WebhookReceiver, tell
from tests.live.harness.vllm_server import VllmServer

USUAL_S = 40.0
FOUND_WITHIN_S = 90.0
RESOLVED_WITHIN_S = 180.0
SCENARIO = scenarios.KV_STARVATION
console = Console(highlight=False, soft_wrap=True)


class Clock:
    """Prefixes every line with the seconds since the trouble began (or until it does)."""

    def __init__(self) -> None:
        self.began: float | None = None

    def says(self, text: str, style: str = "") -> None:
        """One line of the story."""
        mark = "" if self.began is None else f"{time.time() - self.began:+.1f}s"
        console.print(
            Text.assemble((f"{mark:>7}  ", "dim"), (text, style))
        )  # no markup: vLLM's words may hold brackets


async def main() -> int:
    """The whole demonstration; 0 when the daemon named the true cause."""
    folder = find.ROOT / "demo-data" / time.strftime("run-%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    clock = Clock()
    console.print(Rule("responder: a real incident on a real vLLM"))
    with console.status("starting vLLM on the CPU with room for 4,096 tokens of KV cache (half a minute)"):
        server = VllmServer(folder, SCENARIO.server)
        server.start()
    try:
        clock.says(
            f"vLLM serves at {server.url} (started in {server.started_in_s:.0f} s), its log is {_short(server.log)}"
        )
        # Before anybody watches: the measurement fills the server, and what the daemon sees first it takes for usual.
        with console.status("measuring how much the server can answer (some seconds)"):
            scenario = SCENARIO.on(await measure_capacity(server, scenarios.USUAL))
        async with WebhookReceiver() as receiver:
            with Daemon(folder, server.url, None, receiver.url, thresholds=SCENARIO.thresholds) as daemon:
                clock.says(
                    f"responder run --target {server.url}: ready in {daemon.started_in_s:.1f} s, private Prometheus"
                )
                async with Play(scenario, server) as play:
                    return await _story(clock, server, receiver, daemon, play)
    finally:
        server.end()
        clock.says("everything that was started has ended")


async def _story(clock: Clock, server: VllmServer, receiver: WebhookReceiver, daemon: Daemon, play: Play) -> int:
    usual, during = play.scenario.usual, play.scenario.during
    async with _watching(
        f"usual traffic for {USUAL_S:.0f} s: {usual.rate:.1f} requests/s of {usual.output_tokens} tokens", server
    ):
        await asyncio.sleep(USUAL_S)
    felt = play.felt("usual")
    clock.says(f"all is well: {felt.answered} answers, first token after {_s(felt.ttft_p50)} (p99 {_s(felt.ttft_p99)})")
    async with play.fault() as began:
        clock.began = began
        clock.says(
            f"now {during.rate:.1f} requests/s of {during.output_tokens} tokens: more than the KV cache can hold",
            "bold red",
        )
        async with _watching("waiting for the daemon to notice", server):
            first = await receiver.first(lambda r: r["incident"]["state"] == "open", within_s=FOUND_WITHIN_S)
        _tell_first(clock, first)
        async with _watching("capturing and weighing", server):
            final = await receiver.first(lambda r: r["stage"] == "final", within_s=FOUND_WITHIN_S)
        _tell_final(clock, final)
        report = (_folder(daemon, final.body) / "report.md").read_text()
    felt = play.felt("fault")
    clock.says(f"meanwhile clients waited {_s(felt.ttft_p50)} for a first token (p99 {_s(felt.ttft_p99)})")
    clock.says("traffic back to usual; the report as it was then:", "bold green")
    console.print(Rule("report"))
    show_markdown(report, console.is_terminal)
    console.print(Rule())
    try:
        async with _watching("waiting for the queue to drain and the incident to be resolved", server):
            await receiver.first(lambda r: r["incident"]["state"] == "resolved", within_s=RESOLVED_WITHIN_S)
        clock.says(f"resolved; {len(receiver.received)} messages were sent in all", "bold green")
    except AssertionError:
        clock.says(f"not resolved within {RESOLVED_WITHIN_S:.0f} s: {tell(receiver.reports[-1])}", "bold red")
    folder = _short(_folder(daemon, final.body))
    console.print(f"incident folder: {folder}  (report.html, report.md, report.json, charts/, raw/)")
    console.print(f"the same verdict from the stored bytes: .venv/bin/responder replay {folder}")
    return 0 if final.body["hypotheses"][0]["cause"] in SCENARIO.causes else 1


def _tell_first(clock: Clock, first: Received) -> None:
    incident = first.body["incident"]
    clock.says(f"incident {incident['id']} reported: {incident['class']}, {incident['severity']}", "bold yellow")
    for symptom in first.body["symptoms"]:
        clock.says(f"    {symptom['alert']}: {symptom['summary']}")


def _tell_final(clock: Clock, final: Received) -> None:
    clock.says("captures", "bold yellow")
    for capture in final.body["captures"]:
        ended = outcome_words(capture["status"])
        says = f"{capture['step']:16} rung {capture['rung']}  {ended:11} {capture['seconds'] or 0:5.2f} s"
        clock.says(f"    {says} {capture['reason']}")
    lead = final.body["hypotheses"][0]
    clock.says(f"first cause: {lead['cause']} ({lead['status']}, p = {lead['probability']:.2f})", "bold yellow")
    detected, report = final.body["timings"]["detected_s"], final.body["timings"]["report_s"]
    clock.says(f"detected {_s(detected)} after the onset it found in the data, complete {_s(report)} after opening")


def _folder(daemon: Daemon, report: Report) -> pathlib.Path:
    return daemon.data_dir / "incidents" / str(report["incident"]["id"])


@contextlib.asynccontextmanager
async def _watching(what: str, server: VllmServer) -> AsyncIterator[None]:
    """A spinner with what vLLM says of itself once a second."""
    with console.status(what) as status:
        task = asyncio.create_task(_refresh(status, what, server))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _refresh(status: Status, what: str, server: VllmServer) -> None:
    while True:
        with contextlib.suppress(OSError):
            text = await asyncio.to_thread(server.metrics)
            running, waiting = _value(text, "vllm:num_requests_running"), _value(text, "vllm:num_requests_waiting")
            kv, thrown = _value(text, "vllm:kv_cache_usage_perc"), _value(text, "vllm:num_preemptions_total")
            now = f"running {running:.0f}, waiting {waiting:.0f}, KV cache {kv:.0%}, preemptions {thrown:.0f}"
            status.update(f"{what}  [dim]({now})[/dim]")
        await asyncio.sleep(1)


def _value(text: str, name: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name + "{"))


def _s(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def _short(path: pathlib.Path) -> pathlib.Path:
    return path.relative_to(pathlib.Path.cwd()) if path.is_relative_to(pathlib.Path.cwd()) else path


async def _until_told_to_stop() -> int:
    """SIGTERM ends it as Ctrl-C does: through every `finally`."""
    task = asyncio.ensure_future(main())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return 130


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(_until_told_to_stop()))
    except (find.NotInstalled, AssertionError, RuntimeError) as failure:
        console.print(f"[bold red]the demonstration failed:[/bold red] {failure}")
        sys.exit(1)
