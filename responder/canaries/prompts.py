"""Which prompts does this file hold? JSON lines, or plain text with one prompt a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from responder.canaries.pins import MAX_TOKENS, Prompt

MOST = 32
"""More would be a benchmark, not a canary."""


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """`{"id": …, "prompt": …, "max_tokens": …}` per line (id and max_tokens may be left out), or the bare prompt.
    ValueError names the line; OSError as open() raises it."""
    found: list[Prompt] = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append(_prompt(line, number))
        except (ValueError, KeyError, TypeError) as error:
            words = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise ValueError(
                f"{path}:{number}: {words}; write {{'id': 'x', 'prompt': 'text', 'max_tokens': 16}}"
            ) from None
    if not found:
        raise ValueError(f"{path} holds no prompt")
    if len(found) > MOST:
        raise ValueError(f"{path} holds {len(found)} prompts; at most {MOST}")
    if len({prompt.id for prompt in found}) < len(found):
        raise ValueError(f"{path}: two prompts have the same id")
    return tuple(found)


def _prompt(line: str, number: int) -> Prompt:
    if not line.lstrip().startswith("{"):
        return Prompt(id=f"line-{number}", text=line)
    value: dict[str, Any] = json.loads(line)
    unknown = set(value) - {"id", "prompt", "max_tokens", "tokens"}
    if unknown or not isinstance(value["prompt"], str) or not value["prompt"]:
        raise ValueError(f"unknown key {sorted(unknown)[0]!r}" if unknown else "`prompt` is no text")
    return Prompt(id=str(value.get("id") or f"line-{number}"), text=value["prompt"],
                  max_tokens=value.get("max_tokens", MAX_TOKENS))  # fmt: skip
