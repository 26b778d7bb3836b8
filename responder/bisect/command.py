"""What does `responder bisect` run, judged by what, and where may it run?

Exit 0: a verdict that names something. 1: none (could not start, not reproduced, nothing heals). 2: asked wrongly.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shlex
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from responder import inventory
from responder.bisect.changes import NAMES, REFERENCE, Launch, clean, steps
from responder.bisect.reference import NoReference
from responder.bisect.run import Bisection
from responder.bisect.story import State, Verdict
from responder.canaries.command import choose, settings
from responder.canaries.pins import DEFAULT_PROMPTS, Answer, Pin, Prompt, Record
from responder.canaries.prompts import read_prompts
from responder.canaries.stored import Shelf
from responder.config import Config, seconds
from responder.model import Inventory

OK, NOTHING, CONTENT = 0, 1, 2
TOKENS_ONLY_TOLERANCE = 0.5


@dataclass(frozen=True)
class Wish:
    """The command line."""

    target: str | None
    command: str | None
    cases: Path | None
    only: Sequence[str]
    unquantized_model: str | None
    start_timeout: str
    same_host: bool
    fresh: bool


def bisect_command(wish: Wish, file: Path | None, data_dir: Path | None) -> int:
    """`responder bisect`."""
    if not wish.target and not wish.command:
        raise ValueError("give --target (its launch command and recorded canaries) or --command, or both")
    wrong = [name for name in wish.only if name not in NAMES]
    if wrong:
        raise ValueError(f"no change is called {wrong[0]!r}; there are {', '.join(NAMES)}")
    config = settings(file, wish.target, data_dir)
    launch = asyncio.run(_launch(wish, config))
    prompts, reference, words = _cases(wish, config)
    wishes = {"unquantized_model": wish.unquantized_model or ""}
    plan = tuple(step if not wish.only or step.name in wish.only
                 else step.model_copy(update={"launch": None, "skipped": "not among --only"})
                 for step in steps(launch, device_of(launch), wishes))  # fmt: skip
    timeout = seconds(wish.start_timeout)
    if not isinstance(timeout, float):
        raise ValueError(f"{wish.start_timeout!r} is not a duration; write for example 15m")
    state = _state(config.data_dir, launch, prompts, words, wish.fresh)
    folder = config.data_dir / "bisect" / state.id
    typer.echo(f"bisection {state.id}: {len([s for s in plan if s.launch])} changes to try, {len(prompts)} cases, "
               f"right answers: {words}\n  {shlex.join(launch.argv)}")  # fmt: skip
    work = Bisection(launch, plan, prompts, reference, state, folder, timeout, typer.echo,
                     transformers=not wish.only or REFERENCE in wish.only)  # fmt: skip
    try:
        verdict = asyncio.run(_to_the_end(work))
    except NoReference as error:
        typer.echo(f"nothing to judge by: {error}", err=True)
        return CONTENT
    except (asyncio.CancelledError, KeyboardInterrupt):
        typer.echo("interrupted; the same command goes on from here", err=True)
        return NOTHING
    typer.echo(f"\n{verdict.says}\nreport: {folder / 'report.md'}")
    return OK if verdict.status in ("found", "weights", "vllm") else NOTHING


async def _to_the_end(work: Bisection) -> Verdict:
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        # Beside the main thread, or on a loop without signals, Python's own KeyboardInterrupt has to do.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, task.cancel)
    return await task


async def _launch(wish: Wish, config: Config) -> Launch:
    """The command to copy. ValueError when it cannot be known, or must not run here."""
    known: Inventory | None = None
    if wish.target:
        known = await inventory.discover(choose(config, wish.target), time.time())
    if wish.command:
        argv = tuple(shlex.split(wish.command))
    elif known is not None and known.command:
        argv = known.command
        if any(inventory.MASKED in word for word in argv):
            raise ValueError("the target's command line holds a secret, which we do not keep: give --command")
    else:
        why = known.why_not if known else ""
        raise ValueError(f"the target's launch command cannot be seen from here ({why}): give --command")
    launch = clean(Launch(argv=argv, environment=dict(known.environment) if known and not wish.command else {}))
    here = known is not None and known.local and bool(known.processes)
    if here and device_of(launch) != "cpu" and not wish.same_host:
        raise ValueError("the sick server runs on this host and holds its accelerator: bisect on another machine with "
                         "--command, or here with --same-host when there is room for a second copy")  # fmt: skip
    return launch


def device_of(launch: Launch) -> str:
    """cpu, rocm or cuda, by what the command and the host say."""
    environment = launch.environment
    if environment.get("VLLM_TARGET_DEVICE") == "cpu" or not (
        Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()
    ):
        return "cpu"
    return "rocm" if Path("/dev/kfd").exists() else "cuda"


def _cases(wish: Wish, config: Config) -> tuple[tuple[Prompt, ...], Record | None, str]:
    """What to ask, and the right answers: given with the cases, else recorded, else transformers'."""
    recorded: Record | None = None
    if wish.target:
        records = Shelf(config.data_dir).of(choose(config, wish.target).name)
        recorded = records[0] if records else None
    if wish.cases is None:
        if recorded is None:
            return DEFAULT_PROMPTS, None, "Hugging Face transformers"
        return tuple(pin.prompt for pin in recorded.pins), recorded, "recorded canaries"
    prompts = read_prompts(wish.cases)
    given = _given(wish.cases, prompts)
    if given is not None:
        return prompts, given, f"tokens given in {wish.cases}"
    return prompts, None, "Hugging Face transformers"


def _given(path: Path, prompts: Sequence[Prompt]) -> Record | None:
    """Right answers in the case file: `tokens` in every line, or in none."""
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    rows = [json.loads(line) if line.lstrip().startswith("{") else {} for line in lines]
    tokens = [row.get("tokens") for row in rows]
    if not any(tokens):
        return None
    pins = []
    for prompt, answer in zip(prompts, tokens, strict=True):
        if not isinstance(answer, list) or not answer or not all(isinstance(token, int) for token in answer):
            raise ValueError(f"{path}: case {prompt.id} has no `tokens` (a list of token ids), but others have")
        pins.append(Pin(prompt=prompt, answer=Answer(prompt=prompt.id, tokens=tuple(answer)),
                        tolerance=TOKENS_ONLY_TOLERANCE, stable=min(len(answer), prompt.max_tokens)))  # fmt: skip
    return Record(target="bisect", model="", fingerprint={}, at=0.0, pins=tuple(pins))


def _state(data_dir: Path, launch: Launch, prompts: Sequence[Prompt], words: str, fresh: bool) -> State:
    """The state of an interrupted bisection of the same command and cases, or a new one."""
    said = json.dumps([launch.argv, sorted(launch.environment.items()), [p.model_dump() for p in prompts], words])
    name = hashlib.sha256(said.encode()).hexdigest()[:10]
    folder = data_dir / "bisect" / name
    if not fresh and not (folder / "report.json").exists():
        with contextlib.suppress(OSError, ValueError):
            return State.model_validate_json((folder / "state.json").read_bytes())
    for old in ("report.json", "report.md", "state.json"):
        (folder / old).unlink(missing_ok=True)
    return State(id=name, command=launch.argv, reference=words, began_at=time.time())
