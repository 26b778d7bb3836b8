"""What does a GPU serve in the lab? The shape of a 7B Llama with the tiny model's tokenizer and no weights.

    python -m bench.faults.large_model FOLDER

vLLM makes weights up (`--load-format dummy`): answers are nonsense, times are those of a 7B model.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import sys

from tests.live.harness import find

SHAPE = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "max_position_embeddings": 16384,
}  # fmt: skip


def write(folder: pathlib.Path) -> None:
    """Tokenizer and words of the tiny model, and a configuration."""
    tiny = find.model()
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "words.json"):
        shutil.copy(tiny / name, folder / name)
    config = json.loads((tiny / "config.json").read_text()) | SHAPE
    (folder / "config.json").write_text(json.dumps(config, indent=1))


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
