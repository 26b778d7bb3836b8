"""What keeps captures from hurting anybody, put together: obligations, budgets, approvals, and captures by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from responder.allowance import Allowance
from responder.approvals import Approvals
from responder.byhand import Hand, capture
from responder.canary import CanaryResult, send_canary
from responder.case import Kit
from responder.datadir import made_ours
from responder.model import Acknowledged, Target, TimelineEntry
from responder.obligations import Obligations
from responder.ownrequests import OwnRequests
from responder.probe import Probe
from responder.store import Store
from responder.telemetry import Telemetry
from responder.watch import Watch


class Safety:
    """Made as soon as the store is open; `attach` gives it the rest of the daemon."""

    def __init__(
        self, store: Store, http: aiohttp.ClientSession, data_dir: Path, clock: Callable[[], float],
        telemetry: Telemetry, targets: Callable[[], Mapping[str, Target]], place: str = "",
    ) -> None:  # fmt: skip
        self.clock, self.targets = clock, targets
        self.duties = Obligations(store, http, data_dir / "obligations", clock, keys=self._keys,
                                  count=telemetry.obligations.set, place=place)  # fmt: skip
        self.allowance = Allowance(store, clock, targets, self._healthy_anywhere, self._models)
        made_ours(data_dir)
        self.approvals = Approvals(data_dir / "approvals")
        self.http, self.own = http, OwnRequests(store.add_audit, clock, self._ill)
        self._watch: Watch | None = None
        self._kit: Kit | None = None
        self._probes: Mapping[str, Probe] = {}
        self._healthy_elsewhere: Callable[[], set[str]] = set

    def attach(self, kit: Kit, watch: Watch, probes: Mapping[str, Probe]) -> None:
        """Once there is a flow and a watch."""
        self._kit, self._watch, self._probes = kit, watch, probes
        kit.duties, kit.allowance, kit.approvals = self.duties, self.allowance, self.approvals
        kit.firing = lambda incident: incident not in watch.memory.calm_since
        watch.muted = self.allowance.muted

    async def stop(self) -> None:
        """Say what is to be said of our own requests, and let the guards of what is owed go."""
        await self.own.settle(all=True)
        await self.duties.stop()

    async def canary(self, target: Target, deadline_s: float) -> CanaryResult:
        """The probe's one-token request, which stands in the audit log before it is sent."""
        self.own.sending(target, "canary")
        return await send_canary(self.http, target, target.model, deadline_s)

    def join(self, healthy: Callable[[], set[str]], disturbed: Callable[[], set[str]]) -> None:
        """What other replicas say of their targets."""
        self._healthy_elsewhere, self.allowance.elsewhere = healthy, disturbed

    async def capture(self, target: str, step: str, params: dict[str, Any]) -> dict[str, Any]:
        """One step by hand. LookupError in words."""
        kit, chosen = self._kit, self.targets().get(target)
        if kit is None or chosen is None or step not in kit.steps:
            raise LookupError(f"no target {target!r} or no step {step!r} here")
        hand = Hand(
            steps=kit.steps, http=kit.http, runner=kit.runner, data_dir=kit.data_dir, duties=self.duties,
            allowance=self.allowance, inventories=kit.inventories, siblings=tuple(kit.targets.values()),
            range_query=kit.range_query, signals=kit.signals, secrets=kit.secrets, clock=self.clock,
            audit=kit.store.add_audit, who="by hand, through the daemon",
        )  # fmt: skip
        item, folder = await capture(hand, chosen, step, params)
        return {"evidence": item.model_dump(mode="json"), "folder": str(folder)}

    async def decide(self, incident: str, step: str, approve: bool, who: str) -> dict[str, Any]:
        """A person's answer. ValueError in words."""
        item = self.approvals.decide(incident, step, approve=approve, who=who, now=self.clock())
        return item.model_dump(mode="json")

    def remember(self, incident: str, entry: TimelineEntry, taken: Acknowledged) -> None:
        """Detection holds the incident, too: what it writes of it next must not forget who took it."""
        held = self._watch.incidents.get(incident) if self._watch else None
        if self._watch is not None and held is not None:
            changed = {"acknowledged": taken, "timeline": (*held.timeline, entry)}
            self._watch.incidents[incident] = held.model_copy(update=changed)

    def _healthy_anywhere(self) -> set[str]:
        return self.healthy() | self._healthy_elsewhere()

    def disturbed(self) -> set[str]:
        """Our targets that a capture disturbs at this moment."""
        return self.allowance.disturbed()

    def _keys(self) -> dict[str, str]:
        return {t.name: t.api_key.get_secret_value() for t in self.targets().values() if t.api_key}

    def _models(self) -> Mapping[str, frozenset[str]]:
        return self._watch.models if self._watch else {}

    def _ill(self) -> dict[str, str]:
        """Target -> its open incident."""
        known = self._watch.incidents.values() if self._watch else ()
        return {incident.target: incident.id for incident in known if incident.state == "open"}

    def healthy(self) -> set[str]:
        """Targets that are well, as far as anybody can see at this moment."""
        if self._watch is None:
            return set()
        now = self.clock()
        ill = self._ill()
        return {
            name
            for name, probe in self._probes.items()
            if name not in ill
            and probe.seen.reachable
            and probe.seen.health_status == 200
            and probe.responsive(now) is not False
        }
