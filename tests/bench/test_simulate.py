"""The simulated server: what was preempted runs again, its KV cache adds up, and a control that is felt is none."""

from __future__ import annotations

import random

from bench.faults.simulate import Machine, Row, Server, Stream, _request, capacity, felt

SMALL = Machine(0.01, 0.0, 0.0, 0.0, slots=8, kv_tokens=900, budget=512)


def test_who_was_preempted_is_admitted_again() -> None:
    """Eight long answers in a cache for two: all of them finish, none at once."""
    server, dice, now = Server(SMALL), random.Random(1), 0.0
    for _ in range(8):
        server.waiting.append(_request(Stream(1.0, 100, 300, 0.0, 0.0), now, dice))
    while (server.running or server.waiting) and now < 200:
        now = server.step(now, 1.0)
    assert server.counters["preemptions"] > 0
    assert server.counters["success"] == 8
    assert server.kv == 0


def test_what_a_machine_can_do_depends_on_what_is_asked() -> None:
    """Twice as many tokens an answer, half as many answers."""
    roomy = Machine(0.01, 0.0, 0.0, 0.0, slots=8, kv_tokens=100_000, budget=512)
    short, long = (capacity(roomy, Stream(1.0, 10, tokens, 0.0, 0.0)) for tokens in (50, 100))
    assert 1.8 < short / long < 2.2


def test_a_control_is_felt_when_tokens_are_late_for_a_minute() -> None:
    """Half a minute is a burst."""

    def rows(slow_until: int) -> list[Row]:
        out: list[Row] = []
        late = total = 0
        for at in range(0, 121, 5):
            out += [("vllm:inter_token_latency_seconds_bucket", f'le="{edge}"', float(at), float(count))
                    for edge, count in (("0.1", total - late), ("1.0", total), ("+Inf", total))]  # fmt: skip
            total += 100
            late += 10 if at < slow_until else 0
        return out

    assert felt(rows(90))
    assert not felt(rows(30))
