"""What does the NVIDIA driver say of every GPU? Run as a child: `python -m responder.nvml_probe`, JSON lines on stdout.

A call into a sick driver may never return and cannot be interrupted, so it happens in a process that can be abandoned.
Lines come as soon as they are known: what was printed before the stuck call tells which GPU it is. Exit 3: no driver.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from responder.gpu_text import BITS

SAMPLES, APART_S = 3, 0.2
"""Utilisation is a short average: three looks tell steady from passing."""

MAX_LINKS = 18


def main() -> int:
    """Print the header line, then a line per GPU."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError as error:
        return _no_driver(f"nvidia-ml-py is not installed ({error})")
    try:
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        return _no_driver(str(error))
    _say({"driver": _text(_ask(nvml.nvmlSystemGetDriverVersion)), "count": count})
    gpus: dict[int, Any] = {}
    for index in range(count):
        _say({"asking": index})
        try:
            gpus[index] = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:  # "GPU is lost": fallen off the bus
            _say({"index": index, "lost": str(error)})
    samples: dict[int, list[dict[str, Any]]] = {index: [] for index in gpus}
    for turn in range(SAMPLES):
        if turn:
            time.sleep(APART_S)
        for index, gpu in gpus.items():
            samples[index].append(_sample(nvml, gpu))
    for index, gpu in gpus.items():
        _say({"index": index, "samples": samples[index], **_lasting(nvml, gpu)})
    _say({"done": True})
    return 0


def _sample(nvml: Any, gpu: Any) -> dict[str, Any]:
    use = _ask(nvml.nvmlDeviceGetUtilizationRates, gpu)
    return {
        "util": use.gpu if use else None,
        "mem_util": use.memory if use else None,
        "power_w": _milli(_ask(nvml.nvmlDeviceGetPowerUsage, gpu)),
        "sm_mhz": _ask(nvml.nvmlDeviceGetClockInfo, gpu, nvml.NVML_CLOCK_SM),
    }


def _lasting(nvml: Any, gpu: Any) -> dict[str, Any]:
    memory = _ask(nvml.nvmlDeviceGetMemoryInfo, gpu)
    mask = _ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, gpu)
    remapped = _ask(nvml.nvmlDeviceGetRemappedRows, gpu)
    return {
        "name": _text(_ask(nvml.nvmlDeviceGetName, gpu)),
        "uuid": _text(_ask(nvml.nvmlDeviceGetUUID, gpu)),
        "power_limit_w": _milli(_ask(nvml.nvmlDeviceGetEnforcedPowerLimit, gpu)),
        "power_default_w": _milli(_ask(nvml.nvmlDeviceGetPowerManagementDefaultLimit, gpu)),
        "sm_max_mhz": _ask(nvml.nvmlDeviceGetMaxClockInfo, gpu, nvml.NVML_CLOCK_SM),
        "mem_mhz": _ask(nvml.nvmlDeviceGetClockInfo, gpu, nvml.NVML_CLOCK_MEM),
        "throttle": None if mask is None else [name for bit, name in BITS.items() if mask & bit],
        "temperature": _ask(nvml.nvmlDeviceGetTemperature, gpu, nvml.NVML_TEMPERATURE_GPU),
        "memory_used": memory.used if memory else None,
        "memory_total": memory.total if memory else None,
        "ecc_uncorrected": _ask(
            nvml.nvmlDeviceGetTotalEccErrors, gpu, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        ),
        "retired_pages": _retired(nvml, gpu),
        "remapped_rows": list(remapped) if remapped else None,
        "nvlinks": _links(nvml, gpu),
        "processes": _processes(nvml, gpu),
    }


def _links(nvml: Any, gpu: Any) -> list[dict[str, Any]]:
    found = []
    for link in range(MAX_LINKS):
        active = _ask(nvml.nvmlDeviceGetNvLinkState, gpu, link)
        if active is None:
            break
        kinds = [getattr(nvml, f"NVML_NVLINK_ERROR_DL_{kind}") for kind in ("REPLAY", "RECOVERY", "CRC_FLIT")]
        errors = [_ask(nvml.nvmlDeviceGetNvLinkErrorCounter, gpu, link, kind) for kind in kinds] if active else []
        found.append({"active": bool(active), "errors": sum(error or 0 for error in errors)})
    return found


def _retired(nvml: Any, gpu: Any) -> int | None:
    causes = (
        nvml.NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS,
        nvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR,
    )
    pages = [_ask(nvml.nvmlDeviceGetRetiredPages, gpu, cause) for cause in causes]
    return sum(len(found) for found in pages if found is not None) if any(p is not None for p in pages) else None


def _processes(nvml: Any, gpu: Any) -> list[dict[str, Any]] | None:
    running = _ask(nvml.nvmlDeviceGetComputeRunningProcesses, gpu)
    if running is None:
        return None
    return [
        {"pid": one.pid, "memory": one.usedGpuMemory, "name": _text(_ask(nvml.nvmlSystemGetProcessName, one.pid))}
        for one in running
    ]


def _ask(call: Callable[..., Any], *arguments: Any) -> Any:
    """None for what this GPU or this driver does not tell; each field stands for itself."""
    try:
        return call(*arguments)
    except Exception:  # NVMLError, and AttributeError-like surprises between driver and binding versions
        return None


def _milli(value: float | None) -> float | None:
    return None if value is None else value / 1000


def _text(value: Any) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _no_driver(why: str) -> int:
    _say({"error": why})
    return 3


if __name__ == "__main__":
    sys.exit(main())
