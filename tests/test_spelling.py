"""A pipeline may have renamed vLLM's metrics: queries are put as the store spells them."""

from __future__ import annotations

import pytest

from responder.spelling import AS_WRITTEN, spelling

EXPR = (
    'rate(vllm:generation_tokens_total{model_name="vllm:x_total"}[10s]) + vllm:num_requests_running'
    " + vllm:iteration_tokens_total_count + http_requests_total"
)


@pytest.mark.parametrize(
    ("names", "expr"),
    [
        (["vllm:generation_tokens_total"], EXPR),
        (["vllm:generation_tokens_total", "vllm_generation_tokens_total"], EXPR),
        ([], EXPR),
        (["something_else"], EXPR),
        (
            ["vllm:generation_tokens"],
            'rate(vllm:generation_tokens{model_name="vllm:x_total"}[10s]) + vllm:num_requests_running'
            " + vllm:iteration_tokens_total_count + http_requests",
        ),
        (
            ["ray_vllm_generation_tokens_total"],
            'rate(ray_vllm_generation_tokens_total{model_name="vllm:x_total"}[10s]) + ray_vllm_num_requests_running'
            " + ray_vllm_iteration_tokens_total_count + http_requests_total",
        ),
    ],
)
def test_a_query_is_put_as_the_store_spells_its_metrics(names: list[str], expr: str) -> None:
    """As written wherever that is known, or nothing is; text in quotes is text."""
    assert spelling(names).of(EXPR) == expr


def test_as_written_is_left_alone() -> None:
    """Not even looked at: it is asked thousands of times."""
    assert spelling(["vllm:generation_tokens_total"]) == AS_WRITTEN
    assert AS_WRITTEN.of(EXPR) is EXPR
