"""What is a pinned canary? The nouns: a prompt, an answer, what healthy runs taught, and which server it belongs to."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence

from pydantic import Field

from responder.launchargs import options_of
from responder.model import Noun, Target

TOP = 5
"""Log-probabilities asked for at each position: several numbers for each step instead of one. vLLM allows 20."""
MAX_TOKENS = 16
IRRELEVANT = frozenset({
    "host", "port", "uds", "model", "served_model_name", "api_key", "root_path", "ssl_keyfile", "ssl_certfile",
    "ssl_ca_certs", "uvicorn_log_level", "disable_uvicorn_access_log", "log_config", "otlp_traces_endpoint",
    "allowed_origins", "enable_server_load_tracking", "max_log_len", "enable_log_requests", "disable_log_requests",
    "disable_log_stats",
})  # fmt: skip
"""Launch options that cannot change an answer: where the server listens, and what it logs."""


class Prompt(Noun):
    """One pinned prompt."""

    id: str
    text: str
    max_tokens: int = Field(default=MAX_TOKENS, ge=1, le=64)


class Answer(Noun):
    """One greedy answer. `top`: per position, token id -> log-probability of the likeliest tokens."""

    prompt: str
    tokens: tuple[int, ...] = ()
    top: tuple[dict[int, float], ...] = ()
    finish: str = ""
    nan: bool | None = None
    """None: nothing was seen that could tell (no log-probabilities asked for, or no answer)."""
    error: str = ""
    """Why there is no answer; an answer with an error is never judged."""
    seconds: float = 0.0
    server: str = ""
    """`system_fingerprint` of the response."""

    @property
    def usable(self) -> bool:
        """Whether it can be compared: it has tokens, or the proof that the model computes NaN."""
        return bool(self.nan) or (not self.error and bool(self.tokens))


class Pin(Noun):
    """A prompt with its good answer and the noise that healthy runs showed."""

    prompt: Prompt
    answer: Answer
    tolerance: float
    """Mean |difference of log-probabilities| that is still healthy, nats."""
    stable: int
    """Positions at which all healthy runs agreed; what comes after is not compared."""
    noise: float = 0.0
    """The largest mean difference a healthy run showed, nats."""


class Record(Noun):
    """What `responder canary record` leaves behind, for one server as it was then."""

    target: str
    model: str
    fingerprint: dict[str, str]
    at: float
    pins: tuple[Pin, ...]
    runs: int = 0
    loads: tuple[int, ...] = ()
    """Requests of our own that ran beside the canaries while the noise was learned."""
    warmup_s: float = 0.0
    """How long the first request for log-probabilities took: the server may have stood still that long."""
    probe_s: float = 0.0
    """Median time of one probe of all prompts."""

    @property
    def digest(self) -> str:
        """Name of this record's file."""
        return digest(self.fingerprint)


class Pinned(Noun):
    """What a capture step may know of a target's canaries."""

    records: tuple[Record, ...] = ()
    """Newest first."""
    warm: bool = False
    """Whether this run of the server has answered for log-probabilities before: the first such request compiles a
    kernel while everybody waits."""


def digest(fingerprint: Mapping[str, str]) -> str:
    """Short name of a fingerprint."""
    return hashlib.sha256(json.dumps(dict(fingerprint), sort_keys=True).encode()).hexdigest()[:12]


def fingerprint_of(
    model: Mapping[str, object], version: str | None, server: str, command: Sequence[str] = ()
) -> dict[str, str]:
    """What decides which answers are right: only what is known is in it, so that a look from another host compares."""
    found = {
        "model": str(model.get("id") or ""),
        "root": str(model.get("root") or ""),
        "max_model_len": str(model.get("max_model_len") or ""),
        "version": version or "",
        "system_fingerprint": server,
    }
    options = {k: v for k, v in options_of(command).items() if k.partition(".")[0] not in IRRELEVANT}
    if command:
        found["options"] = " ".join(f"{name}={value}" for name, value in sorted(options.items())) or "(none)"
    return {name: value for name, value in found.items() if value}


def changes(known: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """What differs between two fingerprints, in words; what only one of them knows is no difference."""
    return tuple(f"{name}: {known[name]} → {now[name]}" for name in known if name in now and known[name] != now[name])


def record_for(records: Sequence[Record], now: Mapping[str, str]) -> tuple[Record | None, tuple[str, ...]]:
    """The newest record of a server like this one; else the newest of all, and what has changed since."""
    for record in records:
        if not changes(record.fingerprint, now):
            return record, ()
    return (records[0], changes(records[0].fingerprint, now)) if records else (None, ())


def file_name(target: Target | str) -> str:
    """A target's name as a folder name."""
    name = target if isinstance(target, str) else target.name
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")[:100] or "_"


_LONG = (
    "A lighthouse keeper wrote down every evening what the sea had been doing: the height of the waves, the colour of "
    "the sky, the ships that passed and the birds that rested on the rail. In spring the entries were short, because "
    "the boat had to be painted and the lamp needed new glass. In summer visitors came and asked how old the tower "
    "was, and he told them that nobody knew, though the stones had been cut two hundred years ago on the other side "
    "of the bay. In autumn the storms began. He counted eleven of them in one year and nine in the next. In winter "
    "he read the entries of the years before, compared the numbers, and found that the tide had risen by the width "
    "of a hand. He wrote a letter about it to the harbour office. The office answered that"
)
DEFAULT_PROMPTS = (
    Prompt(id="fact", text="The capital of France is"),
    Prompt(id="count", text="1, 2, 3, 4, 5, 6, 7,"),
    Prompt(id="code", text="def fibonacci(n):\n    if n < 2:\n        return n\n    return"),
    Prompt(id="long", text=_LONG),
)
"""Knowledge, a pattern, code, and one that fills several KV blocks, so that prefix caching and long attention count."""
