"""A history answers in the end, or says why not: long ranges are cut, refused ones halved, busy ones asked again."""

from __future__ import annotations

import pytest

from responder.backtest.past import MAX_POINTS, HistorySilent, Past
from responder.metrics import Prometheus, PrometheusBusy, PrometheusSilent


class Fake(Prometheus):
    """Answers up to so many points; before that, fails as often as told."""

    url = "http://p"

    def __init__(self, most: int = 10**9, failures: tuple[str, ...] = (), words: str = "HTTP 422: too many samples"):
        self.most, self.failures, self.words = most, list(failures), words
        self.asked: list[int] = []

    async def range(self, expr: str, start: float, end: float, step: float):  # type: ignore[no-untyped-def]
        points = round((end - start) / step) + 1
        self.asked.append(points)
        if self.failures:
            words = self.failures.pop(0)
            raise PrometheusBusy(words, 7.0) if "429" in words else PrometheusSilent(words)
        if points > self.most:
            raise PrometheusSilent(self.words)
        return [({"a": "1"}, [(start + i * step, float(i)) for i in range(points)])]


async def no_wait(seconds: float) -> None:
    """Time flies."""


async def whole(fake: Fake, points: int) -> list[float]:
    """The times of everything that came back."""
    ((labels, found),) = await Past(fake, no_wait).range("x", 0.0, (points - 1) * 5.0, 5.0)
    assert labels == {"a": "1"}
    return [at for at, _ in found]


async def test_a_long_range_is_cut_below_the_limit_of_prometheus() -> None:
    """Every point once, in order."""
    fake = Fake()
    assert await whole(fake, 25_000) == [i * 5.0 for i in range(25_000)]
    assert max(fake.asked) <= MAX_POINTS


@pytest.mark.parametrize("words", ["HTTP 422: too many samples", "did not answer in time", "answer larger than 16 MiB"])
async def test_what_is_too_much_is_halved(words: str) -> None:
    """Until it is answered."""
    fake = Fake(most=200, words=words)
    assert await whole(fake, 1000) == [i * 5.0 for i in range(1000)]


async def test_a_moment_of_silence_is_waited_out() -> None:
    """A restarting Prometheus, a short range that timed out once."""
    fake = Fake(failures=("cannot be reached", "cannot be reached"))
    assert len(await whole(fake, 500)) == 500
    assert fake.asked == [500, 500, 500]


@pytest.mark.parametrize(
    ("words", "tries"), [("HTTP 401: who are you", 1), ("HTTP 400: parse error", 1), ("cannot be reached", 4)]
)
async def test_what_stays_refused_is_said(words: str, tries: int) -> None:
    """With the query and the reason."""
    fake = Fake(failures=(words,) * 10)
    with pytest.raises(HistorySilent, match=words.split(":")[0]):
        await whole(fake, 500)
    assert len(fake.asked) == tries


async def test_one_that_has_had_too_many_queries_is_given_time_and_not_more_of_them() -> None:
    """As long as it asks for; the range is not cut. For minutes only, then it is said what to do."""
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    fake = Fake(failures=("HTTP 429: too many outstanding requests",) * 3)
    await Past(fake, wait).range("x", 0.0, 4995.0, 5.0)
    assert fake.asked == [1000] * 4
    assert waited == [7.0, 7.0, 7.0]
    with pytest.raises(HistorySilent, match="too many queries for minutes"):
        await Past(Fake(failures=("HTTP 429: slow down",) * 50), wait).range("x", 0.0, 4995.0, 5.0)
