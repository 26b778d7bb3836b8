"""Is every notifier registered, and is what an operator writes checked without giving secrets away?"""

import pkgutil

import pytest

import responder.notify
from responder.config_places import Places
from responder.notify import KINDS, build, check, known_secrets

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
GOOD = {
    "program": {"kind": "webhook", "url": "https://example.com/hook", "secret": SECRET},
    "channel": {"kind": "slack_webhook", "url": "https://hooks.slack.com/services/T/B/X"},
    "team": {"kind": "slack_bot", "token": "xoxb-1", "channel": "C0123ABCD"},
}
PARTS = {"notifier", "slack_api", "slack_blocks", "slack_clicks", "digest"}
"""Modules that are no notifier themselves."""


def test_no_file_is_forgotten():
    """One file, one registration."""
    modules = {module.name for module in pkgutil.iter_modules(responder.notify.__path__)}
    assert modules - PARTS == set(KINDS)


@pytest.mark.parametrize("name", GOOD)
def test_each_kind_is_built_from_what_an_operator_writes(name):
    """Name and kind are the notifier's; a webhook needs no kind."""
    notifier = build(name, GOOD[name])
    assert (notifier.name, notifier.kind) == (name, GOOD[name]["kind"])
    assert check({name: GOOD[name]}) == ()
    assert build("x", {"url": "http://127.0.0.1:1/hook"}).kind == "webhook"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "pigeon"}, "no such kind"),
        ({"kind": "webhook"}, "receivers.r.url"),
        ({"kind": "webhook", "url": "example.com"}, "not a URL"),
        ({"kind": "webhook", "url": "file:///etc/passwd"}, "not a URL"),
        ({"kind": "webhook", "url": "https://e.com", "secret": "whsec_%%%"}, "Standard Webhooks"),
        ({"kind": "webhook", "url": "https://e.com", "secret": SECRET, "secret_file": "/x"}, "not both"),
        ({"kind": "webhook", "url": "https://e.com", "urll": "x"}, "unknown key `receivers.r.urll`"),
        ({"kind": "webhook", "url": "https://e.com", "timeout_s": 0}, "receivers.r.timeout_s"),
        ({"kind": "slack_webhook"}, "one of them is needed"),
        ({"kind": "slack_webhook", "url": "hooks.slack.com/x"}, "not a URL"),
        ({"kind": "slack_bot", "token": "xoxb-1", "channel": "#alerts"}, "receivers.r.channel"),
        ({"kind": "slack_bot", "token": "t", "token_file": "/t", "channel": "C0123ABCD"}, "not both"),
    ],
)
def test_what_is_wrong_is_said(settings, words):
    """A problem with its place; building refuses the same."""
    problems = check({"r": settings}, Places("config.yaml"))
    assert len(problems) == 1
    assert words in problems[0].what
    assert problems[0].file == "config.yaml"
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's own and ours
        build("r", settings)


def test_a_mistyped_key_is_guessed():
    """Did you mean."""
    assert check({"r": {"url": "https://e.com", "secrets": SECRET}})[0].instead == "secret"


def test_every_problem_is_reported_and_no_value_repeated():
    """All receivers, all problems; a mistyped secret must not land in a log."""
    bad = {
        "a": {"kind": "slack_webhook", "url": "hooks.slack.com/services/T0/B0/SECRET", "x": "SECRET"},
        "b": {"kind": "webhook", "url": "https://e.com", "secret": "whsec_SECRET!"},
    }
    problems = check(bad)
    assert len(problems) == 3
    assert "SECRET" not in "".join(p.what + p.instead for p in problems)


def test_secrets_are_known_to_the_redactor(tmp_path):
    """Values and the contents of files; what cannot be read is left out."""
    (tmp_path / "token").write_text("xoxb-from-file\n")
    receivers = GOOD | {
        "f": {"kind": "slack_bot", "token_file": str(tmp_path / "token"), "channel": "C0123ABCD"},
        "g": {"kind": "slack_bot", "token_file": str(tmp_path / "absent"), "channel": "C0123ABCD"},
    }
    found = known_secrets(receivers)
    assert {SECRET, "xoxb-1", "xoxb-from-file", "https://hooks.slack.com/services/T/B/X"} == set(found)
    assert "xoxb-1" not in repr(build("team", GOOD["team"]).settings)
