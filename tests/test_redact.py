"""No secret and no customer text gets through; what is no secret does; and no input is too strange or too long."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from responder.redact import scrub, spell, token

DATA = Path(__file__).parent / "data" / "redact"
SECRET = 'p@ss "word" ü/9\\x+='


def clean(text: str | bytes, *secrets: str) -> bytes:
    data = text if isinstance(text, bytes) else text.encode()
    once, _ = scrub(data, secrets)
    twice, again = scrub(once, secrets)
    assert twice == once, "a second pass changes something"
    assert again == {}
    return once


WAYS = {
    "raw": lambda s: s.encode(),
    "json": lambda s: json.dumps({"x": s}).encode(),
    "json of json": lambda s: json.dumps({"x": json.dumps({"y": s})}).encode(),
    "json utf-8": lambda s: json.dumps(s, ensure_ascii=False).encode(),
    "repr": lambda s: repr([s]).encode(),
    "repr of bytes": lambda s: repr(s.encode()).encode(),
    "url": lambda s: quote(s, safe="").encode(),
    "url lower": lambda s: re.sub("%..", lambda m: m[0].lower(), quote(s, safe="")).encode(),
    "base64": lambda s: base64.b64encode(s.encode()),
    "base64 url": lambda s: base64.urlsafe_b64encode(s.encode()),
    "basic auth": lambda s: base64.b64encode(b"user:" + s.encode()),
    "basic auth of another user": lambda s: base64.b64encode(b"admin:" + s.encode() + b"\n"),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("secret", ["s3cr3t-value-9", SECRET, "Zm9vYmFy", "пароль-123"])
def test_known_secret_is_found_in_every_spelling(way, secret: str) -> None:
    """A value we were told is replaced however it was encoded, by the same mark everywhere."""
    out = clean(b"before " + way(secret) + b" after", secret)
    mark = token(secret.encode())
    assert mark in out
    assert out.startswith(b"before ")
    assert out.endswith(b" after")
    assert not any(form in out.replace(mark, b"") for form in spell(secret))


def test_marks_tell_secrets_apart_but_not_what_they_are() -> None:
    """Two uses of one secret can be recognised as the same, two secrets as different."""
    out = clean("a=first-secret b=second-secret c=first-secret", "first-secret", "second-secret")
    first, second, third = re.findall(rb"\[secret:[0-9a-f]{4}\]", out)
    assert first == third != second


def test_secret_that_occurs_in_our_own_marks() -> None:
    """Somebody's password may be the word 'secret' or 'redacted': the second pass must not eat the first."""
    assert b"secret-" not in clean("x secret-y redacted", "secret", "redacted")


@pytest.mark.parametrize("short", ["", "a", "abc"])
def test_too_short_to_be_searched_for(short: str) -> None:
    """An empty or tiny 'secret' in a configuration must not blot out the log."""
    assert clean("an abc of vLLM", short) == b"an abc of vLLM"


HIDDEN = {
    "flag": "vllm serve m --api-key {} --port 8000",
    "flag with =": "vllm serve m --hf-token={} --port 8000",
    "two keys": "--api-key {} bbbbbbbbbbbb222 --port 8000",
    "argv as list": "['vllm', '--api-key', '{}', '--port', '1']",
    "argv as JSON": '["vllm", "--hf_token", "{}"]',
    "yaml": "api_key: {}",
    "quoted with spaces": 'password = "{} and more"',
    "JSON": '{{"openaiApiKey": "{}", "n": 1}}',
    "JSON in JSON": r"{{\"api_key\": \"{}\", \"n\": 1}}",
    "environment": "HF_TOKEN={}\nVLLM_API_KEY={}",
    "bearer": "Authorization: Bearer {}",
    "header as dict": "{{'authorization': 'Bearer {}'}}",
    "colours": "\x1b[36mpassword\x1b[0m=\x1b[35m{}\x1b[0m",
    "escaped colours": r"\u001b[36mpassword\u001b[0m=\u001b[35m{}\u001b[0m",
    "url": "postgresql://me:{}@db:5432/x",
    "non-default args": "non-default args: {{'api_key': ['{}'], 'port': 8000}}",
}


@pytest.mark.parametrize("text", HIDDEN.values(), ids=HIDDEN.keys())
def test_value_of_a_secret_name_is_hidden(text: str) -> None:
    """We do not know the value, but its name or place says what it is."""
    value = "q7Zk93bXaa41Tr"
    out = clean(text.replace("{}", value).replace("{{", "{").replace("}}", "}"))
    assert value.encode() not in out
    assert b"bbbbbbbbbbbb222" not in out
    assert b"[secret:" in out


def test_a_password_of_digits_is_a_secret_and_a_count_of_tokens_is_not() -> None:
    """vLLM's logs are full of numbers beside the word token."""
    for kept in ("max_token=493817", "token: 771204"):
        assert clean(kept) == kept.encode()
    for number in (b"493817", b"771204"):
        assert number not in clean("password=493817 db_secret: 771204")


SHAPED = [
    "hf_" + "aB3" * 11,
    "sk-proj-" + "aB3" * 11,
    "xoxb-1234567890-abcdefghij",
    "xapp-1-A012-" + "a1b2" * 4,
    "AKIA" + "ABCD1234" * 2,
    "ASIA" + "ABCD1234" * 2,
    *(f"gh{kind}_" + "a1B2" * 9 for kind in "pousr"),
    "github_pat_" + "a1B2" * 9,
    "AIza" + "a1B2c" * 7,
    "npm_" + "a1B2" * 9,
    "glpat-" + "a1B2" * 5,
    "nvapi-" + "a1B2" * 9,
    "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
    "hooks.slack.com/services/T000/B000/abcdef",
]


@pytest.mark.parametrize("secret", SHAPED)
@pytest.mark.parametrize("around", ["{}", "x {} y", "'{}'", "https://{}", "\x1b[1m{}\x1b[0m", "id={},", "({})"])
def test_shape_of_a_secret_is_enough(secret: str, around: str) -> None:
    """Well-known kinds of keys are found in prose, without any name."""
    assert secret.encode() not in clean(around.replace("{}", secret))


def test_private_key_blocks() -> None:
    """Whole, cut off, and inside JSON; what stands around a block stays."""
    body = "MIIEpAIBAAKCAQEA7bq3\nqwertyuiop1234567890==\n"
    whole = f"-----BEGIN RSA PRIVATE KEY-----\n{body}-----END RSA PRIVATE KEY-----"
    for text in (f"a {whole} b", f"a {json.dumps(whole)} b", f"a -----BEGIN PRIVATE KEY-----\n{body}. b"):
        out = clean(text)
        assert b"MIIE" not in out
        assert b"qwerty" not in out
        assert out.startswith(b"a ")
        assert out.endswith(b" b")
    assert clean("-----BEGIN CERTIFICATE-----\nMIIE\n") == b"-----BEGIN CERTIFICATE-----\nMIIE\n"


KEPT = [
    "hf_token=None, tokenizer='/models/tiny', max_tokens=16, eos_token_id=2, num_tokens: 5, skip_special_tokens=True",
    "Avg prompt throughput: 22.0 tokens/s, Avg generation throughput: 458.5 tokens/s, Running: 4 reqs",
    "scheduled_new_reqs=[NewRequestData(req_id='a',prompt_token_ids_len=5,prompt_token_ids=None)]",
    "CPU KV cache size: 524,288 tokens, Maximum concurrency for 2,048 tokens per request: 256.00x",
    'vllm:prompt_tokens_total{model_name="m",engine="0"} 12.0',
    "the token is checked; a password reset; no secret about it; cookie cutter",
    '{"text": "", "content": null, "prompt": "", "messages": [], "api_key": null, "token": 7}',
    "--tokenizer /m --max-num-batched-tokens 8192 --ssl-keyfile /etc/key.pem --served-model-name m",
    "task-12345678901234567890 and risk-aversion-is-a-long-word",
    "token_ids=[]",
]


@pytest.mark.parametrize("text", KEPT)
def test_evidence_is_kept(text: str) -> None:
    """vLLM's own words are full of 'token' and 'key': numbers, paths and settings stay readable."""
    assert clean(text) == text.encode()


CUSTOMER = {
    "0.6 request log": "Received request cmpl-1: prompt: 'It\\'s my \"CANARY\" [day', params: SamplingParams(n=1), "
    "prompt_token_ids: [11, 12], lora_request: None",
    "dump of a dead engine": "NewRequestData(req_id=r,prompt_token_ids=[11, 12],mm=[]) new_token_ids=[[11], [12]]",
    "API body": '{"model":"m","messages":[{"role":"user","content":"CANARY ] } there"}],"temperature":0}',
    "answer": '{"choices":[{"index":0,"text":"CANARY","logprobs":{"tokens":["CANARY"]}}]}',
    "body in a log": 'request body: {\\"prompt\\": \\"CANARY said \\\\\\"no\\\\\\"\\", \\"n\\": 1}',
    "list of prompts": '{"prompt": ["CANARY", "CANARY 2"], "n": 1}',
    "generated output": "Generated response cmpl-1: output: 'CANARY', output_token_ids: [11, 12], finish_reason: stop",
    "single quotes": "{'role': 'user', 'content': 'CANARY'}",
    "cut off": "prompt: 'CANARY and then the line was cut",
    "parts": '{"content": [{"type": "text", "text": "CANARY"}, {"type": "image_url", "image_url": {"url": "CANARY"}}]}',
    "embeds": "prompt: TextPrompt('CANARY'), x=1",
}


@pytest.mark.parametrize("text", CUSTOMER.values(), ids=CUSTOMER.keys())
def test_customer_text_is_reduced_to_its_length(text: str) -> None:
    """Prompts, messages, outputs and their token ids; one line's text does not swallow the next line."""
    out = clean(text + "\nnext: line")
    assert b"CANARY" not in out
    assert b"11" not in out
    assert b"[redacted: " in out
    assert out.endswith(b"\nnext: line")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=12),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["prompt", "messages", "api_key", "password", "content", "token_ids", "state", "n", "x:"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
@settings(max_examples=200, deadline=None)
def test_json_stays_json(value: object) -> None:
    """Raw files of our own are JSON: a reader must be able to read what redaction left."""
    json.loads(clean(json.dumps(value)))
    json.loads(clean(json.dumps(value, indent=1)))


PIECES = (
    b"prompt", b"token_ids", b"api_key", b"--api-key", b"secret", b"=", b": ", b'"', b"'", b"\\", b"[", b"]", b"{",
    b"}", b"(", b")", b"\n", b"-----BEGIN PRIVATE KEY-----", b"-----END", b"a", b"12", b",", b" ", b"\x1b[0m", b"\xff",
    b"\x00", b"[secret:0000]", b"[redacted: 3 bytes]", b"://u:", b"@", b"Bearer ", b"abcdefghijklmnop",
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=40))
@settings(max_examples=500, deadline=None)
def test_any_bytes_once_and_for_all(parts: list[bytes]) -> None:
    """Whatever the bytes: no exception, and a second pass finds nothing more."""
    clean(b"".join(parts), "abcdefghijklmnop", "12a,")


ATTACKS = {
    "letters": b"a",
    "quotes": b'"',
    "backslashes": b"\\",
    "open prompts": b"prompt: '",
    "open lists": b"token_ids=[",
    "nested": b"[",
    "open keys": b"-----BEGIN PRIVATE KEY-----",
    "names": b"api_key=",
    "flags": b"--api-key ",
    "words": b"a_",
    "dashes": b"a-",
    "urls": b"http://",
    "users": b"h://u:p",
    "spaces": b"token ",
    "bearers": b"bearer  ",
    "escaped quotes": b'content: \\"',
    "colours": b"\x1b[1m",
    "tokens": b"eyJaaaaaaaa.",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", ATTACKS.values(), ids=ATTACKS.keys())
def test_long_lines_end_in_linear_time(piece: bytes) -> None:
    """One line of 1 MB made to be hard: anything worse than linear would run for minutes, the test's time limit."""
    scrub(piece * ((1 << 20) // len(piece)), ["s3cr3t-value", "a" * 12])


def test_real_engine_dump() -> None:
    """What vLLM 0.32 writes when an execute-model timeout kills it holds lengths only: all of it is kept."""
    log = (DATA / "engine_dump_0.32.log").read_bytes()
    assert clean(log) == log
