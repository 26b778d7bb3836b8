"""Are ports that are down, slow or losing packets told, and ports without a device not invented?"""

from __future__ import annotations

from collections.abc import Sequence

from responder.capture import infiniband
from responder.capture.step import Command, NoParams
from responder.model import Inventory, Outcome
from tests.doubles import BRIEF, Files, scene

ROOT = infiniband.ROOT
HERE = Inventory(at=0, local=True)


class Fabric(Files):
    """Two adapters of one port; `symbol_error` of the second grows with every look."""

    def __init__(self) -> None:
        super().__init__({}, {"ibstat": b"CA 'mlx5_0'\n"})
        self.looks = 0

    async def run(self, argv: Sequence[str], *, timeout: float, max_bytes: int = 1 << 20) -> Command:
        listed = {ROOT: b"mlx5_0\nmlx5_1\n", f"{ROOT}/mlx5_0/ports": b"1\n", f"{ROOT}/mlx5_1/ports": b"1\n"}
        if argv[0] == "ls":
            return Command(0, listed[argv[1]], b"", 0.0)
        return await super().run(argv, timeout=timeout, max_bytes=max_bytes)

    async def read(self, path: str, *, max_bytes: int, tail: bool = False) -> bytes:
        device, _, name = path.removeprefix(f"{ROOT}/").partition("/ports/1/")
        bad = device == "mlx5_1"
        if name == "counters/symbol_error" and bad:
            self.looks += 1
        values = {
            "state": b"1: DOWN\n" if bad else b"4: ACTIVE\n",
            "rate": b"100 Gb/sec (2X NDR)" if bad else b"400 Gb/sec (4X NDR)",
            "counters/symbol_error": str(5 + self.looks if bad else 0).encode(),
            "counters/port_xmit_data": b"1000",
            "counters/port_xmit_wait": b"7",
        }
        if name not in values:
            raise FileNotFoundError(path)
        return values[name]


async def test_a_sick_port_is_told(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Down, and its errors grow while we look."""
    monkeypatch.setattr(infiniband, "APART_S", 0.01)
    async with scene(inventory=HERE, runner=Fabric()) as where:
        fetched = await infiniband.fetch(where, NoParams())
    assert fetched.outcome is Outcome.OK
    assert "ibv_devinfo is not installed" in fetched.reason
    assert infiniband.IBSTAT in fetched.files
    found = {fact.name.removeprefix("infiniband."): fact for fact in infiniband.read(fetched.files, BRIEF)}
    assert {f"infiniband.{name}" for name in found} == {spec.name for spec in infiniband.STEP.facts}
    assert found["ports"].value == 2
    assert (found["ports_down"].value, found["ports_down"].says) == (1, "mlx5_1/ports/1: 1: DOWN")
    assert (found["errors"].value, found["errors_growing"].value) == (7, 1)
    assert found["errors_growing"].says == "mlx5_1/ports/1 symbol_error: +1"
    assert found["congested"].value is False


async def test_no_device_is_skipped() -> None:
    """Most hosts have none."""
    async with scene(inventory=HERE, runner=Files()) as where:
        fetched = await infiniband.fetch(where, NoParams())
    assert (fetched.outcome, fetched.reason) == (Outcome.SKIPPED, infiniband.NOT_HERE)
