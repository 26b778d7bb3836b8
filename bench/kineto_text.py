"""How does torch write a trace event, to the space and line break? Versions up to 2.12 (multi) and since (single)."""

from __future__ import annotations


def micros(ns: int) -> str:
    """Nanoseconds as torch writes them."""
    return f"{ns // 1000}.{ns % 1000:03d}"


def x_event(layout: str, cat: str, name: str, pid: int, tid: int, start: int, dur: int, args: str) -> str:
    """A complete event."""
    ts, took = micros(start), micros(dur)
    if layout == "multi":
        return (
            f'  {{\n    "ph": "X", "cat": "{cat}", "name": "{name}", "pid": {pid}, "tid": {tid},\n'
            f'    "ts": {ts}, "dur": {took},\n    "args": {{\n      {args}\n    }}\n  }},\n'
        )
    return (
        f'  {{\n    "ph": "X",\n    "cat": "{cat}",\n    "name": "{name}",\n    "pid": {pid},\n    "tid": {tid},\n'
        f'    "ts": {ts},\n    "dur": {took}\n    ,\n    "args": {{\n      {args}\n    }}\n  }},\n'
    )


def flow_event(layout: str, ph: str, pid: int, tid: int, start: int, correlation: int) -> str:
    """The arrow from a call to its kernel."""
    ts = micros(start)
    if layout == "multi":
        end = ', "bp": "e"' if ph == "f" else ""
        return (
            f'  {{\n    "ph": "{ph}", "id": {correlation}, "pid": {pid}, "tid": {tid}, "ts": {ts},\n'
            f'    "cat": "ac2g", "name": "ac2g"{end}\n  }},\n'
        )
    end = ',\n    "bp": "e"' if ph == "f" else ""
    return (
        f'  {{\n    "ph": "{ph}",\n    "id": {correlation},\n    "pid": {pid},\n    "tid": {tid},\n    "ts": {ts},\n'
        f'    "cat": "ac2g",\n    "name": "ac2g"{end}\n  }},\n'
    )


def gpu_args(cat: str, kind: str, external: int, stream: int, correlation: int, size: int) -> str:
    """Arguments of a copy (size: bytes) or kernel (size: any number that stands for its launch configuration)."""
    where = f'"stream": {stream}, "correlation": {correlation}'
    if cat == "gpu_memcpy":
        return f'"External id": {external},      "device": 0, "context": 1,      {where},      "bytes": {size}'
    grid, registers = (132, 264, 528)[size % 3], (32, 64, 168)[size % 3]
    more = ', "Collective name": "allreduce", "In msg nelems": 262144' if kind == "collective" else ""
    return (
        f'"External id": {external},      "queued": 0, "device": 0, "context": 1,      {where},      '
        f'"registers per thread": {registers},      "shared memory": 49152,      "blocks per SM": 1.500000,      '
        f'"warps per SM": 12.000000,      "grid": [{grid}, 1, 1],      "block": [128, 1, 1],      '
        f'"est. achieved occupancy %": 19{more}'
    )


def header(stack: bool, world_size: int) -> str:
    """What stands before the events."""
    return (
        '{\n  "schemaVersion": 1,\n  "deviceProperties": [{"id": 0, "name": "NVIDIA H200"}],\n'
        f'  "with_stack": {int(stack)}, '
        f'"distributedInfo": {{"backend": "nccl", "rank": 0, "world_size": {world_size}}},\n'
        '  "displayTimeUnit": "ms",\n  "baseTimeNanoseconds": 1790857026000000000,\n  "traceEvents": [\n'
    )


TAIL = (
    '  {\n    "name": "Record Window End", "ph": "i", "s": "g",\n    "pid": "", "tid": "", "ts": 1.000\n  }\n'
    '  ],\n  "traceName": "made"\n}\n'
)
