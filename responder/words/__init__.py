"""In which language do we speak? Fixed words by key, what playbooks say by sentence; English where nothing is known.

One file beside this one is one language (`zh.py`; names of signals stand in `signal_names/`, of facts in
`fact_words/`), and `translations/zh.yaml` what the shipped rules, playbooks and causes say in it. A whole text is
written in one language: `with speaking(language)` around it, `say` inside.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cache

from responder.words import en

DEEPEST = 4
"""How far a phrase inside a phrase inside a phrase is followed."""


@dataclass(frozen=True)
class Language:
    """Everything said in one language."""

    code: str
    html: str
    """As HTML's lang wants it."""
    words: Mapping[str, str]
    signals: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    phrases: tuple[tuple[re.Pattern[str], str], ...] = ()
    """What the daemon says in whole sentences, with their parts as groups."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Sentences of rules, playbooks and causes."""
    own: Mapping[str, str] = field(default_factory=dict)
    """Those of them that the operator has translated."""


ENGLISH = Language("en", "en", en.WORDS, en.SIGNALS)
CODES: tuple[str, ...] = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
_spoken: ContextVar[Language] = ContextVar("spoken", default=ENGLISH)


def language(code: str, texts: Mapping[str, str] | None = None) -> Language:
    """A language with its fixed words; `texts` are the sentences of the content. ValueError when there is none."""
    return replace(_fixed(code), texts=texts) if texts else _fixed(code)


def with_own(known: Language, own: Mapping[str, str]) -> Language:
    """The language with an operator's sentences over the shipped ones."""
    return replace(known, texts={**known.texts, **own}, own=own) if own else known


@cache
def _fixed(code: str) -> Language:
    if code == ENGLISH.code:
        return ENGLISH
    if code not in CODES:
        raise ValueError(f"no language {code!r}; there are {', '.join(CODES)}")
    module = importlib.import_module(f"responder.words.{code}")
    phrases = tuple((re.compile(pattern), said) for pattern, said in module.PHRASES)
    return Language(code, module.HTML, module.WORDS, module.SIGNALS, module.UNITS, phrases)


@contextmanager
def speaking(spoken: Language) -> Iterator[Language]:
    """Everything said inside is said in this language."""
    token = _spoken.set(spoken)
    try:
        yield spoken
    finally:
        _spoken.reset(token)


def spoken() -> Language:
    """The language of the text being written."""
    return _spoken.get()


def say(key: str, **values: object) -> str:
    """Fixed words by their key, with `values` filled in. KeyError for a key that English does not have."""
    words = _spoken.get().words.get(key) or en.WORDS[key]
    return words.format(**values) if values else words


def known(key: str) -> bool:
    """Whether there are fixed words by this key."""
    return key in en.WORDS


def signal_name(signal: str) -> str | None:
    """What people call a signal; None when nobody named it."""
    return _spoken.get().signals.get(signal) or en.SIGNALS.get(signal)


def unit_word(unit: str) -> str:
    """A unit as it is written."""
    return _spoken.get().units.get(unit, unit)


def told(text: str, depth: int = DEEPEST) -> str:
    """A sentence of content, or one the daemon says, in the language spoken; as it is where that is not known."""
    ours = _spoken.get()
    if text in ours.texts:
        return ours.texts[text]
    for pattern, said in ours.phrases if depth else ():
        if got := pattern.fullmatch(text):
            parts = [told(part or "", depth - 1) for part in got.groups()]
            return said.format(*parts)
    return text
