"""Artifacts: the same questions to a folder and to a server that speaks S3 (moto's, over HTTP)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from responder.artifacts import Artifacts, ArtifactsSilent, FolderArtifacts, Mirror
from responder.folder import IncidentFolder


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """URL of an S3 server with a bucket `incidents`."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a",
                          aws_secret_access_key="b")  # fmt: skip
    client.create_bucket(Bucket="incidents")
    yield url
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    """Each kind, empty."""
    if request.param == "folder":
        return FolderArtifacts(tmp_path / "shared")
    from responder.artifacts_s3 import S3Artifacts

    url = request.getfixturevalue("s3")
    return S3Artifacts("incidents", prefix=tmp_path.name, endpoint=url, access_key="a", secret_key="b")


async def test_what_was_put_is_got_listed_and_dropped(artifacts: Artifacts) -> None:
    """Names are whole paths; dropping takes everything below one and nothing else."""
    await artifacts.put("incidents/i1/report.json", b"one")
    await artifacts.put("incidents/i1/raw/stacks/a.txt", b"two")
    await artifacts.put("incidents/i10/report.json", b"ten")
    await artifacts.put("incidents/i1/report.json", b"three")
    assert await artifacts.get("incidents/i1/report.json") == b"three"
    assert await artifacts.names("incidents/i1/") == ["incidents/i1/raw/stacks/a.txt", "incidents/i1/report.json"]
    await artifacts.drop("incidents/i1")
    assert await artifacts.names("incidents") == ["incidents/i10/report.json"]
    with pytest.raises(KeyError):
        await artifacts.get("incidents/i1/report.json")


async def test_a_folder_is_the_same_for_whoever_takes_over(artifacts: Artifacts, tmp_path: Path) -> None:
    """Pushed by one, pulled by another: the same files; only what has changed travels again."""
    ours, theirs = IncidentFolder(tmp_path / "a" / "i1"), IncidentFolder(tmp_path / "b" / "i1")
    ours.write("report.json", b"{}")
    ours.write_raw("stacks", {"a.txt": b"frames"})
    mirror = Mirror(artifacts)
    await mirror.push(ours)
    await artifacts.drop("incidents/i1/raw")
    ours.write("report.json", b"{1}")
    await mirror.push(ours)
    await Mirror(artifacts).pull(theirs)
    assert (theirs.path / "report.json").read_bytes() == b"{1}"
    assert theirs.read_raw("stacks") == {}


async def test_the_oldest_expire_past_the_size_of_all_and_none_that_is_kept(artifacts: Artifacts) -> None:
    """The rule of local folders; who keeps what is asked only after it was seen what lies there."""
    mirror = Mirror(artifacts)
    for name in ("a", "b", "c"):
        await artifacts.put(f"incidents/{name}/report.json", b"x" * 100)
        await artifacts.put(f"incidents/{name}/raw/s/t", b"x" * 100)
    stored = await artifacts.stored("incidents")
    assert {(item.name, item.bytes) for item in stored} >= {("incidents/a/raw/s/t", 100)}
    now = max(item.at for item in stored)

    async def unfinished() -> list[str]:
        await artifacts.put("incidents/d/report.json", b"begun a moment ago")
        return ["a"]

    gone = await mirror.expire(unfinished, now=now, max_age_s=3600, max_bytes=1000)
    assert gone == []
    gone = await mirror.expire(unfinished, now=now + 7200, max_age_s=1800, max_bytes=1000)
    assert sorted(gone) == ["b", "c", "d"], "what was put in the same second has no order"
    assert {name.split("/")[1] for name in await artifacts.names("incidents")} == {"a"}
    mirror._pushed = {"a": {}, "thrown away by another replica": {}}
    await mirror.expire(unfinished, now=now, max_age_s=3600, max_bytes=1000)
    assert set(mirror._pushed) == {"a"}


async def test_a_place_that_does_not_answer_is_said(tmp_path: Path) -> None:
    """In words, for the log and the report."""
    from responder.artifacts_s3 import S3Artifacts

    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ArtifactsSilent):
        await FolderArtifacts(blocked).put("a/b", b"")
    gone = S3Artifacts("incidents", endpoint="http://127.0.0.1:1", access_key="a", secret_key="b")
    with pytest.raises(ArtifactsSilent, match="incidents"):
        await gone.put("a", b"")
