"""Do NCCL's own lines tell the way data goes, and who was first?"""

from __future__ import annotations

from responder.capture import nccl_log
from responder.capture.step import Fetched, NoParams
from responder.model import Inventory, Outcome
from tests.doubles import BRIEF, Files, scene

INFO = b"""node1:992:992 [0] NCCL INFO NCCL version 2.28.9+cuda13.0
node1:992:1100 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM
node1:992:1100 [0] NCCL INFO Channel 01/0 : 0[0] -> 1[1] via P2P/CUMEM
INFO 11-20 10:21:20 an ordinary line of the server
"""
SOCKETS = INFO.replace(b"P2P/CUMEM", b"NET/Socket/0")
WARNED = b"node1:993:1101 [1] misc/socket.cc:58 NCCL WARN socketProgress: Connection closed by remote peer\n"
TIMED_OUT = b"""
[rank0]:[E ProcessGroupNCCL.cpp:607] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=41, OpType=ALLREDUCE, NumelIn=1) ran for 600000 ms
[rank1]:[E ProcessGroupNCCL.cpp:607] [Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=40, OpType=BROADCAST, NumelIn=1) ran for 600000 ms
"""  # noqa: E501


async def run(log: bytes, **more: bytes) -> tuple[Fetched, dict[str, tuple[object, str]]]:
    environment = {"NCCL_DEBUG_FILE": "/logs/nccl.%h.%p"} if more else {}
    files = Files(
        {"/vllm.log": log, **{f"/logs/{n}": raw for n, raw in more.items()}}, {"ls": "\n".join(more).encode()}
    )
    known = Inventory(at=0, local=True, log_file="/vllm.log", environment=environment)
    async with scene(inventory=known, runner=files) as where:
        fetched = await nccl_log.fetch(where, NoParams())
    found = list(nccl_log.read(fetched.files, BRIEF))
    assert {fact.name for fact in found} <= {spec.name for spec in nccl_log.STEP.facts}
    return fetched, {fact.name.removeprefix("nccl_log."): (fact.value, fact.says) for fact in found}


async def test_the_way_and_the_version() -> None:
    """Within one host over NVLink."""
    _, said = await run(INFO)
    assert said["version"][0] == "2.28.9"
    assert said["slowest_way"] == ("P2P", "2 channels via P2P/CUMEM")
    assert said["over_sockets"][0] is False
    assert said["warnings"][0] == 0


async def test_plain_tcp_between_gpus_is_said() -> None:
    """The way nobody wants."""
    _, said = await run(SOCKETS)
    assert (said["slowest_way"][0], said["over_sockets"][0]) == ("NET/Socket", True)


async def test_who_warned_first() -> None:
    """The GPU stands in brackets."""
    _, said = await run(INFO + WARNED)
    assert said["warnings"] == (1, "socketProgress: Connection closed by remote peer")
    assert said["first_to_warn"][0] == "GPU 1"


async def test_the_rank_with_the_lowest_collective_diverged_first() -> None:
    """Rank 1 still stands at 40 while rank 0 waits at 41."""
    _, said = await run(TIMED_OUT)
    assert said["timeouts"][0] == 2
    assert said["first_diverging_rank"] == ("rank 1", "rank 1 stands at BROADCAST 40; rank 0 stands at ALLREDUCE 41")


async def test_all_ranks_at_the_same_collective_name_nobody() -> None:
    """Then the log does not know who."""
    _, said = await run(TIMED_OUT.replace(b"40, OpType=BROADCAST", b"41, OpType=ALLREDUCE"))
    assert said["first_diverging_rank"][0] == ""


async def test_nccls_own_files_are_read() -> None:
    """NCCL_DEBUG_FILE with host and process in its name; other files in the folder are not."""
    fetched, said = await run(b"", **{"nccl.node1.992": INFO, "secrets.txt": WARNED})
    assert said["version"][0] == "2.28.9"
    assert said["warnings"][0] == 0
    assert b"secrets" not in fetched.files[nccl_log.META]


async def test_a_log_without_nccl_says_how_to_get_one() -> None:
    """Skipped is not clean."""
    fetched, said = await run(b"nothing here\n")
    assert fetched.outcome is Outcome.SKIPPED
    assert "NCCL_DEBUG=INFO" in fetched.reason
    assert said == {}
