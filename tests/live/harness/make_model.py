"""Where does the model come from? This script makes one: a small Llama with random weights and its own tokenizer.

Runs inside vLLM's Python (it needs tokenizers, torch and safetensors): `python make_model.py FOLDER`. Nothing is
downloaded. The weights are random but seeded, so two machines serve the same nonsense. The tokenizer is trained on the
text below; words of that text are one token each, which is how the load generator knows how long a prompt is.
"""

import json
import pathlib
import sys

SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
LARGEST_VOCABULARY = 1024
CONTEXT = 4096

TEXT = """
A server takes requests and gives answers one token at a time. Every request waits in a queue until there is
room for it, then its prompt is read in one go and its answer is written step by step. The first token is late
when the queue is long, when the prompt is long, or when nothing of the prompt was known before. The next
tokens are late when the batch is large, when the machine is slow, or when memory runs out and work already
done is thrown away and has to be done again. Somebody is woken at night and wants to know four things: what
is broken, since when, why, and what to do now. An honest report says what it saw, what speaks against its own
idea, and what nobody has looked at yet. The river runs past the mill and the old bridge; in winter the water
is high and the wheel stands still. Children count the boats, blue, red, green, white and black, until the
lamps are lit and the street grows quiet. Morning brings bread, salt, apples, paper, wool and news from the
town over the hill. Nobody there has ever seen the sea, but all of them can sing of it. zero one two three
four five six seven eight nine ten north south east west spring summer autumn winter iron copper silver gold
"""


def words() -> list[str]:
    """The distinct plain words of the text, in order of appearance."""
    cleaned = "".join(c if c.isalpha() else " " for c in TEXT.lower())
    return list(dict.fromkeys(cleaned.split()))


def write_tokenizer(folder: pathlib.Path) -> int:
    """A byte-level BPE tokenizer; ` word` of `words()` is always exactly one token. Returns its size."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=LARGEST_VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    plain = " " + " ".join(words())
    tokenizer.train_from_iterator([TEXT] + [plain] * 20, trainer)
    # Merges learnt by frequency need not cover every word: the rest become tokens of their own.
    lost = [" " + w for w in words() if len(tokenizer.encode(" " + w).ids) != 1]
    tokenizer.add_tokens([AddedToken(w, normalized=False) for w in lost])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "model_max_length": CONTEXT,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return int(tokenizer.get_vocab_size())


def write_weights(folder: pathlib.Path, vocabulary: int) -> int:
    """Seeded random weights in the names of a Llama checkpoint; returns how many parameters there are."""
    import torch
    from safetensors.torch import save_file

    random = torch.Generator().manual_seed(20)

    def matrix(rows: int, columns: int) -> "torch.Tensor":
        return (torch.randn(rows, columns, generator=random) * columns**-0.5).to(torch.bfloat16)

    hidden, inner = SHAPE["hidden_size"], SHAPE["intermediate_size"]
    narrow = hidden // SHAPE["num_attention_heads"] * SHAPE["num_key_value_heads"]
    ones = torch.ones(hidden, dtype=torch.bfloat16)
    weights = {
        "model.embed_tokens.weight": matrix(vocabulary, hidden),
        "lm_head.weight": matrix(vocabulary, hidden),
        "model.norm.weight": ones.clone(),
    }
    for number in range(SHAPE["num_hidden_layers"]):
        layer = f"model.layers.{number}."
        for name, rows, columns in (
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", narrow, hidden),
            ("self_attn.v_proj", narrow, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", inner, hidden),
            ("mlp.up_proj", inner, hidden),
            ("mlp.down_proj", hidden, inner),
        ):
            weights[f"{layer}{name}.weight"] = matrix(rows, columns)
        weights[f"{layer}input_layernorm.weight"] = ones.clone()
        weights[f"{layer}post_attention_layernorm.weight"] = ones.clone()
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    return sum(w.numel() for w in weights.values())


def write_config(folder: pathlib.Path, vocabulary: int) -> None:
    """The Llama configuration vLLM reads."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "torch_dtype": "bfloat16",
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        **SHAPE,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def main() -> None:
    """Write the whole model folder; the caller renames it into place."""
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = write_tokenizer(folder)
    parameters = write_weights(folder, vocabulary)
    write_config(folder, vocabulary)
    (folder / "words.json").write_text(json.dumps(words()))
    sys.stdout.write(f"{parameters / 1e6:.1f} million parameters in {folder}\n")


if __name__ == "__main__":
    main()
