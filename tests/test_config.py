"""Configuration: every mistake has its place and a proposal; nothing unsafe is accepted by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from responder.config import Config, http_url, parse, seconds, size


def at(path: tuple[str | int, ...]) -> tuple[int, int]:
    return len(path), 7


@pytest.mark.parametrize(("text", "value"), [("30s", 30), ("1h30m", 5400), ("250ms", 0.25), ("7d", 604800), (12, 12)])
def test_durations(text: object, value: float) -> None:
    """The usual spelling."""
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["30", "30 sec", "", "m", "1h 30x"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    """A bare number in quotes has no unit."""
    with pytest.raises(ValueError, match="30s"):
        seconds(text)


def test_sizes() -> None:
    """Binary units."""
    assert size("5GiB") == 5 << 30
    with pytest.raises(ValueError, match="500MiB"):
        size("5 gigs")


@pytest.mark.parametrize("url", ["host:8000", "ftp://h", "http://", "http://u:p@h:1", "http://h:99999"])
def test_urls_that_are_none_are_refused(url: str) -> None:
    """Also those with credentials in them."""
    with pytest.raises(ValueError, match=r"URL"):
        http_url(url)


def test_an_unknown_key_names_its_place_and_the_likely_one() -> None:
    """`treshold` in the second target is found there."""
    tree: dict[str, Any] = {"targets": [{"url": "http://a:1"}, {"url": "http://b:1", "tresholds": {}}]}
    config, problems = parse(tree, "c.yaml", at)
    assert config is None
    (problem,) = problems
    assert (problem.file, problem.line) == ("c.yaml", 3)
    assert "targets.1.tresholds" in problem.what
    assert "thresholds" in problem.instead


def test_all_problems_are_reported_not_the_first() -> None:
    """Three mistakes, three problems."""
    tree = {"targets": [{"url": "nope"}], "hold_down": "soon", "colour": "red"}
    _, problems = parse(tree, "c.yaml", at)
    assert len(problems) == 3


def test_listening_beyond_loopback_needs_a_token() -> None:
    """0.0.0.0 without a token is refused; with one it is fine."""
    _, problems = parse({"http": {"listen": "0.0.0.0:9119"}}, "c", at)
    assert "token" in problems[0].what
    config, problems = parse({"http": {"listen": "0.0.0.0:9119", "token": "secret"}}, "c", at)
    assert config is not None
    assert config.http.address == ("0.0.0.0", 9119)  # noqa: S104


def test_targets_get_name_and_match_from_their_url_and_secrets_from_files(tmp_path: Path) -> None:
    """What `--target http://host:8000` means."""
    (tmp_path / "key").write_text("s3cret\n")
    config, _ = parse({"targets": [{"url": "http://h:8000/", "api_key_file": str(tmp_path / "key")}]}, "c", at)
    assert config is not None
    (target,) = config.watched()
    assert (target.name, target.url, target.match) == ("h:8000", "http://h:8000", {"instance": "h:8000"})
    assert target.api_key is not None
    assert target.api_key.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(target)


@pytest.mark.parametrize(
    "targets",
    [
        [{"url": "http://h:1"}, {"url": "http://h:1"}],
        [{"url": "http://h:1", "api_key": "a", "api_key_file": "/b"}],
        [{"url": "http://h:1", "api_key_file": "/does/not/exist"}],
    ],
)
def test_targets_that_contradict_themselves_are_refused(targets: list[dict[str, Any]]) -> None:
    """Two of one name; a secret twice; a secret file that is not there."""
    config, problems = parse({"targets": targets}, "c", at)
    assert config is None
    assert problems[0].what


def test_the_defaults_are_safe() -> None:
    """Loopback only, rung 1 at most."""
    config = Config()
    assert config.http.address == ("127.0.0.1", 9119)
    assert config.capture.max_rung == 1


@pytest.mark.parametrize(
    ("whole", "own", "canary", "sends"),
    [(1, None, None, True), (0, None, None, False), (0, None, True, True), (0, 1, None, True), (1, 0, None, False),
     (1, None, False, False)],
)  # fmt: skip
def test_without_a_word_about_it_rung_0_sends_no_request(
    whole: int, own: int | None, canary: bool | None, sends: bool
) -> None:
    """`max_rung: 0` is meant for a server that must not be touched; only the target's own `canary: true` says more."""
    target: dict[str, Any] = {"url": "http://a:1", "canary": canary, "capture": {"max_rung": own}}
    config, problems = parse({"targets": [target], "capture": {"max_rung": whole}}, "c.yaml", at)
    assert config is not None, problems
    assert config.watched()[0].canary is sends


def test_a_key_of_another_section_is_told_as_that() -> None:
    """'Did you mean `hours`?' of `hours` helps nobody, and no capture waits for the night."""
    _, (problem,) = parse({"capture": {"hours": "22:00-06:00"}}, "c.yaml", at)
    assert problem.instead.startswith("`hours` is a key of `routes`")
    assert "captures and approvals have no hours" in problem.instead
    _, (problem,) = parse({"max_rung": 0}, "c.yaml", at)
    assert problem.instead == "`max_rung` is a key of `capture`"


@pytest.mark.parametrize("tail", ["/v1", "/v1/", "/v1/completions", "/metrics", "/health"])
def test_a_target_s_address_ends_where_its_paths_begin(tail: str) -> None:
    """`…/v1/health` is 404 for ever, and nothing would be seen of the server; a reverse proxy's prefix stays."""
    _, (problem,) = parse({"targets": [{"url": f"http://gpu-1:8000/chat{tail}"}]}, "c.yaml", at)
    assert problem.what.endswith("write http://gpu-1:8000/chat")
    config, _ = parse({"targets": [{"url": "http://gpu-1:8000/chat/"}]}, "c.yaml", at)
    assert config is not None
    assert config.targets[0].url == "http://gpu-1:8000/chat"
