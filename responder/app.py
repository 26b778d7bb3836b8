"""Who knows whom? Builds every part, starts them, stops them in reverse. The only place where the edges meet."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import structlog
from aiohttp import web

from responder import interpreter
from responder import inventory as inventories
from responder.ask import newly_connected
from responder.canaries.patrol import Patrol
from responder.canaries.stored import Shelf
from responder.capture import STEPS
from responder.case import Kit
from responder.config import Config
from responder.configured import configured
from responder.content import ContentRefused, tongue
from responder.correlate import Policy
from responder.learner import Learner
from responder.loaded import Loaded
from responder.loaded import load_all as load_all
from responder.metrics import Prometheus, asked_interval
from responder.model import Change
from responder.notify import build as build_notifier
from responder.notify.slack_bot import SlackBot
from responder.notify.slack_clicks import Clicks
from responder.outbox import Outbox
from responder.overview import Overview
from responder.pressed import Pressed
from responder.probe import Probe, Senses, samples_of
from responder.prometheus_child import PrivatePrometheus
from responder.receipts import Receipts
from responder.requests.desk import Desk, open_desk, recent
from responder.respond import Responder
from responder.roster import Roster
from responder.rounds import Rounds
from responder.runner import LocalRunner
from responder.safety import Safety
from responder.sharing import fleet_of
from responder.spoken_there import remember
from responder.store import Store
from responder.store_sqlite import SqliteStore
from responder.telemetry import Telemetry
from responder.told import Told
from responder.upkeep import Upkeep
from responder.watch import Watch
from responder.web.access import ways_in
from responder.web.server import Surface, build
from responder.where import close as close_runners
from responder.words import language

log = structlog.get_logger()
DEFAULT_SCRAPE_S = 2.0
"""Of the private Prometheus: hangs must be found within 15 s; what it costs vLLM is printed by bench/watch_cost.py."""
INTAKE_LIMIT = 20_000
ROUND_S = 2.0
"""Also when scrapes are slower: a hang is found within 15 s only if nobody waits for the next round, too."""
INVENTORY_EVERY_S = 30.0
LEARN_EVERY_S = 60.0
RETENTION_EVERY_S = 600.0
CANARIES_EVERY_S = 2.0
QUEUES_EVERY_S = 10.0
STOP_WITHIN_S = 8.0
FIXED = ("artifacts", "data_dir", "database", "database_file", "evaluation_interval", "heartbeat", "http", "lease",
         "prometheus", "requests")  # fmt: skip
"""Of the configuration, what a reload leaves as it was, and says so."""


class App:
    """The daemon. `reload` gives a fresh `Loaded` or raises ContentRefused with the problems in words."""

    def __init__(self, loaded: Loaded, again: Callable[[], Loaded], clock: Callable[[], float] = time.time) -> None:
        self.loaded = loaded
        self.again = again
        self.clock = clock
        self.telemetry = Telemetry()
        self.fleet = fleet_of(loaded.config, lambda: self.loaded.targets)
        self.store: Store = self.fleet.store if self.fleet else SqliteStore(loaded.config.data_dir)
        self.rounds = Rounds(lambda name: self.telemetry.rounds_failed.labels(name).inc())
        self.missing = "starting"
        self.probes: dict[str, Probe] = {}
        self.desk: Desk | None = None
        self.overview = Overview(self._about, language(loaded.config.language))
        self.stopped = asyncio.Event()
        self._closers: list[Callable[[], Awaitable[Any]]] = []
        self._lag: asyncio.Task[None] | None = None

    # --------------------------------------------------------------------------------------------- start, stop

    async def start(self) -> None:
        """Start everything; on an exception `stop` undoes what was started."""
        interpreter.settle()
        config = self.loaded.config
        await asyncio.to_thread(self.store.open)
        self._closers.append(self._close_store)
        self.http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None), connector=aiohttp.TCPConnector(limit=200, limit_per_host=16),
            trust_env=False, auto_decompress=True,
        )  # fmt: skip
        newcomer = newly_connected()
        self._closers += [self.http.close, newcomer.close]
        self.safety = Safety(self.store, self.http, config.data_dir, self.clock, self.telemetry,
                             lambda: self.loaded.targets, self.fleet.place if self.fleet else "")  # fmt: skip
        self._closers.append(self.safety.stop)
        # Before anything else: what an earlier life began and did not end.
        await self.safety.duties.restore()
        await self._serve(config)
        await self._metrics_source(config)
        self.outbox = Outbox(self.store, self.http, self._notifiers(), config.data_dir, self.clock, self._told)
        if self.fleet:
            self.outbox.may_tell, self.outbox.fetch = self.fleet.may_tell, self.fleet.fetch
        self._closers.append(self.outbox.stop)
        self.desk, receiver = await open_desk(
            config.requests, self.http, self.clock, alone=len(self.loaded.targets) == 1, closers=self._closers
        )
        self.telemetry.requests.numbers = receiver.numbers if receiver else None
        self.kit = self._kit(config)
        self._closers.append(lambda: close_runners(self.kit.runners))
        self.patrol = Patrol(self.http, Shelf(config.data_dir), self._command_of, self.clock, config.canaries.interval)
        self.patrol.sending = self.safety.own.sending
        self._closers.append(self.patrol.stop)
        self.kit.pinned = self.patrol.pinned
        self.responder = Responder(self.kit)
        self._closers.append(self.responder.stop)
        self.watch = Watch(
            self.prometheus, self.store, self.telemetry, self.clock, scrape_interval_s=self.scrape_s,
            policy=_policy(config), silence_folder=config.data_dir / "silences",
        )  # fmt: skip
        self.safety.attach(self.kit, self.watch, self.probes)
        self.learner = Learner(self.kit, self.safety.healthy, lambda: self.watch.muted)
        await self.learner.restore()
        self.pressed = Pressed(self.kit, self.responder, self.safety, self.learner.ledger.press)
        self.overview.attach(self.kit, self.watch, self.safety, self.pressed, self.probes)
        self.clicks = Clicks(self._bots, self.http, self._press, self.clock)
        self._closers.append(self.clicks.stop)
        self.upkeep = Upkeep(self.kit, self.probes, lambda: self.watch.known)
        senses = Senses(
            http=self.http, newcomer=newcomer, clock=self.clock, canary=self.safety.canary,
            connections=inventories.established, alive=inventories.alive,
        )  # fmt: skip
        self.roster = Roster(lambda: self.loaded, self.upkeep, self.watch, senses, self.fleet)
        if self.fleet:
            await self.fleet.start(self.watch, self.responder, self.safety, self.safety.duties.take_over)
            self._closers.append(self.fleet.stop)
            self.safety.join(self.fleet.healthy_elsewhere, self.fleet.disturbed_elsewhere)
            await self.fleet.change_hands()
            await self.roster.adopt()
        else:
            await self.roster.adopt()
            await self.watch.restore()
            await self._take_up_again()
        await asyncio.to_thread(remember, config.data_dir, config.language)
        self.outbox.start()
        self.clicks.listen()
        self._schedule(config)
        self._lag = asyncio.create_task(self.upkeep.measure_lag(), name="loop lag")
        self.missing = ""
        interpreter.started()
        log.info("responder.started", targets=sorted(self.loaded.targets), prometheus=self.prometheus.url)

    async def stop(self) -> None:
        """End captures, give pending messages a moment, close in reverse order; idempotent."""
        self.missing = "stopping"
        if self._lag:
            self._lag.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_WITHIN_S):
                await self.rounds.stop()
                for probe in self.probes.values():
                    await probe.stop()
                while self._closers:
                    await self._closers.pop()()
        log.info("responder.stopped")

    async def _close_store(self) -> None:
        self.store.close()

    async def _serve(self, config: Config) -> None:
        surface = Surface(
            data_dir=config.data_dir,
            **ways_in(config.http),
            metrics=self.telemetry.page,
            ready=self._ready,
            accept=self._accept,
            receipt=Receipts(lambda: (self.loaded.targets, self.loaded.content.rules), self._heard, self.clock).words,
            incidents=self.store.incidents,
            reload=self.reload,
            bring=self.fleet.bring if self.fleet else None,
            requests=lambda window_s: recent(self.desk, window_s),
            capture=self.safety.capture,
            decide=self.safety.decide,
            judge=lambda *word: self.learner.ledger.judge(*word),
            overview=self.overview,
            acknowledge=lambda incident, who: self.pressed.acknowledge(incident, who),
            slack=lambda body, headers: self.clicks.posted(body, headers),
        )
        runner = web.AppRunner(build(surface), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._closers.append(runner.cleanup)
        host, port = config.http.address
        await web.TCPSite(runner, host, port).start()

    async def _metrics_source(self, config: Config) -> None:
        part = config.prometheus
        url, self.private = part.url, None
        if url is None:
            scrape = part.scrape_interval or DEFAULT_SCRAPE_S
            self.private = PrivatePrometheus(config.data_dir / "prometheus", list(self.loaded.targets.values()), scrape)
            self._closers.append(self.private.stop)
            await self.private.start()
            url = self.private.url
        self.prometheus = Prometheus(url, timeout_s=part.timeout, headers=part.sent())
        if not self.private:
            await self.prometheus.learn_spelling()
        self._closers.append(self._close_prometheus)
        self.scrape_s = part.scrape_interval or (
            DEFAULT_SCRAPE_S if self.private else await asked_interval(self.prometheus, self.loaded.targets)
        )
        self.loaded = self.loaded.paced(self.scrape_s)

    async def _close_prometheus(self) -> None:
        self.prometheus.close()

    def _kit(self, config: Config) -> Kit:
        return Kit(
            **configured(self.loaded, self.http, self.scrape_s),
            steps=STEPS,
            store=self.store,
            data_dir=config.data_dir,
            http=self.http,
            runner=LocalRunner(),
            range_query=self.prometheus.range,
            outbox=self.outbox,
            telemetry=self.telemetry,
            clock=self.clock,
            scrape_interval_s=self.scrape_s,
            requests=self.desk.rows if self.desk else None,
            **(self.fleet.tools() if self.fleet else {}),
        )

    def _schedule(self, config: Config) -> None:
        every = config.evaluation_interval or min(self.scrape_s, ROUND_S)
        for work, seconds in (
            (self.tick, every), (self.upkeep.look, ROUND_S), (self.upkeep.take_stock, INVENTORY_EVERY_S),
            (self.learner.round, LEARN_EVERY_S), (self._walk, CANARIES_EVERY_S), (self._clear_up, RETENTION_EVERY_S),
            (self.upkeep.count_queues, QUEUES_EVERY_S), (self.safety.own.settle, QUEUES_EVERY_S),
        ):  # fmt: skip
            self.rounds.add(work, seconds)
        if beat := config.heartbeat:
            self.rounds.add(self.upkeep.beat, beat.interval, [beat.url])
        self.rounds.start()

    # ------------------------------------------------------------------------------------------------ rounds

    async def tick(self) -> None:
        """One round of detection; what changed goes to the responder, which never holds this up."""
        if self.private:
            self.prometheus.url = await self.private.ensured()
        await self.roster.round()
        self.telemetry.probes.samples = await asyncio.to_thread(samples_of, list(self.probes.values()), self.clock())
        changes = await self.watch.tick(
            self.loaded.content, self.roster.ours(), self.probes, self.upkeep.stopping, everywhere=self.loaded.targets,
            sound=self.fleet.healthy_elsewhere() if self.fleet else (),
        )  # fmt: skip
        for change, incident in changes:
            self.responder.handle(change, incident)
            if change is Change.OPENED:
                self.telemetry.incidents.labels(incident.incident_class, incident.severity.value).inc()
        self.telemetry.incidents_open.set(self.watch.open_count)
        self.upkeep.round_ended = time.monotonic()
        interpreter.sweep()

    async def _walk(self) -> None:
        self.patrol.walk(self.roster.ours())
        for name, probe in self.probes.items():
            probe.canary_values(self.patrol.values(name))

    def _command_of(self, target: str) -> tuple[str, ...]:
        known = self.kit.inventories.get(target)
        return known.command if known else ()

    async def _clear_up(self) -> None:
        await self.upkeep.clear_up(self.loaded.config.retention)

    # ---------------------------------------------------------------------------------------- reload, resume

    async def reload(self) -> str:
        """Take the configuration anew; on any problem the old one stays. Returns '' or the problems in words."""
        if self.missing:
            log.warning("config.not_reloaded", reason=self.missing)
            return f"not now, we are {self.missing}: send it again"
        try:
            fresh = await asyncio.to_thread(self.again)
        except ContentRefused as error:
            self.telemetry.reload_ok.set(0)
            log.error("config.refused", problems=str(error))
            return str(error)
        kept = {name: getattr(self.loaded.config, name) for name in FIXED}
        if changed := [name for name, value in kept.items() if getattr(fresh.config, name) != value]:
            log.warning("config.needs_restart", keys=changed)
        self.loaded = Loaded(fresh.config.model_copy(update=kept), fresh.content, fresh.targets).paced(self.scrape_s)
        old_runners = self.kit.runners
        for name, value in configured(self.loaded, self.http, self.scrape_s).items():
            setattr(self.kit, name, value)
        await close_runners(old_runners)
        await asyncio.to_thread(remember, fresh.config.data_dir, fresh.config.language)
        self.watch.policy = _policy(fresh.config)
        self.patrol.interval_s = fresh.config.canaries.interval
        self.outbox.notifiers = self._notifiers()
        self.outbox.start()
        self.clicks.listen()
        if self.private:
            await self.private.reload(list(fresh.targets.values()))
        await self.roster.adopt()
        self.telemetry.reload_ok.set(1)
        self.telemetry.reload_at.set(self.clock())
        log.info("config.reloaded", targets=sorted(fresh.targets))
        return ""

    async def _take_up_again(self) -> None:
        """Incidents that were open when the last daemon ended, and those whose end nobody was told."""
        for incident, stage, _ in await self.store.incidents(untold=True):
            over = incident.state == "resolved"
            if over or incident.target in self.loaded.targets:
                log.info("incident.taken_up", incident=incident.id, state=incident.state, stage=stage)
                self.responder.handle(Change.RESOLVED if over else Change.UNCHANGED, incident)

    # ------------------------------------------------------------------------------------------------- glue

    def _notifiers(self) -> dict[str, Any]:
        return {
            name: build_notifier(name, part, self.loaded.config.data_dir)
            for name, part in self.loaded.config.receivers.items()
        }

    def _bots(self) -> dict[str, SlackBot]:
        return {name: bot for name, bot in self.outbox.notifiers.items() if isinstance(bot, SlackBot)}

    async def _press(self, button: str, who: str, receiver: str) -> str:
        code = self._bots()[receiver].settings.language or self.loaded.config.language
        return await self.pressed.press(button, who, tongue(code))

    def _told(self, receiver: str, outcome: str, _: str) -> None:
        self.telemetry.notifications.labels(receiver, outcome).inc()

    def _about(self) -> dict[str, Any]:
        return {"prometheus": self.prometheus.url, "missing": self.missing, "receivers": sorted(self.outbox.notifiers)}

    async def _ready(self) -> str:
        return self.missing

    def _heard(self) -> Told:
        return self.watch.told if self.missing != "starting" else Told()

    async def _accept(self, payload: Any) -> bool:
        kept = await self.store.add_intake(payload, self.clock(), limit=INTAKE_LIMIT)
        self.telemetry.alerts.labels("accepted" if kept else "refused_full").inc(len(payload["alerts"]))
        return kept


def _policy(config: Config) -> Policy:
    return Policy(hold_down_s=config.hold_down)
