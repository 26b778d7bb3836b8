"""What does a drawn server do from step to step? The scheduler of `bench.faults.simulate`, fast, with a front end.

Steps in which everybody decodes and nobody can be admitted are taken many at a time: an hour of a fast machine takes
seconds. Gauges are those of the last finished step, as vLLM's are, so a hung server looks as it did before.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

from bench.faults.simulate import ITL, TTFT, Request, Server

STEP_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


@dataclass(eq=False)
class Call(Request):
    """A request as its client sees it, too."""

    entered: float = 0.0
    """When the front end handed it to the engine."""
    answered: int = 0
    """Tokens its client has; a preempted request keeps them."""
    worst: float = 0.0
    """Longest wait between two tokens."""
    ended: float = 0.0
    on: bool = False
    """It runs."""


@dataclass
class Engine(Server):
    """`running` and `waiting` hold Calls."""

    shown: tuple[int, int, float] = (0, 0, 0.0)
    """Running, waiting and KV usage as of the last step."""
    busy_s: float = 0.0
    """Time the device computed."""
    held: list[tuple[float, Call]] = field(default_factory=list)
    """Until when the scheduler passes it over; it counts as waiting."""

    def stuck(self) -> bool:
        """Nobody waits who could be admitted now."""
        if not self.waiting or len(self.running) >= self.machine.slots:
            return True
        first = self.waiting[0]
        return bool(self.running) and (
            self.kv + min(first.prompt - first.hits, self.machine.budget) > self.machine.kv_tokens
        )

    def decode(self, now: float, until: float, slower: float, late_s: float) -> float:
        """Steps in which all decode and none finishes, up to `until`; gives `now` where there is no such step."""
        if not self.running or not self.stuck() or any(r.computed < r.prompt for r in self.running):
            return now
        machine, n = self.machine, len(self.running)
        steps = min(min(r.leaves_after or r.output, r.output) - r.generated for r in self.running) - 1
        steps = min(steps, (machine.kv_tokens - self.kv) // n)
        if steps < 2:
            return now
        base = slower * (machine.step_s + machine.per_sequence_s * n)
        context = sum(r.context for r in self.running)
        began, done, worst = now, 0, 0.0
        for request in self.running:
            gap = now + late_s + base + slower * machine.per_context_token_s * context - request.last
            self.gap(gap, 1)
            request.worst = max(request.worst, gap)  # type: ignore[attr-defined]
        while done < steps and (now < until or done == 0):
            took = base + slower * machine.per_context_token_s * (context + done * n) + late_s
            if done:
                self.gap(took, n)
                worst = max(worst, took)
            now += took
            done += 1
        for request in self.running:
            request.generated += done
            request.answered += done  # type: ignore[attr-defined]
            request.last = now
            request.worst = max(request.worst, worst)  # type: ignore[attr-defined]
        self.kv += n * done
        self.counters["generated"] += n * done
        self.counters[f"iteration|{bisect.bisect_left(STEP_TOKENS, n)}"] += done
        self.counters["iteration_sum"] += n * done
        self.counters["iteration_count"] += done
        self.busy_s += now - began - late_s * done
        self.show()
        return now

    def gap(self, seconds: float, count: int) -> None:
        """So many tokens came that long after the one before."""
        self.counters[f"itl|{bisect.bisect_left(ITL, seconds)}"] += count
        self.counters["itl_sum"] += seconds * count
        self.counters["itl_count"] += count

    def show(self) -> None:
        """A step returned: the gauges are written."""
        self.shown = (len(self.running), len(self.waiting) + len(self.held), self.kv / self.machine.kv_tokens)

    def step(self, now: float, slower: float, late_s: float = 0.0) -> float:
        """One engine step; gives its end."""
        machine, budget, before = self.machine, self.machine.budget, self.counters["preemptions"]
        work: dict[Call, int] = {}
        for request in list(self.running):
            assert isinstance(request, Call)
            if not request.on or budget <= 0:
                continue
            left = request.prompt - request.computed
            tokens = min(left, budget) if left > 0 else 1
            while self.kv + tokens > machine.kv_tokens and self.running[-1] is not request:
                self.preempt(self.running[-1], work)
            if self.kv + tokens > machine.kv_tokens:
                self.preempt(request, work)
                continue
            self.kv += tokens
            budget -= tokens
            work[request] = tokens
        if self.counters["preemptions"] == before:
            self._admit(now, budget, work)
        prefill = sum(tokens for request, tokens in work.items() if request.computed < request.prompt)
        took = slower * (
            machine.step_s
            + machine.per_sequence_s * len(work)
            + machine.per_prefill_token_s * prefill
            + machine.per_context_token_s * sum(request.context for request in work)
        )
        end = now + took + late_s
        self.busy_s += took
        self.histogram("iteration", STEP_TOKENS, sum(work.values()))
        for request, tokens in work.items():
            self.advance(request, tokens, end)
        self.show()
        return end

    def _admit(self, now: float, budget: int, work: dict[Call, int]) -> None:
        machine = self.machine
        while self.waiting and budget > 0 and len(self.running) < machine.slots:
            request = self.waiting[0]
            assert isinstance(request, Call)
            tokens = min(request.prompt - request.hits, budget)
            if self.kv + tokens > machine.kv_tokens:
                break
            self.waiting.popleft()
            self.running.append(request)
            request.on = True
            if request.scheduled == 0:
                request.scheduled = now
                self.counters["queries"] += request.prompt
                self.counters["hits"] += request.hits
            request.computed = request.hits
            self.kv += tokens
            budget -= tokens
            work[request] = tokens

    def preempt(self, request: Request, work: dict[Call, int]) -> None:
        """Out of the batch; what it had is computed again."""
        assert isinstance(request, Call)
        request.on = False
        work.pop(request, None)
        self._preempt(request, [])

    def advance(self, request: Call, tokens: int, end: float) -> None:
        """What the step did for one request."""
        if request.computed < request.prompt:
            request.computed += tokens
            self.counters["computed"] += tokens
            if request.computed < request.prompt:
                return
            self.counters["prompt"] += request.prompt
        if request.first == 0:
            request.first = end
            self.histogram("ttft", TTFT, end - request.arrived)
        else:
            self.gap(end - request.last, 1)
            request.worst = max(request.worst, end - request.last)
        request.last = end
        request.generated += 1
        request.answered += 1
        self.counters["generated"] += 1
        gone = bool(request.leaves_after) and request.generated >= request.leaves_after
        if gone or request.generated >= request.output:
            self.leave(request, finished=not gone, now=end)

    def leave(self, request: Request, *, finished: bool, now: float) -> None:
        """Finished, or its client hung up; the engine's queue time begins where the front end ends."""
        assert isinstance(request, Call)
        came, request.arrived = request.arrived, request.entered
        super().leave(request, finished=finished, now=now)
        request.arrived, request.ended, request.on = came, now, False
