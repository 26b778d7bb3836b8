"""What a capture cost, and when it costs too much. What was already broken is not the capture's fault."""

from __future__ import annotations

from responder.harm import Beat, Tick, Window, cost_of, silence, tick_of, too_much


def ticks(*rows: tuple[float, float, float]) -> list[Tick]:
    """(at, running, tokens)"""
    return [Tick(at, running, tokens, tokens / 4) for at, running, tokens in rows]


def steady(since: float, until: float, tokens: float = 0.0) -> list[Tick]:
    return ticks(*((since + i / 5, 2.0, tokens + 10 * i) for i in range(int((until - since) * 5) + 1)))


def beats(since: float, until: float, gap: float = 0.01) -> list[Beat]:
    return [Beat(since + i * gap, gap) for i in range(1, int((until - since) / gap) + 1)]


def test_silence_counts_only_while_there_is_something_to_do() -> None:
    """An idle server says nothing, and nobody misses it."""
    everything = Window(0.0, 10.0)
    assert silence(ticks((0, 0, 5), (1, 0, 5), (2, 0, 5)), [], everything) == 0.0
    assert silence(ticks((0, 2, 5), (1, 2, 5), (3, 2, 5), (4, 2, 9)), [], everything) == 3.0
    assert silence([], [], everything) is None


def test_our_own_stream_feels_a_gap_to_the_millisecond() -> None:
    """Only the part of a gap that lies inside the window counts."""
    assert silence([], [Beat(5.0, 4.0)], Window(2.0, 10.0)) == 3.0


def test_a_capture_that_froze_everybody_is_told_in_words() -> None:
    """Gap p99, pause and token rate."""
    before, after = steady(0, 4), steady(8, 10, 200)
    frozen = ticks((4.2, 2, 200), (6, 2, 200), (8, 2, 200))
    felt = [*beats(0, 4), Beat(8.0, 4.0), *beats(8, 10)]
    cost = cost_of([*before, *frozen, *after], felt, Window(4.0, 8.1))
    assert 3.8 < cost.pause_s < 4.0
    assert "longest time without a token 38" in cost.says or "longest time without a token 39" in cost.says
    assert cost.gap_p99_s[0] == 0.01
    assert cost.gap_p99_s[2] == 0.01
    assert cost.tokens_per_s[0] == 50.0


def test_a_server_that_stood_still_before_is_not_paused_by_a_capture() -> None:
    """Two seconds flat before, eight during: no pause. With a token before, or afterwards, all of it may be ours."""
    still = ticks(*((i / 5, 7.0, 100.0) for i in range(51)))
    hung = cost_of(still, [], Window(2.0, 10.0))
    assert (hung.pause_s, hung.says) == (0.0, "the server stood still before it, and all the while")
    moved = cost_of([*ticks((-0.2, 7.0, 60.0)), *still], [], Window(2.0, 10.0))
    assert moved.pause_s > 5
    went_on = cost_of([*still, *ticks((10.2, 7.0, 130.0))], [], Window(2.0, 9.9))
    assert went_on.pause_s > 5


def test_a_harmless_capture_is_called_harmless() -> None:
    """No change, no pause, and no alarming words."""
    cost = cost_of(steady(0, 10), beats(0, 10), Window(4.0, 6.0))
    assert cost.pause_s == 0.0
    assert cost.says.startswith("between two tokens (p99) unchanged for 2.0 s")


def test_means_come_from_the_servers_own_sums() -> None:
    """p99 of a histogram has buckets; sums are exact."""
    rows = [Tick(float(i), 1.0, i * 10.0, None, (i * 0.05, float(i)), (i * 0.1, i * 10.0)) for i in range(5)]
    rows += [Tick(float(i), 1.0, i * 10.0, None, (0.2 + (i - 4) * 0.15, float(i)), None) for i in range(5, 9)]
    cost = cost_of(rows, [], Window(4.5, 7.0))
    assert cost.ttft_s[0] == 0.05
    assert cost.ttft_s[1] == 0.15
    assert "time to first token (mean) +100 ms" in cost.says


def test_nothing_served_means_nothing_known() -> None:
    """An idle server was not hurt, and we do not claim to have measured it."""
    assert "could not be seen" in cost_of([], [], Window(1.0, 2.0)).says


def test_a_freeze_during_the_capture_ends_it() -> None:
    """Counters flat and our stream silent for longer than the limit."""
    rows = [*steady(0, 4), *ticks((4.2, 2, 200), (6.3, 2, 200))]
    assert too_much(rows, beats(0, 4), 4.0, 5.0, 2.0) == ""
    assert "no token for 2." in too_much(rows, beats(0, 4), 4.0, 6.4, 2.0)


def test_a_freeze_that_was_there_before_is_not_ours() -> None:
    """A hung server must be looked at, not spared."""
    rows = ticks((0, 2, 5), (3, 2, 5), (6, 2, 5), (9, 2, 5))
    assert too_much(rows, [], 6.0, 9.0, 2.0) == ""


def test_a_scrape_is_read_once_for_all_figures() -> None:
    """Sums over engines; a name that is not there is unknown, not zero."""
    raw = (b'vllm:num_requests_running{engine="0"} 2\nvllm:num_requests_running{engine="1"} 3\n'
           b"vllm:generation_tokens_total 10\nvllm:time_to_first_token_seconds_sum 1.5\n"
           b"vllm:time_to_first_token_seconds_count 3\n")  # fmt: skip
    assert tick_of(raw, 1.0) == Tick(1.0, 5.0, 10.0, None, (1.5, 3.0), None)
