"""What does Hugging Face transformers answer? A script for the Python that has it (vLLM's own): JSON in, JSON out.

Imports nothing of ours: it runs in another environment. Greedy, one case after another, on a CPU unless told otherwise.
"""

import importlib
import json
import sys


def main() -> None:
    """Read {model, dtype, device, top, cases: [{id, text, max_tokens}]}, write {answers: [{prompt, tokens, top}]}."""
    wanted = json.load(sys.stdin)
    torch = importlib.import_module("torch")
    transformers = importlib.import_module("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(wanted["tokenizer"] or wanted["model"])
    kind = wanted["dtype"] if wanted["dtype"] == "auto" else getattr(torch, wanted["dtype"])
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(wanted["model"], dtype=kind)
    except TypeError:  # before 4.56
        model = transformers.AutoModelForCausalLM.from_pretrained(wanted["model"], torch_dtype=kind)
    model = model.to(wanted["device"]).eval()
    answers = []
    for case in wanted["cases"]:
        ids = tokenizer(case["text"], return_tensors="pt").input_ids.to(wanted["device"])
        tokens, top = [], []
        with torch.no_grad():
            for _ in range(case["max_tokens"]):
                logits = model(ids).logits[0, -1].float()
                if not bool(torch.isfinite(logits).all()):
                    break
                best = torch.log_softmax(logits, dim=-1).topk(wanted["top"])
                row = {int(token): float(value) for value, token in zip(*map(list, best), strict=True)}
                tokens.append(int(best.indices[0]))
                top.append(row)
                ids = torch.cat([ids, best.indices[:1].view(1, 1)], dim=1)
        whole = len(tokens) == case["max_tokens"]
        answers.append({"prompt": case["id"], "tokens": tokens, "top": top, "nan": not whole})
    json.dump({"answers": answers}, sys.stdout)


if __name__ == "__main__":
    main()
