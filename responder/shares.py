"""Which replica looks after which targets, and how long may it trust that? Pure: names and clock readings in.

Targets are dealt into shares by name; a share belongs to the live replica with the highest hash (rendezvous hashing),
so that one that comes or goes moves only its own part. Holding is a lease with a term that grows at every change of
hands: a write of an older term is refused by the database, and before an act the holder asks its own monotonic clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

SHARES = 64


@dataclass(frozen=True)
class Patience:
    """How long a lease lasts, seconds."""

    ttl_s: float = 12.0
    """Nobody else takes a share of a replica that has been heard of within this time."""

    @property
    def beat_s(self) -> float:
        """How often a replica is heard of: three beats may fail."""
        return self.ttl_s / 4

    @property
    def trust_s(self) -> float:
        """How long a holder trusts a lease, from the moment it asked: clocks differ in rate, and an act takes a moment
        to begin."""
        return self.ttl_s * 5 / 6


class LeaseLost(Exception):
    """Another replica looks after this target now: whatever was going on here ends, and says nothing."""


def share_of(name: str) -> int:
    """The share of a target; the same everywhere and always."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % SHARES


def owner(share: int, replicas: Collection[str]) -> str:
    """The replica a share belongs to; '' when there is none."""
    return max(replicas, key=lambda name: (_weight(share, name), name), default="")


def belonging_to(replica: str, replicas: Collection[str]) -> frozenset[int]:
    """All shares of one replica among the live ones."""
    return frozenset(share for share in range(SHARES) if owner(share, replicas) == replica)


def _weight(share: int, name: str) -> bytes:
    return hashlib.sha256(f"{share}\0{name}".encode()).digest()


@dataclass(frozen=True)
class Claim:
    """A share of ours: its term, and until when (monotonic seconds) an act may begin on the strength of it."""

    term: int
    until: float


@dataclass
class Holdings:
    """What this replica holds at this moment."""

    claims: dict[int, Claim] = field(default_factory=dict)

    def term(self, share: int) -> int | None:
        """The term to write with; None: not ours."""
        claim = self.claims.get(share)
        return claim.term if claim else None

    def holds(self, target: str) -> bool:
        """Whether this target is in a share of ours, as far as we have heard."""
        return share_of(target) in self.claims

    def may_act(self, target: str, now: float) -> bool:
        """Whether something may be begun for this target at this monotonic time."""
        claim = self.claims.get(share_of(target))
        return claim is not None and now < claim.until

    def confirm(self, terms: Iterable[tuple[int, int]], until: float) -> None:
        """Shares and terms the database has confirmed, to be trusted until then."""
        self.claims.update({share: Claim(term, until) for share, term in terms})
