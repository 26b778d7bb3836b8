"""What do people call a signal? The names of recording rules in the words of the field."""

from __future__ import annotations

from responder.report_words import plain
from responder.words import signal_name


def signal_words(signal: str) -> str:
    """'ttft_p99' as 'TTFT p99'; a signal nobody named is its own name with spaces."""
    known = signal_name(signal)
    if known:
        return known
    family, _, aspect = signal.partition("_")
    word = signal_name(f"family.{family}") if aspect else None
    if word:
        template = signal_name(f"aspect.{aspect}")
        return template.format(family=word) if template else f"{word} {plain(aspect, 20).replace('_', ' ')}"
    return plain(signal, 60).replace("_", " ")
