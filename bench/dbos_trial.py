"""Could DBOS Transact carry `respond`? Memory, start, latency, kills, queues and upgrades, on SQLite; figures for 0006.

python -m bench.dbos_trial [--kills N]        (needs `pip install dbos`; the daemon itself does not)
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import psutil

STEPS = 5
PLAIN = "import responder.app"
WITH = """
import responder.app
from dbos import DBOS
DBOS(config={"name": "trial", "system_database_url": "sqlite:///%s/d.sqlite", "log_level": "ERROR"})
DBOS.launch()
"""
TELL = """
import time as _t, psutil as _p
_t.sleep(1)
print(_p.Process().memory_info().rss / 1e6)
"""


def main(kills: int) -> None:
    """Print every figure."""
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, kills {kills}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        memory(folder)
        print(child(folder / "speed", "speed"), end="")
        asyncio.run(journal(folder / "journal"))
        print(child(folder / "queue", "queue"), end="")
        upgrades(folder)
        noise(folder)
        killed(folder / "kills", kills)


def memory(folder: pathlib.Path) -> None:
    """Resident memory and time of import, with and without."""
    for name, code in (("the daemon's imports", PLAIN), ("the same and DBOS, launched", WITH % folder)):
        seconds, resident = [], []
        for _ in range(3):
            began = time.monotonic()
            done = run([sys.executable, "-c", code + TELL])
            seconds.append(time.monotonic() - began - 1)
            resident.append(float(done.stdout.split()[-1]))
        print(f"{name}: {statistics.median(resident):.0f} MB resident, {min(seconds):.2f} s until ready")


async def journal(folder: pathlib.Path) -> None:
    """The same work through our own store: a row committed before each step and one after it."""
    from responder.store_sqlite import SqliteStore

    store = SqliteStore(folder)
    store.open()

    async def steps(incident: str, count: int) -> None:
        for number in range(count):
            await store.save_timers({f"{incident}.{number}": "started"}, ())
            await store.save_timers({f"{incident}.{number}": "done"}, ())

    began = time.monotonic()
    await steps("one", 200)
    print(f"our store, 200 steps, two commits each: {(time.monotonic() - began) / 200 * 1000:.1f} ms per step")
    began = time.monotonic()
    await asyncio.gather(*(steps(f"many{n}", STEPS) for n in range(100)))
    took = time.monotonic() - began
    print(f"our store, 100 x {STEPS} steps at once: {took:.2f} s ({500 / took:.0f} steps/s)")
    store.close()


def upgrades(folder: pathlib.Path) -> None:
    """A workflow is left half done; who takes it up, and what if the steps have changed meanwhile?"""
    for name, env in (
        ("same version", {"V": "1"}),
        ("other application_version", {"V": "2"}),
        ("same version, one step inserted before the others", {"V": "1", "ORDER": "inserted"}),
    ):
        place = folder / name.replace(" ", "-").replace(",", "")
        child(place, "work", V="1", ONLY="1", KILL_AT="9", ok=(-signal.SIGKILL,))
        said = child(place, "resume", **env)
        print(f"taken up by {name}: {said.strip()}")


def noise(folder: pathlib.Path) -> None:
    """What `filterwarnings = error` would make of it."""
    (folder / "noise").mkdir()
    done = run([sys.executable, "-W", "error", "-m", "bench.dbos_trial", "--child", "work", str(folder / "noise")],
               env={"ONLY": "1"})  # fmt: skip
    said = done.stderr.strip().splitlines()
    print(f"warnings as errors: exit {done.returncode}, {said[-1] if said else 'none'}")


def killed(folder: pathlib.Path, rounds: int) -> None:
    """SIGKILL at a random boundary, again and again; then everything must be finished, and steps are counted."""
    seed = random.Random(7)  # noqa: S311
    times = []
    for number in range(rounds):
        began = time.monotonic()
        child(folder, "work", ONLY=f"{number}", KILL_AT=str(seed.randrange(1, 4 * STEPS)), ok=(0, -signal.SIGKILL))
        times.append(time.monotonic() - began)
    print(child(folder, "resume"), end="")
    lines = (folder / "effects").read_text().splitlines()
    begun = {line.split()[1] for line in lines}
    ends = [line for line in lines if line.startswith("end ")]
    done = [line for line in lines if line.startswith("step ")]
    again = len(done) - len(set(done))
    print(f"{rounds} SIGKILLs, {60 / statistics.median(times):.0f}/min: {len(begun)} begun, {len(set(ends))} finished, "
          f"{len(ends) - len(set(ends))} finished twice, {again} of {len(done)} steps ran again")  # fmt: skip


def child(folder: pathlib.Path, mode: str, ok: tuple[int, ...] = (0,), **env: str) -> str:
    """Run this file as a worker."""
    folder.mkdir(exist_ok=True)
    done = run([sys.executable, "-m", "bench.dbos_trial", "--child", mode, str(folder)], env=env)
    if done.returncode not in ok:
        return f"exit {done.returncode}: {done.stderr.strip()[-300:]}\n"
    return done.stdout


def run(argv: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A child that ends by itself."""
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, env={**os.environ, **(env or {})})


# ------------------------------------------------------------------------------------------------------- the worker


def worker(mode: str, folder: pathlib.Path) -> None:
    """A program with one workflow of five steps that each write a line."""
    from dbos import DBOS, SetWorkflowID

    boundary = int(os.environ.get("KILL_AT", "0"))
    effects = (folder / "effects").open("a", buffering=1)
    passed = 0
    running = most = 0

    def point() -> None:
        nonlocal passed
        passed += 1
        if passed == boundary:
            os.kill(os.getpid(), signal.SIGKILL)

    DBOS(
        config={
            "name": "trial", "system_database_url": f"sqlite:///{folder}/d.sqlite", "log_level": "CRITICAL",
            "application_version": os.environ.get("V", "1"),
        }
    )  # fmt: skip

    @DBOS.step()
    async def step(incident: str, name: str) -> str:
        nonlocal running, most
        point()
        running += 1
        most = max(most, running)
        effects.write(f"step {incident} {name}\n")
        if mode == "queue":
            await asyncio.sleep(0.02)
        running -= 1
        point()
        return name

    @DBOS.step()
    async def inserted(incident: str) -> None:
        effects.write(f"inserted {incident}\n")

    @DBOS.workflow()
    async def respond(incident: str, steps: int = STEPS) -> str:
        effects.write(f"begun {incident}\n")
        if os.environ.get("ORDER") == "inserted":
            await inserted(incident)
        for number in range(steps):
            point()
            await step(incident, str(number))
            point()
        effects.write(f"end {incident}\n")
        return incident

    async def work() -> None:
        with SetWorkflowID(f"w{os.environ['ONLY']}"):
            handle = await DBOS.start_workflow_async(respond, f"i{os.environ['ONLY']}")
        await handle.get_result()

    async def resume() -> None:
        open_states = ["PENDING", "ENQUEUED"]
        began = time.monotonic()
        while time.monotonic() - began < 10 and await DBOS.list_workflows_async(status=open_states):  # noqa: ASYNC110 - its database is what we ask
            await asyncio.sleep(0.2)
        every = await DBOS.list_workflows_async()
        states = {state: sum(w.status == state for w in every) for state in {w.status for w in every}}
        bad = next((w for w in every if w.status == "ERROR"), None)
        print(f"{states} after {time.monotonic() - began:.1f} s", f"({str(bad.error)[:160]})" if bad else "")

    async def speed() -> None:
        began = time.monotonic()
        with SetWorkflowID("one"):
            await (await DBOS.start_workflow_async(respond, "one", 200)).get_result()
        print(f"one workflow, 200 steps: {(time.monotonic() - began) / 200 * 1000:.1f} ms per step")
        lags: list[float] = []

        async def lag() -> None:
            while True:
                then = time.monotonic()
                await asyncio.sleep(0.005)
                lags.append(time.monotonic() - then - 0.005)

        watching = asyncio.create_task(lag())
        began = time.monotonic()
        handles = []
        for number in range(100):
            with SetWorkflowID(f"many{number}"):
                handles.append(await DBOS.start_workflow_async(respond, f"many{number}"))
        await asyncio.gather(*(h.get_result() for h in handles))
        took = time.monotonic() - began
        watching.cancel()
        lags.sort()
        worst, resident = lags[int(len(lags) * 0.99)] * 1000, psutil.Process().memory_info().rss / 1e6
        print(f"100 workflows of {STEPS} steps at once: {took:.1f} s ({500 / took:.0f} steps/s)")
        print(f"  meanwhile loop lag p99 {worst:.1f} ms, {resident:.0f} MB")

    async def queued() -> None:
        nonlocal most
        await DBOS.register_queue_async("narrow", concurrency=2, polling_interval_sec=0.1)
        await DBOS.register_queue_async("slow", limiter={"limit": 5, "period": 1.0}, polling_interval_sec=0.1)
        for name, count in (("narrow", 12), ("slow", 15)):
            most, began = 0, time.monotonic()
            handles = [await DBOS.enqueue_workflow_async(name, respond, f"{name}{n}", 1) for n in range(count)]
            await asyncio.gather(*(h.get_result() for h in handles))
            print(f"queue {name}: {count} workflows in {time.monotonic() - began:.1f} s, at most {most} at once")

    async def start() -> None:
        DBOS.launch()
        await {"work": work, "resume": resume, "speed": speed, "queue": queued}[mode]()
        DBOS.destroy()

    asyncio.run(start())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--child", nargs=2)
    given = parser.parse_args()
    if given.child:
        worker(given.child[0], pathlib.Path(given.child[1]))
    else:
        main(given.kills)
