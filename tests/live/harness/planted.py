"""How is wrong output planted into a real vLLM? A plugin folder for its PYTHONPATH; vLLM itself is not changed.

PLANTED=prefix_blocks: of a prompt's cached KV blocks the first is read in place of all others, so answers are wrong
only where a prefix is shared and only while prefix caching is on. (Their order alone would change nothing: positions
are in the keys.) PLANTED=weights: while the file PLANTED_FILE exists, one weight of the running model holds what the
file says: `nan`, or `noise 0.05` (relative); gone, the good weights are back. PLANTED=scheduler: while PLANTED_FILE
exists, one request in ten is not scheduled for as many seconds as the file says: an unfair scheduler.
PLANTED=slow_scheduler: while PLANTED_FILE exists, Python works for as many seconds as the file says before each step
is scheduled.
"""

from __future__ import annotations

import pathlib

PLUGIN = """
import os, threading, time


def plant():
    kind = os.environ.get("PLANTED", "")
    if kind == "prefix_blocks":
        from vllm.v1.worker.gpu_model_runner import GPUModelRunner

        right = GPUModelRunner._update_states
        if getattr(right, "planted", False):
            return

        def wrong(self, scheduled, *args, **kwargs):
            for request in scheduled.scheduled_new_reqs:
                cached = request.num_computed_tokens // self.cache_config.block_size
                for group in request.block_ids:
                    group[1:cached] = [group[0]] * len(group[1:cached])
            return right(self, scheduled, *args, **kwargs)

        wrong.planted = True
        GPUModelRunner._update_states = wrong
    if kind == "weights":
        from vllm.v1.worker.cpu_model_runner import CPUModelRunner

        load = CPUModelRunner.load_model
        if getattr(load, "planted", False):
            return

        def load_and_watch(self, *args, **kwargs):
            load(self, *args, **kwargs)
            threading.Thread(target=watch, args=(self.get_model(),), daemon=True).start()

        load_and_watch.planted = True
        CPUModelRunner.load_model = load_and_watch

    if kind == "scheduler":
        from vllm.v1.core.sched.scheduler import Scheduler

        schedule = Scheduler.schedule
        if getattr(schedule, "planted", False):
            return

        def unfair(self, *args, **kwargs):
            held = []
            seconds = hold_seconds()
            if seconds:
                held = [r for r in self.waiting if sum(r.request_id.encode()) % 10 == 0
                        and time.time() - r.arrival_time < seconds]
                self.waiting.remove_requests(held)
            try:
                return schedule(self, *args, **kwargs)
            finally:
                for request in held:
                    self.waiting.add_request(request)

        unfair.planted = True
        Scheduler.schedule = unfair

    if kind == "slow_scheduler":
        from vllm.v1.core.sched.scheduler import Scheduler

        schedule = Scheduler.schedule
        if getattr(schedule, "planted", False):
            return

        def slow(self, *args, **kwargs):
            seconds = hold_seconds() if self.has_requests() else 0.0
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                sum(range(1000))
            return schedule(self, *args, **kwargs)

        slow.planted = True
        Scheduler.schedule = slow


def hold_seconds():
    try:
        with open(os.environ["PLANTED_FILE"]) as file:
            return float(file.read())
    except (OSError, ValueError):
        return 0.0


def watch(model):
    import torch

    path = os.environ["PLANTED_FILE"]
    weight = dict(model.named_parameters())["model.layers.2.input_layernorm.weight"]
    good = weight.detach().clone()
    noise = torch.randn(good.shape, generator=torch.Generator().manual_seed(1)).to(good.dtype)
    last = ""
    while True:
        try:
            with open(path) as file:
                wanted = file.read().strip()
        except OSError:
            wanted = ""
        if wanted != last:
            last = wanted
            with torch.no_grad():
                if wanted == "nan":
                    weight.fill_(float("nan"))
                elif wanted.startswith("noise"):
                    weight.copy_(good * (1 + float(wanted.split()[1]) * noise))
                else:
                    weight.copy_(good)
        time.sleep(0.05)
"""


def write_plugin(folder: pathlib.Path) -> pathlib.Path:
    """Write the plugin; put the returned folder on PYTHONPATH and set PLANTED."""
    info = folder / "planted-0.1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (folder / "planted_defect.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[vllm.general_plugins]\nplanted = planted_defect:plant\n")
    return folder
