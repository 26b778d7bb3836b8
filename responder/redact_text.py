"""Where in vLLM's logs and answers does customer text stand? Prompts, messages, outputs and their token ids.

vLLM prints them when request logging is on, when API answers are logged, and always when an engine dies (it dumps what
it was working on). Only the length is kept: how long a prompt was is evidence, what it said is not ours.
"""

from __future__ import annotations

import re
from collections import Counter

from responder.spans import MARK, end_of_bracket, end_of_quoted, opening_quote

TEXT = (
    rb"[Pp]rompts?|messages|content|input|inputs|text|texts|output|outputs|output_text|generated_text|completion"
    rb"|reasoning|reasoning_content|refusal|arguments|documents?|query|queries|system_prompt|negative_prompt|suffix"
    rb"|prompt_text|encoder_prompt|decoder_prompt|multi_modal_data|image_url|input_audio"
)
IDS = rb"tokens|scheduled_spec_decode_tokens|prompt_embeds|top_logprobs|prompt_logprobs|bad_words|stop|logit_bias"
HEAD = re.compile(
    rb"(?:(?<![A-Za-z0-9_])(?:(?P<text>" + TEXT + rb")|" + IDS + rb")|token_ids)"
    rb"(?P<close>\\{0,7}[\"']?)[ \t]{0,4}[:=][ \t]{0,4}(?:[A-Za-z_][A-Za-z0-9_]{0,40}(?=\())?(?=\\{0,7}[\"'\[({])"
)
"""One of the names, then a value that opens a string, a list, a tuple or a mapping."""
ONLY_NUMBERS = re.compile(rb"[\[({\s\d.,:\])}+-]*")
DONE = re.compile(rb"(?:\\{0,7}\"redacted\\{0,7}\": )?\\{0,7}\"?" + MARK + rb"\\{0,7}\"?")
SHORT_WORDS = re.compile(rb"(?:auto|text|json|none|float|dict|list|string|str|[a-z]+/[a-z.+-]+|)")
"""Values that say a type, not what somebody wrote."""


def redact_text(data: bytes, counts: Counter[str]) -> bytes:
    """Replace customer text by its length; lists and mappings as a whole."""
    parts, at, look = [], 0, 0
    while found := HEAD.search(data, look):
        start = found.end()
        quote = opening_quote(data, start)
        if quote:
            inner = start + len(quote)
            end = end_of_quoted(data, inner, quote)
            look = min(len(data), end + len(quote))
            replacement = _string(data[inner:end], found)
            start = inner
        else:
            end = look = end_of_bracket(data, start)
            replacement = _bracket(data[start:end], found)
        if replacement is None:
            continue
        kind, mark = replacement
        parts += [data[at:start], mark]
        at = end
        counts[kind] += 1
    return b"".join(parts) + data[at:] if parts else data


def _string(content: bytes, found: re.Match[bytes]) -> tuple[str, bytes] | None:
    if not found["text"] or DONE.fullmatch(content) or SHORT_WORDS.fullmatch(content):
        return None
    return "customer_text", b"[redacted: %d bytes]" % len(content)


def _bracket(content: bytes, found: re.Match[bytes]) -> tuple[str, bytes] | None:
    """The value with its brackets kept, so that what was JSON stays JSON."""
    inside = content[1:-1] if len(content) > 1 and content[-1:] in b"])}" else content[1:]
    if not inside.strip() or DONE.fullmatch(inside.strip()):
        return None
    if not found["text"] and not re.search(rb"[\d\"']", inside):
        return None
    numbers = bool(ONLY_NUMBERS.fullmatch(inside))
    mark = b"[redacted: %d %s]" % ((inside.count(b",") + 1, b"items") if numbers else (len(inside), b"bytes"))
    quote = found["close"] if found["close"].endswith(b'"') else b""
    if content[:1] == b"{" and quote:
        mark = quote + b"redacted" + quote + b": " + quote + mark + quote
    else:
        mark = quote + mark + quote
    closing = content[-1:] if inside is not content[1:] and content[-1:] in b"])}" else b""
    return "customer_text" if found["text"] else "token_ids", content[:1] + mark + closing
