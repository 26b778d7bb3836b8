"""A recording that is changed stays a recording: counters go on, what one scrape said stays together."""

from __future__ import annotations

from bench.scoring.foreign import Endpoint, Row, Server, healthy_twin, lasting, patchy, scraped_twice, thinned

TOKENS: Row = ("vllm:generation_tokens_total", (("engine", "0"), ("instance", "a:8000")))
WAITING: Row = ("vllm:num_requests_waiting", (("engine", "0"), ("instance", "a:8000")))


def server() -> Server:
    """100 tokens every 5 s for a minute, then 10 and a queue for a minute."""
    said, tokens = [], 0.0
    for i in range(25):
        ill = i * 5 > 60
        tokens += 10.0 if ill else 100.0
        said.append((i * 5.0, {TOKENS: tokens, WAITING: 9.0 if ill else 0.0}))
    fault = {"cause": "capacity_exceeded", "onset_at": 60.0, "ended_at": 120.0}
    return Server("a:8000", (Endpoint("a:8000", tuple(said)),), {"from": 0.0, "to": 120.0, "incidents": [fault]})


def test_a_fault_that_lasts_longer_goes_on_at_the_pace_it_had() -> None:
    """Health and fault are as long as asked for, and no counter falls or jumps."""
    long = lasting(server(), healthy_s=300.0, fault_s=240.0)
    (fault,) = long.truth["incidents"]
    assert (fault["onset_at"], fault["ended_at"], long.truth["to"]) == (300.0, 540.0, 540.0)
    scrapes = long.endpoints[0].scrapes
    growth = [b[TOKENS] - a[TOKENS] for (_, a), (_, b) in zip(scrapes, scrapes[1:], strict=False)]
    assert set(growth) == {100.0, 10.0}
    assert all((said[WAITING] > 0) == (at > 300.0) for at, said in scrapes)


def test_scrapes_are_left_out_doubled_and_late_as_a_whole() -> None:
    """Every third of a recording of 5 s is one of 15 s; a pair says everything twice."""
    rare = thinned(server(), 15.0)
    assert rare.interval_s == 15.0
    twice = scraped_twice(rare).endpoints[0].scrapes
    assert [len(said) for _, said in twice] == [4] * 9
    assert len(patchy(server()).endpoints[0].scrapes) == 22
    assert all(said[WAITING] == 0 for _, said in healthy_twin(server()).endpoints[0].scrapes)
