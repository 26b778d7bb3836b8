"""How is Hugging Face transformers asked? In vLLM's own Python, as a child with a deadline."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

from responder.bisect.changes import Launch
from responder.bisect.server import python_of
from responder.canaries.pins import TOP, Answer, Prompt
from responder.launchargs import options_of

SCRIPT = Path(__file__).with_name("transformers_reference.py")
TIMEOUT_S = 3600.0
TOLERANCE_NATS = 0.05
"""What another implementation may differ by in good health: vLLM and transformers were 0.01 nats apart on a bfloat16
model on a CPU, and cached prefixes mixed up on purpose moved the same answers by 0.11."""


class NoReference(Exception):
    """Why transformers gave no answers, in words."""


def model_of(launch: Launch) -> str:
    """The model of a launch command: `--model X`, or the word after `serve`."""
    found = options_of(launch.argv).get("model")
    if found:
        return found
    words = list(launch.argv)
    if "serve" in words and words.index("serve") + 1 < len(words):
        return words[words.index("serve") + 1]
    raise NoReference("the launch command names no model")


async def transformers_answers(launch: Launch, prompts: Sequence[Prompt]) -> tuple[Answer, ...]:
    """The answers, case by case. NoReference in words."""
    python = python_of(launch)
    if python is None:
        raise NoReference(f"{launch.argv[0]} is no Python and names none, so transformers cannot be found")
    options = options_of(launch.argv)
    wanted = {
        "model": model_of(launch), "tokenizer": options.get("tokenizer"), "device": "cpu", "top": TOP,
        "dtype": options.get("dtype", "auto"),
        "cases": [{"id": p.id, "text": p.text, "max_tokens": p.max_tokens} for p in prompts],
    }  # fmt: skip
    environment = {**os.environ, **launch.environment}
    try:
        child = await asyncio.create_subprocess_exec(
            python, str(SCRIPT), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env=environment,
        )  # fmt: skip
    except OSError as error:
        raise NoReference(f"{python}: {error}") from None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            out, err = await child.communicate(json.dumps(wanted).encode())
    except TimeoutError:
        raise NoReference(f"no answers within {TIMEOUT_S:.0f} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        words = err.decode("utf-8", "replace").strip().splitlines()
        raise NoReference(f"transformers: {words[-1][:300] if words else f'code {child.returncode}'}")
    return tuple(Answer.model_validate(item) for item in json.loads(out)["answers"])
