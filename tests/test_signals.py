"""The alias table: right names for every version, right buckets for every value."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.exposition import parse
from responder.signals import FAMILIES, bucket_of, family_of, names_of, present_name

REAL = Path(__file__).parent / "data" / "metrics_0.32.txt.gz"
"""One whole exposition of a loaded vLLM 0.32."""
HISTOGRAMS = sorted(name for name, row in FAMILIES.items() if row.kind == "histogram")


@pytest.mark.parametrize(
    ("family", "version", "names"),
    [
        ("kv_usage", "0.6.6", ("vllm:gpu_cache_usage_perc",)),
        ("kv_usage", "0.9.1", ("vllm:gpu_cache_usage_perc",)),
        ("kv_usage", "0.9.2", ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")),
        ("kv_usage", "0.11.2", ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")),
        ("kv_usage", "0.12.0", ("vllm:kv_cache_usage_perc",)),
        ("kv_usage", "0.33.0rc1", ("vllm:kv_cache_usage_perc",)),
        ("itl", "0.8.5", ("vllm:time_per_output_token_seconds",)),
        ("itl", "0.14.1", ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds")),
        ("itl", "0.15.0", ("vllm:inter_token_latency_seconds",)),
        ("iteration_tokens", "0.7.3", ()),
        ("rejections", "0.31.0", ()),
        ("rejections", "0.32.0+cpu", ("vllm:admission_rejections_total",)),
        ("swapped", "0.9.0.1", ("vllm:num_requests_swapped",)),
        ("swapped", "0.10.0", ()),
    ],
)
def test_names_by_version(family: str, version: str, names: tuple[str, ...]) -> None:
    """Renamed, removed and added metrics; a name that is hidden by default counts until it is gone."""
    assert names_of(family, version) == names


def test_a_name_belongs_to_one_family() -> None:
    """Or looking a sample up would depend on the order of the table."""
    names = [alias.metric for row in FAMILIES.values() for alias in row.names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("metric", "family"),
    [
        ("vllm:time_per_output_token_seconds_bucket", "itl"),
        ("vllm:iteration_tokens_total_count", "iteration_tokens"),
        ("vllm:iteration_tokens_total", "iteration_tokens"),
        ("vllm:num_requests_running_count", None),
        ("vllm:never_heard_of", None),
        ("up", "up"),
    ],
)
def test_family_of_a_sample(metric: str, family: str | None) -> None:
    """Histogram suffixes are part of the sample's name, and only histograms have them."""
    assert family_of(metric) == family


def test_finding_a_family_in_an_exposition_whatever_the_version() -> None:
    """With both names exposed the newer one counts; generators are read once."""
    both = ["vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc"]
    assert present_name("kv_usage", iter(both)) == "vllm:kv_cache_usage_perc"
    assert present_name("kv_usage", iter(both[:1])) == "vllm:gpu_cache_usage_perc"
    assert present_name("itl", iter(["vllm:time_per_output_token_seconds_bucket"])) == (
        "vllm:time_per_output_token_seconds"
    )
    assert present_name("kv_usage", iter([])) is None


@pytest.mark.parametrize("family", HISTOGRAMS)
def test_bucket_edges_are_those_of_a_real_server(family: str) -> None:
    """Token histograms are cut at the model's maximum length; the rest is as the table says."""
    found = parse(gzip.decompress(REAL.read_bytes()))
    name = present_name(family, (reading.name for reading in found.readings))
    assert name is not None
    edges = sorted({float(r.labels["le"]) for r in found.named(f"{name}_bucket")} - {math.inf})
    table = FAMILIES[family].edges
    assert tuple(edges) == (table[: len(edges)] if family.startswith("request_") else table)


@given(st.sampled_from(HISTOGRAMS), st.floats(min_value=0, max_value=1e7, allow_nan=False))
def test_a_value_lies_in_its_bucket(family: str, value: float) -> None:
    """And the bucket's ends are edges of that histogram."""
    bucket = bucket_of(family, value)
    assert bucket is not None
    lower, upper = bucket
    edges = (0.0, *FAMILIES[family].edges, math.inf)
    assert lower in edges
    assert upper in edges
    assert edges.index(upper) == edges.index(lower) + 1
    assert lower <= value <= upper


def test_buckets_at_their_edges() -> None:
    """Prometheus interpolates within (lower, upper]; above the last edge it answers the last edge itself."""
    assert bucket_of("ttft", 2.5) == (1.0, 2.5)
    assert bucket_of("ttft", 2.5001) == (2.5, 5.0)
    assert bucket_of("queue_time", 0.1) == (0.0, 0.3)
    assert bucket_of("ttft", 2560.0) == (2560.0, math.inf)
    assert bucket_of("ttft", 3.0, edges=(2.0, 4.0)) == (2.0, 4.0)
    assert bucket_of("running", 3.0) is None
    assert bucket_of("ttft", math.nan) is None
    assert bucket_of("no such family", 1.0) is None
