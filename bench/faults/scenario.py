"""How is an experiment written down? One YAML file for a family: its truth, and variants of strength and load shape.

Rates are multiples of the capacity of the server that plays it, measured with the family's own usual requests, so that
slow and fast machines get the same fault.
"""

from __future__ import annotations

import pathlib
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

FOLDER = pathlib.Path(__file__).with_name("scenarios")
SERVERS = pathlib.Path(__file__).with_name("servers.yaml")
Process = Literal["worker", "last_worker", "engine_core", "api_server"]
"""`last_worker`: of the last rank, where there are several."""


class Part(BaseModel):
    """Immutable; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Requests(Part):
    """What one stream of clients sends. `share` is its rate as a multiple of the measured capacity."""

    share: float = 0.25
    rate: float | None = None
    """Requests per second instead, where the capacity says nothing about requests of this kind."""
    prefill_share: float | None = None
    """Or so much of the prompt tokens per second that the server can read, measured with long prompts."""
    prompt_tokens: int = 200
    output_tokens: int = 150
    shared: float = 0.5
    """Share of a prompt that all clients have in common."""
    spread: float = 0.3
    lead: int = 0
    """So many own words stand before the shared ones, as a date in front of a system prompt does."""
    abort_after: int = 0
    """Clients go away after so many tokens."""
    timeout_s: float = 120.0
    retries: int = 0
    """How often a client that gave up asks again."""
    most_outstanding: int = 100
    pack: int = 1
    """So many prompts in one call, each to be answered."""
    options: dict[str, Any] = Field(default_factory=dict)
    """More fields of the body; in each request `$unique` becomes another word, `$form` another JSON schema."""
    shape: Literal["steady", "waves", "ramp", "bursts", "fade", "grow", "outage"] = "steady"
    """waves: 8 s at nearly twice the rate, 8 s at almost nothing; ramp: from a third of it to all of it in 40 s;
    bursts: 4 s of each 30 at full rate, else a quarter; fade: from all of it to nothing in 60 s; grow: prompts from a
    tenth of their length to all of it in 60 s, as contexts of chats do; outage: nobody for 20 s, then 6 s at two and a
    half times the rate, then as it is."""


class Injection(Part):
    """One thing done to the server while the fault holds; `bench.faults.inject` knows the kinds."""

    kind: Literal[
        "stop", "kill", "stutter", "restart", "profile", "plant", "burn", "crowd", "pause", "freeze", "ask", "connect",
        "linger", "hiccup", "squeeze", "exhaust", "throttle", "trace", "lend", "knock", "limit",
    ]  # fmt: skip
    process: Process = "worker"
    signal: str = "KILL"
    stopped_share: float = 0.5
    """Of `stutter`, and of `throttle`, which stops all processes of the server together."""
    period_s: float = 0.05
    plant: str = ""
    hold_s: float = 30.0
    """Of `hiccup`: how long the process stands still on average, every `period_s` on average, never regularly; of
    `lend`: how long others compute, likewise; of `trace`: how long threads are held in each `period_s`, for good where
    it is no shorter; of `limit`: seconds of processor time that the process has left."""
    thread: str = ""
    """Of `trace`: only threads whose names begin so."""
    cores: int = 1
    """Of `burn`; of `crowd`: processes that compute on the server's GPU; of `squeeze`: on the process's only core;
    of `lend`: programs that have memory of the GPU."""
    path: str = "/metrics"
    """Of `ask`, which sends requests of its own; with a model or tokens a POST, else a GET."""
    model: str = ""
    body_tokens: int = 0
    """Token ids in the body of such a request."""
    body_words: int = 0
    """Or words of text, of which the server makes the token ids."""
    options: dict[str, Any] = Field(default_factory=dict)
    """More fields of the body of such a request."""
    per_second: float = 1.0
    clients: int = 1
    """Of `connect`: connections on which nothing is sent; of `linger`: clients that read a little each second; of
    `exhaust`: idle connections that wait for the descriptors that the API server has no more."""
    after_s: float = 0.0
    """It begins so long after the fault did."""
    lasts_s: float | None = None
    """And is over after so long; None: it holds to the end."""
    every_s: float | None = None
    """And begins anew that often."""


class Feels(Part):
    """A measure of what clients felt during the fault, against the usual time before it."""

    measure: Literal[
        "ttft_p50", "ttft_p99", "itl_p99", "tpot_p50", "worst_gap", "tokens_per_second", "unanswered", "errors",
        "aborted", "answers_changed",
    ]  # fmt: skip
    at_least: float | None = None
    at_most: float | None = None
    at_most_s: float | None = None
    """Seconds, whatever was usual: clients that wait longer than the shipped limits are no control."""


class Variant(Part):
    """One experiment of a family; what it leaves out is the family's."""

    name: str
    server: str | None = None
    usual: Requests | None = None
    during: Requests | None = None
    beside: Requests | None = None
    inject: tuple[Injection, ...] | None = None
    felt: tuple[Feels, ...] | None = None
    hold_s: float | None = None


class Family(Part):
    """One file. `cause` null: there must be no incident; `unknown`: no cause of the playbooks fits."""

    says: str
    cause: str | None
    causes: tuple[str, ...] = ()
    """Where more than one answer is right: both of two faults at once, or one that looks the same."""
    pair: bool = False
    """`causes` are two faults at once, and the report should name both."""
    class_: str | None = Field(default=None, alias="class")
    also_class: tuple[str, ...] = ()
    """Classes that are no mistake either: one fault has several symptoms."""
    part: Literal["tune", "score"]
    author: str
    server: str = "roomy"
    usual: Requests = Requests()
    during: Requests | None = None
    """None: the usual traffic goes on."""
    beside: Requests | None = None
    """A second stream while the fault holds."""
    inject: tuple[Injection, ...] = ()
    felt: tuple[Feels, ...] = ()
    expect_share: float | None = None
    """What somebody asked of this server, as a share of its usual rate."""
    replicas: int = 1
    hold_s: float = 120.0
    """How long the fault holds at most; a silent control holds that long in any case."""
    baseline_s: float = 75.0
    deadly: bool = False
    """The server does not survive it, or is not to be used again (NaN stays in cached prefixes)."""
    pinned: bool = False
    """Pinned answers are recorded while the server is well."""
    variants: tuple[Variant, ...]


class Scenario(Part):
    """One experiment, ready to be played."""

    name: str
    family: str
    variant: str
    truth: Family
    server: str
    usual: Requests
    during: Requests | None
    beside: Requests | None
    inject: tuple[Injection, ...]
    felt: tuple[Feels, ...]
    hold_s: float


class Server(Part):
    """How a vLLM is started."""

    flags: tuple[str, ...]
    environment: dict[str, str] = Field(default_factory=dict)
    planted: str = ""
    """Name of the defect that the test plug-in plants; see tests/live/harness/planted.py."""


def families(folder: pathlib.Path = FOLDER) -> dict[str, Family]:
    """Every file, by name. ValidationError names the file's faulty field."""
    return {path.stem: Family.model_validate(_yaml(path)) for path in sorted(folder.glob("*.yaml"))}


def servers() -> dict[str, Server]:
    """Named ways of starting vLLM."""
    return {name: Server.model_validate(value) for name, value in _yaml(SERVERS).items()}


def scenarios(folder: pathlib.Path = FOLDER) -> list[Scenario]:
    """Every variant of every family."""
    return [_scenario(name, family, one) for name, family in families(folder).items() for one in family.variants]


def _scenario(name: str, family: Family, variant: Variant) -> Scenario:
    own = {key: value for key in ("server", "usual", "during", "beside", "inject", "felt", "hold_s")
           if (value := getattr(variant, key)) is not None}  # fmt: skip
    kept = {key: getattr(family, key) for key in ("server", "usual", "during", "beside", "inject", "felt", "hold_s")}
    return Scenario(name=f"{name}-{variant.name}", family=name, variant=variant.name, truth=family, **(kept | own))


def _yaml(path: pathlib.Path) -> Any:
    return yaml.safe_load(path.read_text())
