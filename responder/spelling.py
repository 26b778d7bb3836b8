"""How does this store spell vLLM's metrics? What a pipeline made of their names, from the names it has. Pure.

Prometheus keeps `vllm:generation_tokens_total`. A collector may write `vllm_…` where a colon is no letter, put its own
word in front (`ray_vllm_…`), or leave `_total` out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_WITNESS = re.compile(r"^(?P<before>[a-zA-Z0-9]*_?)vllm(?P<colon>[:_])generation_tokens(?P<total>_total)?$")
ASK = (
    'count by (spelled) (label_replace({__name__=~"[a-zA-Z0-9]*_?vllm[:_]generation_tokens(_total)?"}, '
    '"spelled", "$1", "__name__", "(.+)"))'
)
"""PromQL whose rows have the names that tell, under the label `spelled`."""
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
_NAME = re.compile(rf"({_QUOTED})|(?<![\w:])(?:vllm:(\w+)|(http_requests|process_cpu_seconds)_total\b)")


class Spelling(NamedTuple):
    """before: what stands before `vllm`; colon: what stands for it; total: what `_total` became."""

    before: str = ""
    colon: str = ":"
    total: str = "_total"

    def of(self, expr: str) -> str:
        """PromQL as rules are written -> PromQL that this store understands."""
        if self == AS_WRITTEN:
            return expr

        def spelled(got: re.Match[str]) -> str:
            if got[1]:
                return got[1]
            if got[3]:
                return f"{got[3]}{self.total}"
            name = got[2]
            # The histogram iteration_tokens_total has it in the middle of its name.
            if name.endswith("_total"):
                name = name.removesuffix("_total") + self.total
            return f"{self.before}vllm{self.colon}{name}"

        return _NAME.sub(spelled, expr)


AS_WRITTEN = Spelling()


def spelling(names: Iterable[str]) -> Spelling:
    """The one these names show; as rules are written where that is among them, or none of them tells."""
    found = {
        Spelling(got["before"], got["colon"], got["total"] or "") for name in names if (got := _WITNESS.match(name))
    }
    return AS_WRITTEN if AS_WRITTEN in found or not found else min(found)
