"""Which kind of wrong are this server's answers, and do its replicas give them too? Pinned prompts, four ways.

Alone, with cached prefixes kept out, all together, and at the other servers of the same model: a defect of the weights
shows in every way, one of the prefix cache only where prefixes are shared, one of batch shapes only together, one bad
accelerator only at its own replica.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from responder.canaries.ask import Look, ask, ask_all, look
from responder.canaries.compare import FLOOR_NATS, Judgement, judge, odd_ones
from responder.canaries.pins import DEFAULT_PROMPTS, Answer, Pinned, Prompt, Record, record_for
from responder.capture.step import NOT_ALLOWED, Brief, FactSpec, Fetched, Scene, Step, skipped
from responder.model import Fact, Outcome, Scalar, Target

FILE = "canaries.json"
WAY_TIMEOUT_S = 10.0
COPIES = 3
"""Of every prompt, asked at once: batches of many shapes while they come and go."""
PIN = "pin"
"""What names a prompt in the file: what stands under `prompt` is taken for customers' words and redacted."""
MOST_REPLICAS = 8


async def fetch(scene: Scene, params: BaseModel) -> Fetched:
    """Ask. Log-probabilities only of servers that have answered for them before, so that nothing is compiled now."""
    if not scene.target.canary:
        return skipped(NOT_ALLOWED)
    pinned = scene.pinned(scene.target.name) if scene.pinned else Pinned()
    seen = await look(scene.http, scene.target)
    if seen.model is None:
        return Fetched(outcome=Outcome.FAILED, reason=seen.error)
    prompts = tuple(pin.prompt for pin in pinned.records[0].pins) if pinned.records else DEFAULT_PROMPTS
    ways, replicas = await asyncio.gather(_ways(scene, seen.model, prompts, pinned.warm),
                                          _replicas(scene, seen, prompts))  # fmt: skip
    command = scene.inventory.command if scene.inventory else ()
    record, changed = record_for(pinned.records, seen.fingerprint(ways["alone"], command))
    raw = {
        "target": scene.target.name,
        "record": record.model_dump(mode="json") if record else None,
        "changed": list(changed),
        "warm": pinned.warm,
        "ways": {name: [a.model_dump(mode="json") for a in answers] for name, answers in ways.items()},
        "replicas": {name: [a.model_dump(mode="json") for a in answers] for name, answers in replicas.items()},
    }
    files = {FILE: json.dumps(_renamed(raw, "prompt", PIN), indent=1, sort_keys=True).encode()}
    if not any(answer.usable for answer in ways["alone"]):
        why = next((answer.error for answer in ways["alone"]), "no answer")
        return Fetched(files, Outcome.FAILED, f"the target gave no answer: {why}")
    if record is None:
        return Fetched(files, Outcome.PARTIAL, "nothing is recorded for this target (`responder canary record` while "
                       "it is well), so its answers are only compared with its replicas'")  # fmt: skip
    return Fetched(files)


async def _ways(scene: Scene, model: str, prompts: Sequence[Prompt], numbers: bool) -> dict[str, Sequence[Answer]]:
    """The target's answers, way by way."""

    async def one(prompt: Prompt) -> Answer:
        return await ask(scene.http, scene.target, model, prompt, logprobs=numbers, timeout=WAY_TIMEOUT_S)

    alone = await ask_all(scene.http, scene.target, model, prompts, logprobs=numbers, timeout=WAY_TIMEOUT_S)
    if not any(answer.usable for answer in alone):
        return {"alone": alone}
    # Asked again: the prefixes of the first time are in the cache now.
    cached = await ask_all(scene.http, scene.target, model, prompts, logprobs=numbers, timeout=WAY_TIMEOUT_S)
    fresh = await ask_all(scene.http, scene.target, model, prompts, logprobs=numbers, salt=uuid.uuid4().hex,
                          timeout=WAY_TIMEOUT_S)  # fmt: skip
    together = await asyncio.gather(*(one(prompt) for prompt in list(prompts) * COPIES))
    return {"alone": alone, "cached": cached, "fresh": fresh, "together": together}


async def _replicas(scene: Scene, ours: Look, prompts: Sequence[Prompt]) -> dict[str, Sequence[Answer]]:
    """The other servers of our model, each asked once; those that cannot be asked are left out."""
    allowed = [target for target in scene.siblings if target.canary][:MOST_REPLICAS]

    async def one(target: Target) -> Sequence[Answer]:
        seen = await look(scene.http, target)
        same = seen.model is not None and (seen.model == ours.model or seen.entry.get("root") == ours.entry.get("root"))
        if not same or seen.model is None:
            return ()
        warm = scene.pinned(target.name).warm if scene.pinned else False
        return await ask_all(scene.http, target, seen.model, prompts, logprobs=warm, timeout=WAY_TIMEOUT_S)

    answers = await asyncio.gather(*(one(target) for target in allowed))
    return {target.name: got for target, got in zip(allowed, answers, strict=True) if any(a.usable for a in got)}


def _renamed(value: Any, old: str, new: str) -> Any:
    """With another key for every text under `old`: which prompt an answer belongs to, not what the prompt says."""
    if isinstance(value, dict):
        return {new if key == old and isinstance(item, str) else key: _renamed(item, old, new)
                for key, item in value.items()}  # fmt: skip
    return [_renamed(item, old, new) for item in value] if isinstance(value, list) else value


def read(files: Mapping[str, bytes], brief: Brief) -> Iterator[Fact]:
    """What the answers, way by way and replica by replica, say about the kind of defect."""
    try:
        raw: dict[str, Any] = _renamed(json.loads(files[FILE]), PIN, "prompt")
        record = Record.model_validate(raw["record"]) if raw["record"] else None
        ways = {name: [Answer.model_validate(a) for a in answers] for name, answers in raw["ways"].items()}
        replicas = {name: [Answer.model_validate(a) for a in answers] for name, answers in raw["replicas"].items()}
        target, changed = str(raw["target"]), [str(part) for part in raw["changed"]]
    except (KeyError, ValueError, TypeError, ValidationError):
        return

    def fact(name: str, value: Scalar, unit: str = "", says: str = "") -> Fact:
        return Fact(name=f"canaries.{name}", value=value, unit=unit, step="canary_compare", file=FILE, at=brief.now,
                    says=says)  # fmt: skip

    nan = [answer.nan for answers in ways.values() for answer in answers if answer.usable]
    yield fact("recorded", record is not None)
    yield fact("nan", any(nan) if any(it is not None for it in nan) else None)
    yield fact("token_zero", _all_zero(ways))
    if record is not None:
        judged = {name: judge(record, answers) for name, answers in ways.items()}
        yield fact("changed", bool(changed), says="; ".join(changed))
        for name, value, unit, says in _verdicts(judged, record):
            yield fact(name, value, unit, says)
    everybody: dict[str, Sequence[Answer]] = {target: ways.get("alone", []), **replicas}
    for name, value, says in _compared(target, everybody, record):
        yield fact(name, value, "", says)


def _verdicts(judged: Mapping[str, Judgement], record: Record) -> Iterator[tuple[str, Scalar, str, str]]:
    alone = judged["alone"]
    told = [it for it in judged.values() if it.bad is not None]
    drifted = any(it.bad for it in told) if told else None
    worst = max((it.tolerances for it in told if it.tolerances is not None), default=None)
    says = ", ".join(f"{name}: {'wrong' if it.bad else 'right'}" for name, it in judged.items() if it.bad is not None)
    yield "drifted", drifted, "", says
    yield "match", min((it.match for it in told if it.match is not None), default=None), "share", ""
    yield "shift", worst, "tolerances", "1 is three times what healthy runs at different load showed"
    yield "repeats", any(it.repeats for it in told) if told else None, "", ""
    bad = {name: judged[name].bad if name in judged else None for name in ("alone", "cached", "fresh", "together")}
    yield "alone_wrong", bad["alone"], "", ""
    yield "batch_only", _only(bad["together"], bad["alone"], bad["cached"], bad["fresh"]), "", ""
    yield "cache_only", _only(bad["cached"] or bad["alone"], bad["fresh"]), "", ""
    everywhere = None if None in bad.values() else all(bad.values())
    yield "every_way_wrong", everywhere, "", ""
    long = max(record.pins, key=lambda pin: len(pin.prompt.text)).prompt.id
    yield "long_only", set(alone.wrong) == {long} if alone.wrong and len(record.pins) > 1 else None, "", ""
    yield "decode_only", alone.first_token_right if alone.wrong and not alone.nan else None, "", ""


def _compared(
    target: str, answers: dict[str, Sequence[Answer]], record: Record | None
) -> Iterator[tuple[str, Scalar, str]]:
    others = [name for name in answers if name != target]
    yield "replicas", len(others), ", ".join(others)
    if not others or not any(answer.usable for answer in answers[target]):
        return
    # Replicas were not recorded together: twice the tolerance, for each may be off to another side.
    near = 2 * max((pin.tolerance for pin in record.pins), default=FLOOR_NATS) if record else 3 * FLOOR_NATS
    odd = odd_ones(answers, near)
    if odd is None and record is not None:
        wrong = tuple(name for name, got in answers.items() if judge(record, got).bad)
        odd = wrong if wrong and len(wrong) < len(answers) else None
    yield "replicas_agree", None if odd is None else not odd, ""
    yield "odd_one_out", None if odd is None else ", ".join(odd) or "none", ""
    yield "odd_here", None if odd is None else target in odd, ""


def _only(wrong: bool | None, *right: bool | None) -> bool | None:
    if wrong is None or None in right:
        return None
    return wrong and not any(right)


def _all_zero(ways: Mapping[str, Sequence[Answer]]) -> bool | None:
    tokens = [answer.tokens for answer in ways.get("alone", ()) if answer.tokens]
    return all(set(one) == {0} for one in tokens) if tokens else None


STEP = Step(
    name="canary_compare",
    rung=1,
    says="asks the pinned prompts alone, with and without cached prefixes and all together, and each replica once: "
    "about 400 tokens for the target, 64 for a replica",
    fetch=fetch,
    read=read,
    facts=(
        FactSpec("canaries.recorded", "", "whether good answers are recorded for this target"),
        FactSpec("canaries.changed", "", "whether the server is another than it was when they were recorded"),
        FactSpec("canaries.nan", "", "whether log-probabilities are NaN; unknown where they were not asked for"),
        FactSpec("canaries.token_zero", "", "whether every answer is token 0 alone, which is what NaN looks like"),
        FactSpec("canaries.drifted", "", "whether any answer is wrong against the record, healthy noise taken off"),
        FactSpec("canaries.match", "share", "tokens that are as recorded, in the worst way of asking"),
        FactSpec("canaries.shift", "tolerances", "shift of the log-probabilities, of the worst prompt"),
        FactSpec("canaries.repeats", "", "whether an answer is one token over and over"),
        FactSpec("canaries.alone_wrong", "", "whether answers are wrong one at a time"),
        FactSpec("canaries.batch_only", "", "whether they are wrong only when asked all together"),
        FactSpec("canaries.cache_only", "", "whether they are wrong only with cached prefixes"),
        FactSpec("canaries.every_way_wrong", "", "whether they are wrong in all four ways"),
        FactSpec("canaries.long_only", "", "whether only the longest prompt is wrong"),
        FactSpec("canaries.decode_only", "", "whether wrong answers at least begin right"),
        FactSpec("canaries.replicas", "", "other servers of the model that answered"),
        FactSpec("canaries.replicas_agree", "", "whether all servers of the model answer alike"),
        FactSpec("canaries.odd_one_out", "", "servers that differ from the others, or none"),
        FactSpec("canaries.odd_here", "", "whether this server is one of them"),
    ),
    timeout_s=4 * WAY_TIMEOUT_S + 10,
    max_bytes=1 << 20,
    needs=("`responder canary record` for this target",),
)
