"""Do the shipped rule files hold: for Prometheus, for the responder, and for every vLLM version in the alias table?"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from responder.evaluate import COMPARE
from responder.load import load_rules
from responder.model import Severity
from responder.rules import expand
from responder.signal_words import SIGNALS
from responder.signals import FAMILIES, family_of, names_of

ROOT = Path(__file__).parent.parent
RULES = ROOT / "rules"
FILES = sorted(RULES.glob("*.yaml"))
TESTS = sorted((RULES / "tests").glob("*.yaml"))
METRIC = re.compile(r"(?<![\w:\"])((?:vllm:|DCGM_|http_|process_|scrape_)\w+|up)(?![\w:(\"])")
PROBES = re.compile(r"(?<![\w:])responder_\w+")

REQUIRED = [
    "VLLMTTFTHigh", "VLLMTTFTHighLowTraffic", "VLLMQueueGrowing", "VLLMKVCachePressure", "VLLMKVCacheCritical",
    "VLLMITLHigh", "VLLMITLAboveUsual", "VLLMNoProgress", "VLLMNoProgressCanary", "VLLMNoProgressConnections",
    "VLLMTargetDown", "VLLMFrontendFrozen", "VLLMUnhealthy", "VLLMRestarted", "VLLMErrors", "VLLMClientAborts",
    "VLLMClientErrors", "VLLMRejections", "VLLMPrefixCacheCollapse", "VLLMThroughputLow", "VLLMCorruptedRequests",
    "VLLMRepetition", "VLLMTailLatency", "VLLMPreemptionsSporadic", "VLLMSleeping", "VLLMLogQueue",
    "VLLMLogKVPressure", "VLLMLogThroughput", "VLLMLogSilent",
]  # fmt: skip


def promtool() -> str:
    """The binary, from PATH or from .tools; without it these tests fail, they are not skipped."""
    local = ROOT / ".tools" / "usr" / "bin" / "promtool"
    found = shutil.which("promtool") or (str(local) if os.access(local, os.X_OK) else None)
    if found is None:
        pytest.fail("promtool is neither on PATH nor in .tools/usr/bin: `make setup` or `apt install prometheus`")
    return found


@pytest.mark.prometheus
@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_prometheus_accepts_the_file(file: Path) -> None:
    """`promtool check rules` finds nothing to say, warnings about duplicates included."""
    done = subprocess.run([promtool(), "check", "rules", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "duplicate" not in done.stdout


@pytest.mark.prometheus
@pytest.mark.minutes
@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.name)
def test_prometheus_agrees_with_what_fires_and_what_stays_silent(file: Path) -> None:
    """`promtool test rules` with the scenarios beside the rules."""
    # The collector of Go takes a fifth of the time where memory is kept as short as it is by default.
    environment = {**os.environ, "GOGC": "400"}
    done = subprocess.run(
        [promtool(), "test", "rules", str(file)], capture_output=True, text=True, timeout=580, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr


SIGNALS_READ, RULES_READ, PROBLEMS = load_rules([RULES])
BY_NAME = {signal.name: signal.expr for signal in SIGNALS_READ}


def test_the_responder_reads_them_without_a_problem() -> None:
    assert PROBLEMS == ()
    assert set(REQUIRED) <= {rule.alert for rule in RULES_READ}
    assert len({rule.alert for rule in RULES_READ}) == len(RULES_READ)


@pytest.mark.parametrize("rule", RULES_READ, ids=lambda rule: rule.alert)
def test_every_rule_is_a_conjunction_of_known_signals(rule) -> None:  # type: ignore[no-untyped-def]
    """Only then can a target override the threshold and be evaluated under three-valued logic."""
    assert rule.terms
    assert not rule.terms[0].signal.endswith("_samples")
    for term in rule.terms:
        assert term.op in COMPARE
        assert term.signal in BY_NAME or term.signal.startswith("responder_")
        assert term.signal in SIGNALS
    assert rule.summary
    assert "unit" in rule.annotations
    if rule.severity is not Severity.INFO:
        assert rule.keep_firing_for_s > 0, "without it a single good scrape says resolved"


@pytest.mark.parametrize("rule", RULES_READ, ids=lambda rule: rule.alert)
def test_quantiles_means_and_shares_stand_on_enough_samples(rule) -> None:  # type: ignore[no-untyped-def]
    """A p99 of three requests is no p99."""
    estimated = re.compile(r"_(p50|p99|share)$|^(itl|ttft)_.*(ratio|p99)$")
    of_an_expectation = {"generation_share"}  # little is exactly what it is about
    if any(estimated.search(term.signal) and term.signal not in of_an_expectation for term in rule.terms):
        assert any(term.signal.endswith("_samples") for term in rule.terms)


def test_signals_in_the_files_and_in_the_table_are_the_same() -> None:
    """A signal without words, or words without a signal, is a leftover."""
    assert set(BY_NAME) == {name for name in SIGNALS if not name.startswith("responder_")}


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_a_signal_names_every_alias_of_what_it_reads(name: str) -> None:
    """Whoever reads a metric under one version's name reads it under all of them."""
    expr = expand(BY_NAME[name], BY_NAME)
    bare = re.sub(r"\"[^\"]*\"", '""', expr)
    metrics = set(METRIC.findall(bare))
    probes = set(PROBES.findall(bare))
    assert metrics or probes
    families = {metric: family_of(metric) for metric in metrics}
    assert None not in families.values(), f"not in responder/signals.py: {families}"
    for metric, family in families.items():
        assert family is not None
        suffix = re.search(r"_(bucket|sum|count)$", metric) if FAMILIES[family].kind == "histogram" else None
        for alias in names_of(family):
            assert alias + (suffix[0] if suffix else "") in metrics, f"{metric} without {alias}"
    assert probes <= set(SIGNALS)


def test_no_signal_is_defined_by_another() -> None:
    """The responder asks for each expression itself, of a Prometheus that records nothing."""
    assert all("signal:" not in expr for expr in BY_NAME.values())
