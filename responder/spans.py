"""Where does a quoted string or a bracketed value in a log end? Pure, and linear: every byte is looked at once."""

from __future__ import annotations

import re

MARK = rb"\[(?:secret:[0-9a-f]{4}|redacted: [0-9]+ [a-z]+)\]"
"""What redaction leaves behind, and never touches again."""

MARKED = re.compile(MARK)
QUOTE = re.compile(rb"(\\{0,7})([\"'])")
TOKENS = re.compile(rb"\\{0,7}[\"']|[\[({]|[\])}]|\n")
PAIRS = {b"[": b"]", b"(": b")", b"{": b"}"}
DEEPEST = 200


def opening_quote(data: bytes, at: int) -> bytes | None:
    """The quote that opens at `at` with the backslashes before it (a string inside a string), or None."""
    found = QUOTE.match(data, at)
    return found[0] if found else None


def end_of_quoted(data: bytes, at: int, quote: bytes) -> int:
    """Index of the quote that closes a string whose content begins at `at`; the end of the line when none does.

    A closing quote has exactly as many backslashes as the opening one; more make it part of the content. Content may
    end in backslashes of its own only in pairs, so for a plain quote an even number of them still closes.
    """
    depth = len(quote) - 1
    line = data.find(b"\n", at)
    line = len(data) if line < 0 else line
    look = at
    while (found := data.find(quote[-1:], look, line)) >= 0:
        backslashes = found
        while backslashes > at and data[backslashes - 1] == 0x5C:
            backslashes -= 1
        count = found - backslashes
        if count == depth or (depth == 0 and count % 2 == 0):
            return found - depth
        look = found + 1
    return line


def end_of_bracket(data: bytes, at: int) -> int:
    """Index after the bracket that closes the one at `at`, strings skipped; the end of the line when none does."""
    open_brackets: list[bytes] = []
    look = at
    while found := TOKENS.search(data, look):
        what = found[0]
        look = found.end()
        if what == b"\n":
            return found.start()
        if what in PAIRS:
            open_brackets.append(PAIRS[what])
        elif what in (b"]", b")", b"}"):
            if open_brackets and open_brackets[-1] == what:
                open_brackets.pop()
            if not open_brackets:
                return look
        else:
            end = end_of_quoted(data, look, what)
            look = min(len(data), end + len(what))
            if end < len(data) and data[end : end + 1] == b"\n":
                return end
        if len(open_brackets) > DEEPEST:
            break
    line = data.find(b"\n", at)
    return len(data) if line < 0 else line
