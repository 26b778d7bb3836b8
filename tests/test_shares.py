"""Shares: dealt the same way everywhere, moved as little as possible, trusted no longer than they were asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from responder.shares import SHARES, Holdings, Patience, belonging_to, owner, share_of

NAMES = st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=6)


@given(NAMES)
def test_every_share_has_one_owner(replicas: set[str]) -> None:
    """The parts are disjoint, and together they are all."""
    parts = [belonging_to(name, replicas) for name in replicas]
    assert sum(len(part) for part in parts) == SHARES
    assert frozenset().union(*parts) == frozenset(range(SHARES))


@given(NAMES, st.text(min_size=1, max_size=8))
def test_who_comes_takes_only_for_itself(replicas: set[str], new: str) -> None:
    """No share moves between two that were there before."""
    for share in range(SHARES):
        before, after = owner(share, replicas), owner(share, {*replicas, new})
        assert after in (before, new)


def test_targets_are_dealt_the_same_way_after_every_start() -> None:
    """Fixed for ever: what is written under a share's number must be found there again."""
    assert [share_of(name) for name in ("gpu-1:8000", "t0", "")] == [15, 52, 20]


def test_an_act_may_begin_only_while_the_lease_is_young() -> None:
    """Counted from before the question was asked, with a margin, on a clock nobody sets."""
    patience = Patience(12.0)
    holdings = Holdings()
    share = share_of("t")
    assert not holdings.holds("t")
    holdings.confirm([(share, 7)], 100.0 + patience.trust_s)
    assert holdings.term(share) == 7
    assert holdings.may_act("t", 109.9)
    assert not holdings.may_act("t", 110.0)
    assert holdings.holds("t")
    assert patience.beat_s == 3.0
