"""What our pages get and may do: found by the database, allowed by role, and by nobody else's page."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from yarl import URL

from responder.config import Config, parse
from responder.model import Silence
from responder.web.access import COOKIE, SESSION_S, Access, Proxy
from tests.web.scene import SAMPLE, Scene, scene

API = "/api/v1/ui"


async def ask(at: Scene, path: str, **more: Any) -> tuple[int, Any, Any]:
    url = URL(f"{at.url.rstrip('/')}{path}", encoded=True)
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
        http.request(more.pop("method", "GET"), url, **more) as answer,
    ):
        body = await answer.read()
        return answer.status, json.loads(body) if answer.content_type == "application/json" else body, answer


async def _csrf(at: Scene) -> dict[str, str]:
    """The header that our own pages send."""
    return {"X-Responder-Csrf": (await ask(at, f"{API}/session"))[1]["csrf"]}


async def test_incidents_are_paged_filtered_and_searched_by_the_database(tmp_path: Path) -> None:
    """Open ones first; a page knows how many there are; `%` and `_` mean themselves."""
    async with scene(tmp_path) as at:
        await at.remember(*at.many(120))
        _, page, _ = await ask(at, f"{API}/incidents?limit=50")
        assert (len(page["rows"]), page["total"], page["open"]) == (50, 121, 1)
        assert page["rows"][0]["id"] == SAMPLE
        assert [row["id"] for row in page["rows"][1:3]] == ["past-00000", "past-00001"]
        _, last, _ = await ask(at, f"{API}/incidents?limit=50&offset=100")
        assert len(last["rows"]) == 21
        _, found, _ = await ask(at, f"{API}/incidents?q=GPU-7:8000%20past-00047")
        assert [row["id"] for row in found["rows"]] == ["past-00047"]
        for nothing in ("q=%25%25", "q=past_00047", "class=slow_decode", "q=%27;--"):
            assert (await ask(at, f"{API}/incidents?{nothing}"))[1]["total"] == 0, nothing
        assert (await ask(at, f"{API}/incidents?state=open"))[1]["total"] == 1
        assert (await ask(at, f"{API}/incidents?limit=-1&offset=x&state=no"))[0] == 200


async def test_an_incident_is_shown_as_it_is_now_and_only_when_it_changed(tmp_path: Path) -> None:
    """Report, steps, approvals, files; the same answer again is a 304; an unknown one 404 in words."""
    async with scene(tmp_path) as at:
        _, body, answer = await ask(at, f"{API}/incidents/{SAMPLE}")
        assert body["report"]["hypotheses"][0]["cause"]
        assert {step["running"] for step in body["steps"]} == {False}
        assert [item["step"] for item in body["approvals"]] == ["torch_profiler"]
        assert {file["name"] for file in body["files"]} == {"rank0.pt.trace.json.gz", "summary.txt"}
        again = await ask(at, f"{API}/incidents/{SAMPLE}", headers={"If-None-Match": answer.headers["ETag"]})
        assert again[0] == 304
        entry = {"evidence": {"id": "stacks", "step": "stacks", "started_at": 1.0}}
        await at.kit.store.begin_step(SAMPLE, "stacks", entry, (1.0, {}))
        moved = await ask(at, f"{API}/incidents/{SAMPLE}", headers={"If-None-Match": answer.headers["ETag"]})
        assert [s["step"] for s in moved[1]["steps"] if s["running"]] == ["stacks"]
        assert (await ask(at, f"{API}/incidents/none"))[0] == 404


async def test_raw_files_are_saved_not_shown_and_nothing_else_is_reached(tmp_path: Path) -> None:
    """An attachment of bytes; no link, no second name, no other folder, no device."""
    async with scene(tmp_path) as at:
        raw = tmp_path / "incidents" / SAMPLE / "raw" / "torch_profiler"
        status, body, answer = await ask(at, f"/incidents/{SAMPLE}/raw/torch_profiler/summary.txt")
        assert (status, body) == (200, b"words")
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Disposition"].startswith("attachment")
        outside = tmp_path / "secret"
        outside.write_text("secret")
        (raw / "link").symlink_to(outside)
        os.link(outside, raw / "hard")
        os.mkfifo(raw / "pipe")
        (raw.parent / "other").symlink_to(tmp_path)
        inside = ("link", "hard", "pipe", "..%2f..%2freport.md", "%00")
        around = ("other/secret", "../raw/torch_profiler/link", "%2e%2e/report.md")
        for name in (*(f"torch_profiler/{name}" for name in inside), *around):
            assert (await ask(at, f"/incidents/{SAMPLE}/raw/{name}"))[0] == 404, name


async def test_silences_are_added_listed_and_ended(tmp_path: Path) -> None:
    """As files that detection reads; a configured one is ended where it stands."""
    async with scene(tmp_path) as at:
        csrf = await _csrf(at)
        good = {"who": "ann", "match": {"target": "gpu-1.*"}, "seconds": 3600, "comment": "new driver"}
        status, made, _ = await ask(at, f"{API}/silences", method="POST", json=good, headers=csrf)
        assert status == 200
        kept = Silence.model_validate_json((tmp_path / "silences" / f"{made['id']}.json").read_bytes())
        assert (kept.match, kept.comment) == ({"target": "gpu-1.*"}, "ann: new driver")
        for wrong in ({"match": {"target": "("}}, {"match": {}}, {"seconds": 0}, {"match": {"bad label": "x"}}):
            assert (await ask(at, f"{API}/silences", method="POST", json=good | wrong, headers=csrf))[0] == 409
        for wrong in ({"match": "x"}, {"seconds": "1"}, {"who": " "}):
            assert (await ask(at, f"{API}/silences", method="POST", json=good | wrong, headers=csrf))[0] == 400
        at.watch.configured_silences = (kept.model_copy(update={"id": "config-0"}),)
        assert {s["id"]: s["configured"] for s in (await ask(at, f"{API}/silences"))[1]} == {
            made["id"]: False, "config-0": True}  # fmt: skip
        end = f"{API}/silences/{made['id']}/expire"
        assert (await ask(at, end, method="POST", json={"who": "ben"}, headers=csrf))[0] == 200
        assert [s["id"] for s in (await ask(at, f"{API}/silences"))[1]] == ["config-0"]
        for name, status in (("config-0", 409), ("none", 404)):
            end = f"{API}/silences/{name}/expire"
            assert (await ask(at, end, method="POST", json={"who": "ben"}, headers=csrf))[0] == status


async def test_a_capture_is_approved_once_and_not_when_all_is_calm(tmp_path: Path) -> None:
    """The press is checked against what is true now."""
    async with scene(tmp_path) as at:
        csrf, path = await _csrf(at), f"{API}/incidents/{SAMPLE}/approvals/torch_profiler"
        at.kit.firing = lambda _: False
        yes = {"who": "ann", "decision": "approve"}
        assert (await ask(at, path, method="POST", json=yes, headers=csrf))[0] == 409
        at.kit.firing = lambda _: True
        assert (await ask(at, path, method="POST", json=yes, headers=csrf))[0] == 200
        assert (await ask(at, path, method="POST", json=yes, headers=csrf))[0] == 409
        item = at.approvals.of(SAMPLE, "torch_profiler")
        assert item is not None
        assert (item.decision, item.who) == ("approved", "ann")


async def test_a_word_on_the_cause_becomes_the_playbook_s_precision(tmp_path: Path) -> None:
    """Right or wrong, once somebody knows; shown with the incident and with the playbook."""
    async with scene(tmp_path) as at:
        csrf, path = await _csrf(at), f"{API}/incidents/{SAMPLE}/verdict"
        cause = (await ask(at, f"{API}/incidents/{SAMPLE}"))[1]["report"]["hypotheses"][0]["cause"]
        assert (await ask(at, path, method="POST", json={"who": "a", "verdict": "maybe"}, headers=csrf))[0] == 400
        word = {"who": "ann", "verdict": "right", "cause": cause}
        assert (await ask(at, path, method="POST", json=word, headers=csrf))[0] == 200
        assert (await ask(at, f"{API}/incidents/{SAMPLE}"))[1]["opinion"]["who"] == "ann"
        books = {book["class"]: book["precision"] for book in (await ask(at, f"{API}/playbooks"))[1]}
        assert books["high_ttft"] == {"right": 1, "wrong": 0}
        assert books["hang_or_crash"] is None


async def test_a_wrong_cause_is_told_with_the_true_one(tmp_path: Path) -> None:
    """From the causes we know, likeliest first, or in words; what nobody knows is refused."""
    async with scene(tmp_path) as at:
        csrf, path = await _csrf(at), f"{API}/incidents/{SAMPLE}/verdict"
        shown = (await ask(at, f"{API}/incidents/{SAMPLE}"))[1]
        named = [row["cause"] for row in shown["report"]["hypotheses"]]
        offered = [row["id"] for row in shown["instead"]]
        assert named[0] not in offered
        assert {cause.id for cause in at.kit.content.causes} - set(offered) <= {named[0]}
        word = {"who": "ann", "verdict": "wrong", "cause": named[0], "truth": "gpu_fault", "note": "Xid 79 in dmesg"}
        for bad in ({"truth": "no_such_cause"}, {"verdict": "right"}, {"cause": "another"}):
            assert (await ask(at, path, method="POST", json=word | bad, headers=csrf))[0] == 409
        for bad in ({"note": 1}, {"cause": ""}):
            assert (await ask(at, path, method="POST", json=word | bad, headers=csrf))[0] == 400
        status, said, *_ = await ask(at, path, method="POST", json=word, headers=csrf)
        assert (status, said["says"]) == (200, f"Noted: {named[0]} was wrong, it was gpu_fault.")
        kept = (await ask(at, f"{API}/incidents/{SAMPLE}"))[1]
        assert (kept["opinion"]["cause"], kept["opinion"]["note"]) == ("gpu_fault", "Xid 79 in dmesg")
        assert kept["instead"] == []
        [book] = [book for book in (await ask(at, f"{API}/playbooks"))[1] if book["class"] == "high_ttft"]
        assert [run["right"] for run in book["newest"]] == [False]


async def test_every_view_has_its_data(tmp_path: Path) -> None:
    """Targets say what keeps us from capturing and over which limits they always were; playbooks have a precision only
    once somebody judged."""
    async with scene(tmp_path) as at:
        targets = (await ask(at, f"{API}/targets"))[1]
        assert "another user" in targets[0]["why_not"]
        assert [[(one["alert"], one["since"]) for one in row["over"]] for row in targets] == [
            [],
            [("VLLMITLHigh", 1000.0)],
        ]
        books = (await ask(at, f"{API}/playbooks"))[1]
        assert {"high_ttft", "hang_or_crash"} <= {book["class"] for book in books}
        [book] = [book for book in books if book["class"] == "high_ttft"]
        assert (book["runs"], [(run["id"], run["right"]) for run in book["newest"]]) == (1, [(SAMPLE, None)])
        assert (await ask(at, f"{API}/incidents"))[1]["waiting"] == 1
        assert {book["precision"] for book in books} == {None}
        sent = (await ask(at, f"{API}/deliveries"))[1]
        assert [row["id"] for row in sent["rows"]] == ["d1", "d2"]
        assert [row["id"] for row in sent["obligations"]] == ["o1"]
        assert (await ask(at, f"{API}/system"))[1]["receivers"] == ["chat"]


async def test_our_pages_may_post_and_no_other_may(tmp_path: Path) -> None:
    """A post from a browser needs our origin and the header that only our own pages know."""
    async with scene(tmp_path) as at:
        path, body = f"{API}/incidents/{SAMPLE}/approvals/torch_profiler", {"who": "ann", "decision": "deny"}
        csrf, ours = await _csrf(at), {"Origin": at.url.rstrip("/")}
        for bad in ({"Origin": "https://evil.example", **csrf}, {"Origin": "null", **csrf}, ours,
                    {**ours, "X-Responder-Csrf": "guess"}):  # fmt: skip
            assert (await ask(at, path, method="POST", json=body, headers=bad))[0] == 403, bad
        status, _, answer = await ask(at, path, method="POST", json=body, headers={**ours, **csrf})
        assert status == 200
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_without_a_token_only_loopback_names_are_served(tmp_path: Path) -> None:
    """A foreign name that resolves to us (DNS rebinding) gets nothing; machines' paths stay open."""
    async with scene(tmp_path) as at:
        for path in ("/", f"{API}/incidents", f"/incidents/{SAMPLE}", "/api/v1/incidents", f"{API}/session"):
            assert (await ask(at, path, headers={"Host": "evil.example:9119"}))[0] == 403, path
        assert (await ask(at, "/healthz", headers={"Host": "responder.svc:9119"}))[0] == 200


async def test_roles_viewers_look_and_operators_act(tmp_path: Path) -> None:
    """Two tokens; both sign a browser in; a session's cookie is out of reach for scripts and other sites."""
    async with scene(tmp_path, token="operate-1", viewer_token="view-1") as at:
        assert (await ask(at, "/"))[0] == 200
        assert (await ask(at, "/ui/main.js"))[0] == 200
        assert (await ask(at, f"{API}/session"))[1] == {"signed_in": False}
        assert (await ask(at, f"{API}/incidents"))[0] == 401
        refused = await ask(at, f"{API}/session", method="POST", json={"token": "wrong"})
        assert refused[0] == 401
        path, body = f"{API}/incidents/{SAMPLE}/approvals/torch_profiler", {"who": "v", "decision": "deny"}
        for token, may in (("view-1", 403), ("operate-1", 200)):
            assert (await ask(at, f"{API}/incidents", headers={"Authorization": f"Bearer {token}"}))[0] == 200
            _, signed, answer = await ask(at, f"{API}/session", method="POST", json={"token": token})
            cookie = answer.headers["Set-Cookie"]
            assert {"HttpOnly", "SameSite=Strict"} <= {part.strip() for part in cookie.split(";")}
            session = {"Cookie": cookie.partition(";")[0]}
            assert (await ask(at, f"{API}/incidents", headers=session))[0] == 200
            assert (await ask(at, path, method="POST", json=body, headers=session))[0] == 403, "no header, no post"
            full = {**session, "X-Responder-Csrf": signed["csrf"]}
            assert (await ask(at, path, method="POST", json=body, headers=full))[0] == may
            assert (await ask(at, f"{API}/session", method="DELETE", headers=full))[0] == 200
            assert (await ask(at, f"{API}/incidents", headers=session))[0] == 401
        viewer = {"Authorization": "Bearer view-1"}
        for change in ("/-/reload", "/api/v1/captures", f"/api/v1/incidents/{SAMPLE}/acknowledge"):
            assert (await ask(at, change, method="POST", json={}, headers=viewer))[0] == 403, change


async def test_refusals_say_the_same_whatever_was_wrong(tmp_path: Path) -> None:
    """No length, no detail tells a wrong token from none."""
    async with scene(tmp_path, token="operate-1") as at:
        tries = [
            {},
            {"Authorization": "Bearer x"},
            {"Authorization": "Bearer operate-11"},
            {"Cookie": "responder_session=x"},
        ]
        answers = {(await ask(at, f"{API}/incidents", headers=h))[1] for h in tries}
        assert len(answers) == 1


async def test_a_trusted_proxy_says_who_people_are_and_only_it(tmp_path: Path) -> None:
    """The header counts from its network alone; who is not an operator may look."""
    proxy = Proxy("X-Forwarded-User", ("127.0.0.0/8",), ("ann",))
    async with scene(tmp_path, proxy=proxy) as at:
        assert (await ask(at, f"{API}/incidents"))[0] == 401
        _, ann, _ = await ask(at, f"{API}/session", headers={"X-Forwarded-User": "ann"})
        _, ben, _ = await ask(at, f"{API}/session", headers={"X-Forwarded-User": "ben"})
        assert (ann["role"], ann["name"], ben["role"]) == ("operator", "ann", "viewer")
        path = f"{API}/incidents/{SAMPLE}/approvals/torch_profiler"
        sent = {"X-Forwarded-User": "ann", "X-Responder-Csrf": ann["csrf"]}
        deny = {"decision": "deny", "who": "somebody else"}
        assert (await ask(at, path, method="POST", json=deny, headers={"X-Forwarded-User": "ann"}))[0] == 403
        assert (await ask(at, path, method="POST", json=deny, headers=sent))[0] == 200
        item = at.approvals.of(SAMPLE, "torch_profiler")
        assert item is not None
        assert item.who == "ann"
    async with scene(tmp_path / "2", proxy=Proxy("X-Forwarded-User", ("10.9.0.0/16",), ("*",))) as at:
        assert (await ask(at, f"{API}/incidents", headers={"X-Forwarded-User": "ann"}))[0] == 401


def test_anything_but_loopback_needs_somebody_to_sign_in() -> None:
    """Refused when the configuration is read."""
    with pytest.raises(ValueError, match="anything but loopback needs"):
        Config.model_validate({"http": {"listen": "0.0.0.0:9119"}})
    with pytest.raises(ValueError, match="without `token` everybody may act"):
        Config.model_validate({"http": {"viewer_token": "v"}})
    with pytest.raises(ValueError, match="is no address or network"):
        Config.model_validate({"http": {"listen": "0.0.0.0:9119", "proxy": {"peers": ["here"]}}})
    Config.model_validate({"http": {"listen": "0.0.0.0:9119", "proxy": {"peers": ["10.0.0.7"]}}})


@pytest.mark.parametrize(("viewer", "words"), [("", "viewer_token is empty"), ("one", "the same")])
def test_a_token_that_keeps_nobody_out_is_refused_with_its_line(tmp_path: Path, viewer: str, words: str) -> None:
    """An empty file of a secret, or viewers who hold the operators' token."""
    (tmp_path / "operator").write_text("one\n")
    (tmp_path / "viewer").write_text(f"{viewer}\n")
    tree = {"http": {"token_file": str(tmp_path / "operator"), "viewer_token_file": str(tmp_path / "viewer")}}
    config, problems = parse(tree, "c.yaml", lambda path: (3, 1) if path == ("http",) else (0, 0))
    assert config is None
    assert [(p.line, words in p.what) for p in problems] == [(3, True)]


async def test_while_the_daemon_starts_it_says_so(tmp_path: Path) -> None:
    """503, to be asked again; nothing is said not to exist."""
    async with scene(tmp_path) as at:
        at.overview._parts = None
        status, body, answer = await ask(at, f"{API}/incidents")
        assert (status, body, answer.headers["Retry-After"]) == (503, b"the responder is starting\n", "2")


async def test_reports_are_read_past_no_link_either(tmp_path: Path) -> None:
    """Neither the file, nor its folder, nor the incident's own may be a link."""
    async with scene(tmp_path) as at:
        assert (await ask(at, f"/incidents/{SAMPLE}/report.html"))[0] == 200
        incidents, other = tmp_path / "incidents", tmp_path / "other"
        (other / "charts").mkdir(parents=True)
        for name in ("report.md", "charts/a.svg"):
            (other / name).write_text("secret")
        (incidents / "link").symlink_to(other)
        (incidents / SAMPLE / "charts").symlink_to(other / "charts")
        for path in ("link/report.md", "link/charts/a.svg", f"{SAMPLE}/charts/a.svg"):
            assert (await ask(at, f"/incidents/{path}"))[0] == 404, path


def test_a_proxy_is_known_however_its_socket_shows_it() -> None:
    """IPv4 on a socket for both families."""
    proxy = Proxy("X-Forwarded-User", ("10.0.0.0/24",), ("ann",))
    for peer, role in (("::ffff:10.0.0.7", "operator"), ("10.0.0.7", "operator"), ("::ffff:10.0.1.7", None)):
        person = proxy.person(cast(Any, SimpleNamespace(remote=peer, headers={"X-Forwarded-User": "ann"})))
        assert (person.role if person else None) == role, peer


def test_sessions_are_bounded() -> None:
    """Signing in again and again does not fill the memory."""
    access = Access("token")
    for _ in range(1200):
        assert access.sign_in("token")
    assert len(access._sessions) <= 1000


def test_a_session_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds an old cookie finds nothing."""
    access = Access("token")
    key, _ = access.sign_in("token") or ("", None)
    request = cast(Any, SimpleNamespace(headers={}, cookies={COOKIE: key}))
    assert access.person(request) is not None
    later = time.monotonic() + SESSION_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert access.person(request) is None
