"""With which options was a server started?"""

from __future__ import annotations

import pytest

from responder.launchargs import arguments_in, number, options_of, profiler_options, truth, word


def test_a_command_line() -> None:
    """Long, short, joined, negated and dotted options; a negative number is a value, not an option."""
    argv = [
        "python", "-m", "vllm.entrypoints.openai.api_server", "--model", "/m", "-tp", "2", "--max-model-len=8k",
        "--no-enable-prefix-caching", "--enforce-eager", "--seed", "-1", "--profiler-config.max-iterations", "4",
        "--served_model_name", "a",
    ]  # fmt: skip
    assert options_of(argv) == {
        "model": "/m",
        "tensor_parallel_size": "2",
        "max_model_len": "8k",
        "enable_prefix_caching": "False",
        "enforce_eager": "True",
        "seed": "-1",
        "profiler_config.max_iterations": "4",
        "served_model_name": "a",
    }


def test_a_printed_configuration() -> None:
    """Constructors, enums, nested braces and quotes with commas do not confuse it."""
    text = "{'a': 1, 'b': Config(x='1,2', y={'c': <Mode.NONE: 0>}), 'd': ['e, f'], \"g\": None}"
    assert arguments_in(text) == {
        "a": "1",
        "b": "Config(x='1,2', y={'c': <Mode.NONE: 0>})",
        "d": "['e, f']",
        "g": "None",
    }
    assert arguments_in("Namespace(host=None, port=8000)") == {"host": "None", "port": "8000"}


@pytest.mark.parametrize(
    ("text", "value"),
    [("8192", 8192), ("8k", 8000), ("8K", 8192), ("1.5k", 1500), ("1,990,144", 1990144), ("auto", None), (None, None)],
)
def test_numbers_as_vllm_takes_them(text: str | None, value: float | None) -> None:
    """A small k is a thousand, a large one 1024."""
    assert number(text) == value


def test_words_and_truths() -> None:
    """A printed None is unknown."""
    assert (word("'auto'"), word("None"), truth("True"), truth("'false'"), truth("None")) == (
        "auto", None, True, False, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"profiler_config": '{"profiler": "torch", "max_iterations": 8}'},
        {"profiler_config": "ProfilerConfig(profiler='torch', max_iterations=8)"},
        {"profiler_config.profiler": "torch", "profiler_config.max_iterations": "8"},
        {"profiler_config": "{'profiler': 'torch', 'max_iterations': 8}"},
    ],
)
def test_profiler_options_in_every_form(options: dict[str, str]) -> None:
    """JSON, printed object, dotted flags."""
    assert profiler_options(options) == {"profiler": "torch", "max_iterations": "8"}


def test_no_profiler() -> None:
    """Nothing said is nothing found."""
    assert profiler_options({"profiler_config": "None"}) == {}
    assert profiler_options({}) == {}
