"""How would the same servers look in somebody else's Prometheus? Recorded histories, systematically changed.

A recording is taken apart into its endpoints (a server, its GPU exporter) and their scrapes, so that a scrape can be
left out, repeated, shifted or renamed as a whole: what one scrape said stays together.
"""

from __future__ import annotations

import bisect
import gzip
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bench.scoring.histories import about_of

_LINE = re.compile(r"([^{ ]+)(?:\{(.*)\})? (\S+) (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
COUNTED = ("_total", "_count", "_sum", "_bucket")
Labels = tuple[tuple[str, str], ...]
Row = tuple[str, Labels]
APART_S = 420.0
"""Between two servers' times: longer than Prometheus shows an old sample."""


@dataclass(frozen=True)
class Endpoint:
    """What one address answered. scrapes: seconds, and every series' value then."""

    address: str
    scrapes: tuple[tuple[float, Mapping[Row, float]], ...]


@dataclass(frozen=True)
class Server:
    """One recorded server with its exporters, and what is true of it."""

    name: str
    endpoints: tuple[Endpoint, ...]
    truth: Mapping[str, Any] = field(default_factory=dict)

    @property
    def interval_s(self) -> float:
        """Seconds between its scrapes."""
        times = [at for at, _ in self.endpoints[0].scrapes]
        gaps = sorted(b - a for a, b in zip(times, times[1:], strict=False))
        return gaps[len(gaps) // 2]


def read(history: pathlib.Path) -> list[Server]:
    """Every server of a recorded history that has a truth."""
    about = about_of(history)
    found: dict[str, dict[Row, list[tuple[float, float]]]] = {}
    with gzip.open(history, "rt") as lines:
        for line in lines:
            got = _LINE.match(line.rstrip("\n"))
            if got is None or line.startswith("#"):
                continue
            labels = tuple(_LABEL.findall(got[2] or ""))
            address = dict(labels).get("instance", "")
            found.setdefault(address, {}).setdefault((got[1], labels), []).append((float(got[4]), float(got[3])))
    servers = []
    for name, truth in about["targets"].items():
        host = name.rpartition(":")[0]
        mine = sorted((a for a in found if a.rpartition(":")[0] == host), key=lambda a: a != name)
        endpoints = tuple(_endpoint(address, found[address]) for address in mine)
        servers.append(Server(name, endpoints, {"part": about.get("part", "tune"), **truth}))
    return servers


def _endpoint(address: str, rows: Mapping[Row, list[tuple[float, float]]]) -> Endpoint:
    """Samples put to the nearest scrape: `up` says when those were."""
    ups = next((points for (name, _), points in rows.items() if name == "up"), None)
    times = sorted({at for at, _ in ups or max(rows.values(), key=len)})
    scrapes: list[dict[Row, float]] = [{} for _ in times]
    for row, points in rows.items():
        for at, value in points:
            index = bisect.bisect(times, at)
            near = min((i for i in (index - 1, index) if 0 <= i < len(times)), key=lambda i: abs(times[i] - at))
            scrapes[near][row] = value
    return Endpoint(address, tuple(zip(times, scrapes, strict=True)))


# --------------------------------------------------------------------------------------------------------- over time


def thinned(server: Server, interval_s: float, phase: float = 0.0) -> Server:
    """Only every n-th scrape, so that they are about `interval_s` apart. phase: which of the first n, as a share."""
    nth = max(1, round(interval_s / server.interval_s))
    first = int(phase * nth)
    return replace(server, endpoints=tuple(replace(e, scrapes=e.scrapes[first::nth]) for e in server.endpoints))


def lasting(server: Server, healthy_s: float, fault_s: float) -> Server:
    """As if health had lasted `healthy_s` before the fault, and the fault `fault_s`.

    The seconds between warm-up and onset are played again and again, and then the later half of the fault; counters go
    on from where they were, by as much as they grew.
    """
    truth = server.truth
    if len(truth["incidents"]) > 1:
        raise ValueError(f"{server.name}: two faults in one recording")
    fault = next(iter(truth["incidents"]), None)
    onset, ended = (fault["onset_at"], fault["ended_at"]) if fault else (truth["to"], truth["to"])
    early = max(truth["from"], onset - 45.0)
    more_health = max(0.0, healthy_s - (onset - truth["from"]))
    more_fault = max(0.0, fault_s - (ended - onset)) if fault else 0.0
    loops = ((early, onset - 5.0, more_health), ((onset + ended) / 2, ended - 1.0, more_fault))
    endpoints = tuple(replace(e, scrapes=tuple(_looped(e.scrapes, loops))) for e in server.endpoints)
    incidents = [
        {**fault, "onset_at": onset + more_health, "ended_at": ended + more_health + more_fault}
    ] if fault else []  # fmt: skip
    return Server(server.name, endpoints,
                  {**truth, "to": truth["to"] + more_health + more_fault, "incidents": incidents})  # fmt: skip


def _looped(
    scrapes: tuple[tuple[float, Mapping[Row, float]], ...], loops: Iterable[tuple[float, float, float]]
) -> Iterator[tuple[float, Mapping[Row, float]]]:
    """The scrapes with some stretches repeated for so many seconds more."""
    times = [at for at, _ in scrapes]
    order = list(range(len(scrapes)))
    for since, until, more in sorted(loops, reverse=True):
        inside = [i for i in order if since <= times[i] <= until]
        if len(inside) < 3 or more <= 0:
            continue
        every = (times[inside[-1]] - times[inside[0]]) / (len(inside) - 1)
        # The first one is left out in a repetition: what counters grew by is known from one scrape to the next.
        extra = [inside[1 + k % (len(inside) - 1)] for k in range(round(more / every))]
        place = order.index(inside[-1]) + 1
        order[place:place] = extra
    at, said = times[0], dict(scrapes[0][1])
    yield at, dict(said)
    for index in order[1:]:
        before = index - 1
        at += times[index] - times[before]
        now, then = scrapes[index][1], scrapes[before][1]
        for row in list(said):
            if row not in now:
                del said[row]
        for row, value in now.items():
            if row[0].endswith(COUNTED) and row in said and row in then:
                # A counter that fell was reset.
                said[row] = said[row] + value - then[row] if value >= then[row] else value
            else:
                said[row] = value
        yield at, dict(said)


def healthy_twin(server: Server) -> Server:
    """The same server as if nothing had ever happened to it: what was before the onset, again and again."""
    truth = server.truth
    fault = next(iter(truth["incidents"]), None)
    if fault is None:
        return server
    until = fault["onset_at"] - 5.0
    loop = (max(truth["from"], until - 40.0), until, truth["to"] - until + 10.0)
    endpoints = tuple(
        replace(e, scrapes=tuple(one for one in _looped(e.scrapes, [loop]) if one[0] <= truth["to"]))
        for e in server.endpoints
    )
    return Server(server.name, endpoints, {**truth, "incidents": []})


def two_engines(server: Server) -> Server:
    """A second engine in the same process that is well."""
    twin = dict(healthy_twin(server).endpoints[0].scrapes)
    first, *others = server.endpoints
    times = sorted(twin)

    def other(at: float) -> Mapping[Row, float]:
        return twin[min(times, key=lambda one: abs(one - at))]

    def second(row: Row) -> Row:
        return row[0], tuple(sorted({**dict(row[1]), "engine": "1"}.items()))

    scrapes = tuple(
        (at, {**said, **{second(row): value for row, value in other(at).items()
                         if "engine" in dict(row[1]) and any("engine" in dict(now[1]) for now in said)}})
        for at, said in first.scrapes
    )  # fmt: skip
    return replace(server, endpoints=(replace(first, scrapes=scrapes), *others))


def with_sibling(server: Server) -> Server:
    """A replica of the same model beside it that is well; found as a server of its own."""
    host = server.name.rpartition(":")[0]
    rename = labelled(lambda labels, _: {k: v.replace(host, f"{host}-b") for k, v in labels.items()})
    twin = rename(healthy_twin(server))
    renamed_ = tuple(replace(e, address=e.address.replace(host, f"{host}-b")) for e in twin.endpoints)
    return replace(server, endpoints=(*server.endpoints, *renamed_))


def scraped_twice(server: Server) -> Server:
    """By a pair of which either would do, in a store that keeps what both say."""

    def change(row: Row, value: float) -> Iterable[tuple[Row, float]]:
        for one in ("prometheus-0", "prometheus-1"):
            yield (row[0], tuple(sorted((*row[1], ("prometheus_replica", one))))), value

    return said_otherwise(server, change)


def patchy(server: Server) -> Server:
    """Every ninth scrape is lost, and every other comes a fifth of the interval late."""
    late = server.interval_s / 5
    endpoints = tuple(
        replace(e, scrapes=tuple(
            (at + (late if i % 2 else 0.0), said) for i, (at, said) in enumerate(e.scrapes) if i % 9 != 4
        ))
        for e in server.endpoints
    )  # fmt: skip
    return replace(server, endpoints=endpoints)


def moved(server: Server, to: float) -> Server:
    """The same, beginning at unix second `to`; moments among the values move along."""
    by = to - server.truth["from"]

    def later(row: Row, value: float) -> float:
        return value + by if row[0] == "process_start_time_seconds" else value

    endpoints = tuple(
        replace(e, scrapes=tuple((at + by, {row: later(row, v) for row, v in said.items()}) for at, said in e.scrapes))
        for e in server.endpoints
    )
    truth = dict(server.truth)
    truth["from"], truth["to"] = truth["from"] + by, truth["to"] + by
    truth["incidents"] = [
        {**i, "onset_at": i["onset_at"] + by, "ended_at": i["ended_at"] + by} for i in truth["incidents"]
    ]
    return Server(server.name, endpoints, truth)


def in_a_row(servers: Iterable[Server], begin: float) -> list[Server]:
    """One after the other, so that each is alone in its time."""
    out: list[Server] = []
    for server in servers:
        at = begin if not out else out[-1].truth["to"] + APART_S
        out.append(moved(server, at))
    return out


# ------------------------------------------------------------------------------------------------ what is said, and how


Said = Callable[[Row, float], Iterable[tuple[Row, float]]]


def said_otherwise(server: Server, change: Said) -> Server:
    """Every sample changed, dropped or doubled."""
    endpoints = tuple(
        replace(e, scrapes=tuple((at, dict(new for row, v in said.items() for new in change(row, v)))
                                 for at, said in e.scrapes))
        for e in server.endpoints
    )  # fmt: skip
    return replace(server, endpoints=endpoints)


def without(pattern: str) -> Callable[[Server], Server]:
    """No metric whose name matches."""
    gone = re.compile(pattern)

    def change(row: Row, value: float) -> Iterable[tuple[Row, float]]:
        return () if gone.match(row[0]) else ((row, value),)

    return lambda server: said_otherwise(server, change)


def labelled(relabel: Callable[[dict[str, str], str], dict[str, str]]) -> Callable[[Server], Server]:
    """Other labels: relabel(labels, host) of each series."""

    def change_of(server: Server) -> Said:
        host = server.name.rpartition(":")[0]

        def change(row: Row, value: float) -> Iterable[tuple[Row, float]]:
            return (((row[0], tuple(sorted(relabel(dict(row[1]), host).items()))), value),)

        return change

    return lambda server: said_otherwise(server, change_of(server))


def renamed(names: Mapping[str, str]) -> Callable[[Server], Server]:
    """Other names, by their beginnings."""

    def change(row: Row, value: float) -> Iterable[tuple[Row, float]]:
        for old, new in names.items():
            if row[0].startswith(old):
                return (((new + row[0][len(old) :], row[1]), value),)
        return ((row, value),)

    return lambda server: said_otherwise(server, change)


def text(servers: Iterable[Server]) -> bytes:
    """As OpenMetrics, one family after the other."""
    families: dict[str, dict[Row, list[str]]] = {}
    for server in servers:
        for endpoint in server.endpoints:
            for at, said in endpoint.scrapes:
                for row, value in said.items():
                    families.setdefault(row[0], {}).setdefault(row, []).append(f"{value!r} {at:.3f}")
    out: list[str] = []
    for name in sorted(families):
        out.append(f"# TYPE {name} unknown")
        for (_, labels), points in families[name].items():
            inside = ",".join(f'{k}="{v}"' for k, v in labels)
            out += [f"{name}{{{inside}}} {point}" for point in points]
    return ("\n".join(out) + "\n# EOF\n").encode()
