"""What differs between two set-ups of a server, and between it and its siblings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from responder.changes import KEPT, Difference, History, Snapshot, apart, differences, fold, restarted, words


def shot(at: float = 0.0, **what: object) -> Snapshot:
    return Snapshot.model_validate({"at": at, "started_at": 100.0, "options": {"max_num_seqs": "64"}} | what)


def test_what_both_know_and_differs_is_a_difference() -> None:
    """Changed, new and gone options; versions; names of variables, never values."""
    before = shot(options={"max_num_seqs": "64", "enforce_eager": "True"}, version="0.31", environment={"VLLM_X": "aa"})
    after = shot(options={"max_num_seqs": "256", "seed": "1"}, version="0.32", environment={"VLLM_X": "bb"})
    said = words(differences(before, after))
    assert said == (
        "--max-num-seqs 64 → 256; --enforce-eager True (gone); --seed 1 (new); vLLM 0.31 → 0.32; VLLM_X: another value"
    )


def test_what_one_of_them_does_not_know_is_no_difference() -> None:
    """Unknown is not another value."""
    assert differences(shot(gpus=("H100, 550",)), shot(gpus=None)) == ()
    assert differences(shot(options=None), shot()) == ()


def test_a_restart_is_another_start_time() -> None:
    """Unknown without one; two readings of one start are one start."""
    assert restarted(shot(started_at=100.0), shot(started_at=101.0)) is False
    assert restarted(shot(started_at=100.0), shot(started_at=160.0)) is True
    assert restarted(shot(started_at=None), shot()) is None


def test_history_keeps_one_stay_for_each_set_up() -> None:
    """The same set-up seen again is the same stay, also with a source silent; the newest few are kept."""
    history = fold(History(), shot(1.0, version="0.31"))
    history = fold(history, shot(2.0, version=None))
    assert [(s.since, s.until, s.snapshot.version) for s in history.stays] == [(1.0, 2.0, "0.31")]
    for number in range(10):
        history = fold(history, shot(3.0 + number, options={"max_num_seqs": str(number)}))
    assert len(history.stays) == KEPT
    assert history.stays[-1].since == 12.0


def test_apart_from_siblings_is_apart_from_their_majority() -> None:
    """A split vote is no yardstick, and what differs by nature does not count."""
    same = {"max_num_seqs": "64", "port": "1"}
    siblings = {name: shot(options=same) for name in "abc"}
    found = apart(shot(options={"max_num_seqs": "256", "port": "9", "seed": "1"}), siblings)
    assert [(d.name, d.before, d.after) for d in found] == [("max_num_seqs", "64", "256"), ("seed", None, "1")]
    split = {"a": shot(options={"seed": "1"}), "b": shot(options={"seed": "2"})}
    assert apart(shot(options={"seed": "3"}), split) == ()


def test_siblings_of_another_model_are_no_yardstick() -> None:
    """They have other options for good reasons."""
    other = {"a": shot(models=("other",), options={"max_num_seqs": "8"})}
    assert apart(shot(models=("ours",)), other) == ()


options = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"))


@given(options, options)
def test_differences_are_symmetric(one: dict[str, str], other: dict[str, str]) -> None:
    """Back and forth, the same things differ; nothing differs from itself."""
    there, back = (
        differences(shot(options=one), shot(options=other)),
        differences(shot(options=other), shot(options=one)),
    )
    assert {d.name for d in there} == {d.name for d in back}
    assert differences(shot(options=one), shot(options=one)) == ()
    assert all(isinstance(d, Difference) for d in there)
