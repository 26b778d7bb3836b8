"""What must never reach the disk? Bytes in, bytes out: secrets, prompts and outputs replaced, everything else kept.

Two layers, because each misses what the other finds: values we know, in every spelling they may have taken; and shapes
that secrets and vLLM's own dumps of customer text have. A secret becomes `[secret:1a2b]`, the same everywhere, so that
one can still see that two places held the same one; text becomes its length. Each layer walks the bytes once and
nothing it writes is ever matched again, so time is linear and a second pass changes nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from responder.redact_text import redact_text
from responder.spans import MARK, MARKED, end_of_bracket, end_of_quoted, opening_quote

SHORTEST = 4
"""A known secret of fewer characters would blot out ordinary words."""


def scrub(data: bytes, secrets: Iterable[str]) -> tuple[bytes, dict[str, int]]:
    """Return the bytes without secrets and customer text, and how many of each kind were replaced. Never raises."""
    counts: Counter[str] = Counter()
    data = _known(data, tuple(secrets), counts)
    data = _keys(data, counts)
    data = _shapes(data, counts)
    data = _named(data, counts)
    data = redact_text(data, counts)
    return data, dict(counts)


def token(secret: bytes) -> bytes:
    """The stand-in for one secret: 16 bits of its hash, enough to recognise it, too few to test guesses with."""
    return b"[secret:" + hashlib.sha256(secret).hexdigest()[:4].encode() + b"]"


# ------------------------------------------------------------------------------------------- values that we know


def _known(data: bytes, secrets: tuple[str, ...], counts: Counter[str]) -> bytes:
    spellings: dict[bytes, bytes] = {}
    for secret in sorted({s for s in secrets if len(s) >= SHORTEST}):
        stand_in = token(secret.encode("utf-8", "surrogatepass"))
        for spelling in spell(secret):
            if spelling in data:  # a fast search each, so that the pattern below holds only what occurs
                spellings.setdefault(spelling, stand_in)
    if not spellings:
        return data
    longest_first = sorted(spellings, key=lambda spelling: (-len(spelling), spelling))
    pattern = re.compile(MARK + b"|(" + b"|".join(map(re.escape, longest_first)) + b")")

    def stand_in_for(found: re.Match[bytes]) -> bytes:
        if found[1] is None:  # a mark of ours, even if its own text happens to hold a secret
            return found[0]
        counts["known_secret"] += 1
        return spellings[found[1]]

    return pattern.sub(stand_in_for, data)


def spell(secret: str) -> set[bytes]:
    """Every form a value takes on its way into a log: raw, JSON (once, twice), repr, URL, base64 at any offset."""
    raw = secret.encode("utf-8", "surrogatepass")
    once = json.dumps(secret)[1:-1]
    texts = {once, json.dumps(once)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    quoted = {quote(raw, safe=""), quote(raw), quote_plus(raw)}
    texts |= quoted | {re.sub(r"%..", lambda found: found[0].lower(), text) for text in quoted}
    found = {raw, repr(raw)[2:-1].encode()} | {text.encode("utf-8", "surrogatepass") for text in texts}
    if len(raw) >= 6:  # shorter, what is certain of it in base64 is too little to search for
        for offset in range(3):  # inside a longer text, such as user:password, it starts at any of three offsets
            whole = base64.b64encode(b"\0" * offset + raw)
            certain = whole[(0, 2, 3)[offset] : len(whole) - (0, 3, 2)[(len(raw) + offset) % 3]]
            found |= {certain, certain.replace(b"+", b"-").replace(b"/", b"_")}
    return {spelling for spelling in found if len(spelling) >= SHORTEST}


# ------------------------------------------------------------------------------------------ shapes secrets have

KEY_BLOCK = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
KEY_END = re.compile(rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
KEY_BODY = re.compile(rb"[A-Za-z0-9+/=\\\s]*")
KEY_LONGEST = 32_768

SHAPES = re.compile(
    MARK
    + rb"|(?:(?<![A-Za-z0-9])|(?<=[0-9\[]m))("  # the m: right after a colour
    + rb"|".join(
        (
            rb"hf_[A-Za-z0-9]{16,}",
            rb"sk-[A-Za-z0-9_-]{16,}",
            rb"xox[a-z]-[A-Za-z0-9-]{8,}",
            rb"xapp-[A-Za-z0-9-]{8,}",
            rb"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",
            rb"(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{20,}",
            rb"github_pat_[A-Za-z0-9_]{20,}",
            rb"glpat-[A-Za-z0-9_-]{16,}",
            rb"nvapi-[A-Za-z0-9_-]{16,}",
            rb"AIza[A-Za-z0-9_-]{35}",
            rb"npm_[A-Za-z0-9]{30,}",
            rb"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
            rb"hooks\.slack\.com/services/[A-Za-z0-9/_-]{8,}",
        )
    )
    + rb")"
    + rb"|(?<![A-Za-z0-9])(?i:bearer|basic)(?:\s|%20|\+){1,4}(?P<credentials>[A-Za-z0-9._~+/=%-]{8,})"
    + rb"|(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@\"'<>]{0,64}:(?P<dsn>[^\s/@\"'<>]{1,128})@"
)


def _keys(data: bytes, counts: Counter[str]) -> bytes:
    parts, at, last_end = [], 0, data.rfind(b"-----END")
    look = 0
    while begin := KEY_BLOCK.search(data, look):
        look = start = begin.end()
        where = data.find(b"-----END", start, start + KEY_LONGEST) if start < last_end else -1
        end = KEY_END.match(data, where) if where >= 0 else None
        body = KEY_BODY.match(data, start)  # cut off in the middle: as far as it looks like a key
        stop = end.start() if end else body.end() if body else start
        block = data[start:stop]
        if not block.strip() or re.fullmatch(rb"\s*" + MARK + rb"\s*", block):
            continue
        parts += [data[at:start], b"\n", token(block), b"\n"]
        at = look = stop
        counts["private_key"] += 1
    return b"".join(parts) + data[at:] if parts else data


def _shapes(data: bytes, counts: Counter[str]) -> bytes:
    parts, at = [], 0
    for found in SHAPES.finditer(data):
        group = "dsn" if found["dsn"] else "credentials" if found["credentials"] else 1
        secret = found[group]
        if not secret or MARKED.fullmatch(secret):
            continue
        parts += [data[at : found.start(group)], token(secret)]
        at = found.end(group)
        counts["secret_shape"] += 1
    return b"".join(parts) + data[at:] if parts else data


# ------------------------------------------------------------------------------------------------- name and value

ANSI = rb"(?:(?:\x1b|\\x1b|\\u001b|\\033)\[[0-9;]{0,12}m)"
NAMES = (
    rb"(?:api|access|secret|private|signing|account|encryption)[_.-]?keys?|token|secret|password|passwd|passphrase"
    rb"|credentials?|authorization|cookie"
)
NAMED = re.compile(
    MARK + rb"|(?P<name>" + NAMES + rb")(?P<close>\\{0,4}[\"']?)" + ANSI + rb"{0,3}"
    rb"(?:[ \t]{0,4}[=:][ \t]{0,4}|(?P<argument>(?<=[\"']),[ \t\n]{0,8}|(?<![\"'])[ \t]{1,4}))" + ANSI + rb"{0,3}",
    re.IGNORECASE,
)
"""A name (whatever stands before it), then = or :, then a value; after a flag also a space, or a list's next item."""
FLAG = re.compile(rb"(?:^|[^A-Za-z0-9_.-])--?[A-Za-z0-9_.-]{0,48}$")
BARE = re.compile(rb"[^\s,;&\"'<>(){}\[\]\\\x1b|]+")
NEXT_KEY = re.compile(
    rb"(?:[ \t]|(?<=[\"']),[ \t\n]{0,8}[\"'])(?=[A-Za-z0-9])([A-Za-z0-9_.+=-]{12,200})(?=[\s\"',\]]|$)"
)
"""One more value of a flag that takes several keys."""
HARMLESS = re.compile(
    rb"(?:none|null|nil|true|false|undefined|optional|required|str|string|bytes|bearer|basic|\*+|\.+|<[^<>\s]*>|"
    rb"\$\{?\w+\}?|[-+]?\d{1,9}(?:\.\d*)?)?",
    re.IGNORECASE,
)
"""Not a secret, whatever its name: nothing, a placeholder, or a number (vLLM's logs are full of counts of tokens)."""
STOOD_IN = re.compile(rb"\\{0,4}[\"']?" + MARK + rb"\\{0,4}[\"']?")
PASSWORD = re.compile(rb"passw|passp|secret", re.IGNORECASE)
"""Names whose value is a secret even if it is a number."""


def _named(data: bytes, counts: Counter[str]) -> bytes:
    parts, at, look = [], 0, 0
    while found := NAMED.search(data, look):
        look = found.end()
        if not found["name"]:
            continue
        after_flag = found["argument"] is not None
        if after_flag and not FLAG.search(data[max(0, found.start() - 64) : found.start()]):
            continue  # prose: "the token is", "password reset"
        start, end, quoted = _value(data, found.end())
        if not _is_secret(data[start:end], found["name"]) or (after_flag and data[start : start + 1] == b"-"):
            continue
        quote_mark = b"" if quoted or after_flag or found["close"][-1:] not in (b'"', b"'") else found["close"]
        while start < end:
            parts += [data[at:start], quote_mark, token(data[start:end]), quote_mark]  # quotes: stay JSON, or Python
            counts["name_value"] += 1
            at = look = end
            more = NEXT_KEY.match(data, end + quoted) if after_flag else None
            start, end = more.span(1) if more else (end, end)
    return b"".join(parts) + data[at:] if parts else data


def _is_secret(value: bytes, name: bytes) -> bool:
    if STOOD_IN.fullmatch(value) or not value:
        return False
    return not HARMLESS.fullmatch(value) or bool(value.isdigit() and PASSWORD.match(name))


def _value(data: bytes, at: int) -> tuple[int, int, bool]:
    """Where the value at `at` starts and ends, and whether it stands in quotes."""
    if mark := MARKED.match(data, at):
        return at, mark.end(), False
    if quote_mark := opening_quote(data, at):
        start = at + len(quote_mark)
        return start, end_of_quoted(data, start, quote_mark), True
    if data[at : at + 1] in (b"[", b"("):  # several keys
        return at + 1, max(at + 1, end_of_bracket(data, at) - 1), False
    bare = BARE.match(data, at)
    return at, bare.end() if bare else at, False
