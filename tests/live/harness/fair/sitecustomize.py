"""How is a vLLM kept from starving all else on the machine? It waits with `time.sleep(0)` instead of `sched_yield`.

Its processes wait for each other by yielding in a loop. Linux kernels whose scheduler loses track of the average
vruntime in such a loop ("sched/fair: Fix zero_vruntime tracking", mended by "… tracking fix") then let nobody else onto
that core: measured on 6.18.44, a runnable process beside one busy vLLM waited up to 24 s. Before Python 3.11.1 vLLM
itself sleeps for no time instead. See docs/decisions/0003.
"""

import os
import time


def _sleep_for_no_time() -> None:
    time.sleep(0)


os.sched_yield = _sleep_for_no_time
