"""What would each round of the daemon have decided? The evaluation's state machines, stepped in virtual time. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from responder.backtest.scan import Stretch
from responder.backtest.vanished import Lost
from responder.correlate import Memory, Policy, correlate
from responder.evaluate import UP, Observation, observe, present
from responder.holding import States, advance
from responder.model import Change, Content, Incident, Sample, Silence, Symptom, Target, Truth

DRAINED = "drained"
DRAINED_BY_ITS_LAST_SCRAPE = (
    "((last_over_time(vllm:num_requests_running[20s]) + last_over_time(vllm:num_requests_waiting[20s])) == bool 0)"
    " * (irate(vllm:generation_tokens_total[20s]) <= bool 0.9 * rate(vllm:generation_tokens_total[2m]))"
)
"""Four scrapes of 15 s are a minute, and nobody drains a server for so long: of slow scrapes the last one must do, if
fewer tokens than usual came before it, one lost in between or not. A fast server with little to do has nothing in
flight at many a scrape."""
RESTARTS = "restarts"
UP_WHILE_SCRAPED = "last_over_time(up[5250ms]) unless ((max_over_time(up[15m]) == 0) unless up offset 15m)"
"""A history that ends, or has a gap, after a failed scrape is no server that is down: Prometheus would show that scrape
for five minutes. One interval and a little, as ranges are written for 5 s; nobody writes a history late. Who has never
answered is starting, as in `signal:up`."""
Answers = dict[str, tuple[Sample, ...] | None]
Rows = Sequence[tuple[Mapping[str, str], Sequence[tuple[float, float | None]]]]


class Rounds:
    """Answers of range queries, handed out round by round: what an instant query would have said at each moment."""

    def __init__(
        self, start: float, step: float, length: int, silent: Collection[str] = (), targets: Sequence[Target] = ()
    ) -> None:
        self.start, self.step, self.length = start, step, length
        self.silent = frozenset(silent)
        """Signals nobody answered for: unknown, and known to be."""
        self.targets = targets
        self._rows: dict[str, list[tuple[str, dict[str, str], dict[int, float | None]]]] = {}

    def put(self, signal: str, rows: Rows) -> None:
        """The answer for one signal."""
        self._rows[signal] = [
            (
                self._owner(labels),
                dict(labels),
                {round((at - self.start) / self.step): value for at, value in points},
            )
            for labels, points in rows
        ]

    def at(self, index: int, active: Collection[str] | None = None) -> Answers:
        """All answers of one round. active: leave out what is of other targets than these, but for whether they are up;
        only active ones are evaluated, and most of a history is of servers that are well."""
        now = self.start + index * self.step
        out: Answers = {
            signal: tuple(
                Sample(signal=signal, labels=labels, value=values[index], at=now)
                for owner, labels, values in rows
                if index in values and (active is None or not owner or owner in active or signal == UP)
            )
            for signal, rows in self._rows.items()
        }
        out.update(dict.fromkeys(self.silent))
        return out

    def _owner(self, labels: Mapping[str, str]) -> str:
        """The target a series is of; empty when it is of none, as a GPU exporter's, or of several."""
        owners = [t.name for t in self.targets if all(labels.get(k) == v for k, v in t.match.items())]
        return owners[0] if len(owners) == 1 else ""


@dataclass
class Walk:
    """A virtual daemon between two rounds."""

    content: Content
    targets: Sequence[Target]
    policy: Policy
    silences: Sequence[Silence] = ()
    states: States = States()
    memory: Memory = Memory()
    incidents: dict[str, Incident] = field(default_factory=dict)
    """Open ones and those resolved lately."""
    fired: tuple[Symptom, ...] = ()
    """Symptoms of the last round."""
    lost: Sequence[Lost] = ()
    """Who left the history while at work, and when. Whoever left otherwise was scaled down."""
    lived: list[Stretch] = field(default_factory=list)
    """Gaps between scrapes through which a server worked on; those that are over go."""
    drained: frozenset[str] = frozenset()
    """Targets that had nothing to do in the last round."""
    emptied: frozenset[str] = frozenset()
    """Targets that had nothing to do when they last answered and have not answered since."""

    @property
    def down(self) -> frozenset[str]:
        """Alerts that say that nobody can scrape a server."""
        return frozenset(rule.alert for rule in self.content.rules if rule.terms and rule.terms[0].signal == UP)

    def step(self, answers: Answers, now: float, active: Collection[str]) -> list[tuple[Change, Incident]]:
        """One round at `now`: what opened, grew or was resolved. Only `active` targets are evaluated; of the others
        nothing is held, and no rule can be true now.
        """
        mine = [target for target in self.targets if target.name in active]
        gone = {one.target for one in self.lost if one.since <= now <= one.until}
        stopped = _emptied(answers, mine)
        self.emptied = (self.emptied | stopped) - _up(answers, self.targets)
        away = self.emptied - present(answers, self.targets) - gone
        seen = self._but_not_down(observe(self.content.rules, answers, mine, now, gone), now, away)
        self.states, self.fired = advance(
            self.states, seen, now, self.content.rules, targets={t.name for t in self.targets},
            present=present(answers, mine),
        )  # fmt: skip
        there = present(answers, self.targets) | {i.target for i in self.incidents.values()} | set(active)
        stopping = stopped | _replaced(answers, mine, self.drained)
        self.drained = frozenset(t.name for t in mine if _values(answers, DRAINED, t) == {1})
        decisions, self.memory = correlate(
            self.fired, tuple(self.incidents.values()), self.memory, now,
            targets=[target for target in self.targets if target.name in there],
            silences=self.silences, healthy=_up(answers, self.targets), stopping=stopping,
            policy=self.policy,
        )  # fmt: skip
        changed: list[tuple[Change, Incident]] = []
        for decision in decisions:
            self.incidents[decision.incident.id] = decision.incident
            if decision.change is not Change.UNCHANGED:
                changed.append((decision.change, decision.incident))
        return changed

    def _but_not_down(self, seen: Sequence[Observation], now: float, away: Collection[str]) -> Sequence[Observation]:
        """Who worked on while scrapes failed was not down, nor is who was drained first and is scraped no more
        (`away`): it was taken off the list late, and an alert about it would be held by what nobody asks any more."""
        self.lived = [gap for gap in self.lived if now < gap.until]
        there = {gap.target for gap in self.lived if gap.since <= now} | set(away)
        if not there:
            return seen
        down = self.down
        return [o._replace(truth=Truth.NO) if o.target in there and o.alert in down else o for o in seen]

    def forget(self, now: float) -> list[Incident]:
        """Let go of incidents that cannot come back any more; they are returned."""
        over = [
            incident
            for incident in self.incidents.values()
            if incident.state == "resolved" and now - (incident.resolved_at or now) > self.policy.reopen_s
        ]
        for incident in over:
            del self.incidents[incident.id]
        return over

    def busy(self) -> set[str]:
        """Targets with something held or open: they need every round."""
        held = {held.target for held in self.states.held}
        return held | {incident.target for incident in self.incidents.values() if incident.state == "open"}


def _up(answers: Answers, targets: Iterable[Target]) -> set[str]:
    """Targets whose last scrape worked. A history has no canary to prove more."""
    return {target.name for target in targets if 1 in _values(answers, UP, target)}


def _emptied(answers: Answers, targets: Iterable[Target]) -> set[str]:
    """Targets that answer no more and had nothing to do when they last did: a history has no log in which a server
    says that it stops on request, but who stops one takes its traffic away first."""
    return {
        target.name
        for target in targets
        if _values(answers, UP, target) == {0} and _values(answers, DRAINED, target) == {1}
    }


def _replaced(answers: Answers, targets: Iterable[Target], drained: Collection[str]) -> set[str]:
    """Targets that are another process than a round ago, when they had nothing to do: replaced so fast that no scrape
    failed. One that dies at work, over and over, is not drained; whoever does this a third time in an hour is told."""
    return {t.name for t in targets if t.name in drained and any(_values(answers, RESTARTS, t) - {0, None})}


def _values(answers: Answers, signal: str, target: Target) -> set[float | None]:
    samples = answers.get(signal) or ()
    return {s.value for s in samples if all(s.labels.get(k) == v for k, v in target.match.items())}
