"""Which servers play the next experiment? Kept while experiments ask for the same; started anew when one is dead."""

from __future__ import annotations

import pathlib

from bench.faults.scenario import Requests, Server
from bench.faults.traffic import traffic
from tests.live.harness.planted import write_plugin
from tests.live.harness.play import measure_capacity
from tests.live.harness.vllm_server import VllmServer

LONG = Requests(prompt_tokens=1800, output_tokens=2, shared=0.0, spread=0.0)
"""What the prompt tokens per second of a server are measured with; its answers are as short as they can be."""
MEASURED_FOR_S = 8.0


class NothingAnswered(RuntimeError):
    """The capacity cannot be measured: all shares of it would be no traffic at all."""


class Pool:
    """Replicas of one kind of server at a time."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.switch = folder / "planted"
        """The file a planted defect looks at."""
        self._servers: list[VllmServer] = []
        self._kind: Server | None = None
        self._capacity: dict[tuple[str, str], float] = {}
        self._started = 0

    def get(self, kind: Server, replicas: int) -> list[VllmServer]:
        """That many servers of that kind, all of which serve."""
        same = self._kind == kind and len(self._servers) == replicas
        if same and all(server.alive() and server.completes(timeout_s=60) for server in self._servers):
            return self._servers
        self.end()
        self.switch.unlink(missing_ok=True)
        self._kind = kind
        for _ in range(replicas):
            self._started += 1
            server = VllmServer(
                self.folder, kind.flags, name=f"vllm-{self._started}", environment=self._environment(kind)
            )
            server.start()
            self._servers.append(server)
        return self._servers

    def _environment(self, kind: Server) -> dict[str, str]:
        if not kind.planted:
            return dict(kind.environment)
        plugin = write_plugin(self.folder / "plugin")
        planted = {"PYTHONPATH": str(plugin), "PLANTED": kind.planted, "PLANTED_FILE": str(self.switch)}
        return dict(kind.environment) | planted

    async def capacity(self, server: VllmServer, usual: Requests) -> float:
        """Requests per second of this kind that the server answers when it is never idle; measured once.

        Raises NothingAnswered where it answered none, on a host that is too busy; the next one measures again.
        """
        assert self._kind is not None
        alike = usual.model_copy(update={"share": 0.0, "rate": None, "shape": "steady"})
        key = (self._kind.model_dump_json(), alike.model_dump_json())
        if key not in self._capacity:
            measured = await measure_capacity(server, traffic(usual, 1.0), seconds=MEASURED_FOR_S)
            if measured <= 0:
                raise NothingAnswered(f"no call was answered within {MEASURED_FOR_S:g} s of load: the host is too busy")
            self._capacity[key] = measured
        return self._capacity[key]

    async def rated(self, server: VllmServer, requests: Requests | None) -> Requests | None:
        """The same stream with its `prefill_share`, if it has one, as a rate."""
        if requests is None or requests.prefill_share is None:
            return requests
        tokens = LONG.prompt_tokens * await self.capacity(server, LONG)
        own = requests.prompt_tokens * (1 - requests.shared)
        return requests.model_copy(update={"rate": requests.prefill_share * tokens / own, "prefill_share": None})

    def end(self) -> None:
        """End all of them."""
        for server in self._servers:
            server.end()
        self._servers = []
