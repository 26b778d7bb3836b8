"""What do the GPUs do meanwhile? NVML's figures under the names of NVIDIA's exporter, for a machine that has none.

python -m bench.faults.gpu_exporter PORT
"""

from __future__ import annotations

import http.server
import os
import socket
import sys

import pynvml

NAMES = (
    "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_MEM_COPY_UTIL", "DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_SM_CLOCK",
    "DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_FB_USED",
)  # fmt: skip


def visible() -> list[int]:
    """Numbers of the GPUs that the lab's servers may use; all of them unless CUDA_VISIBLE_DEVICES lists numbers."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [int(number) for number in named.split(",")] if named else list(range(pynvml.nvmlDeviceGetCount()))


def exposed() -> str:
    """The text of /metrics: percent, percent, watts, MHz, degrees Celsius, MiB."""
    lines = {name: [f"# TYPE {name} gauge"] for name in NAMES}
    for number in visible():
        gpu = pynvml.nvmlDeviceGetHandleByIndex(number)
        busy = pynvml.nvmlDeviceGetUtilizationRates(gpu)
        values = (
            busy.gpu, busy.memory, pynvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
            pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
            pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
            pynvml.nvmlDeviceGetMemoryInfo(gpu).used / (1 << 20),
        )  # fmt: skip
        for name, value in zip(NAMES, values, strict=True):
            lines[name].append(f'{name}{{gpu="{number}",Hostname="{socket.gethostname()}"}} {value}')
    return "\n".join(line for name in NAMES for line in lines[name]) + "\n"


class Answer(http.server.BaseHTTPRequestHandler):
    """Any path is /metrics."""

    def do_GET(self) -> None:  # the name that http.server asks for
        body = exposed().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """A line per scrape says nothing."""


if __name__ == "__main__":
    pynvml.nvmlInit()
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
