"""Perplexities of the demo models by transformers in f32: tests/golden/evaluate.json.

usage: make_evaluate.py [--full]   (run anywhere; needs torch and transformers; --full also prints the figures of the whole text)
"""
import json
import math
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "recipes" / "demo"


def window_sums(model, ids, context, windows, first, bos):
    """Summed loss of the tokens first.. of every window; bos (if any) overwrites the first token of each."""
    sums = []
    with torch.no_grad():
        for i in range(windows):
            x = torch.tensor(ids[i * context:(i + 1) * context])[None]
            if bos is not None:
                x[0, 0] = bos
            logits = model(x).logits[0, first - 1:-1].double()
            sums.append(torch.nn.functional.cross_entropy(logits, x[0, first:], reduction="sum").item())
    return sums


def measure(name, protocol, context, windows):
    tokenizer = AutoTokenizer.from_pretrained(DEMO / name)
    model = AutoModelForCausalLM.from_pretrained(DEMO / name, dtype=torch.float32).eval()
    ids = tokenizer((DEMO / "text" / "eval.txt").read_text(encoding="utf-8"))["input_ids"]
    prefix = tokenizer("")["input_ids"]
    windows = min(windows, len(ids) // context)
    bos = prefix[0] if protocol == "llama.cpp" and prefix else None
    first = context // 2 + 1 if protocol == "llama.cpp" else 1
    sums = window_sums(model, ids, context, windows, first, bos)
    return {
        "model": name, "protocol": protocol, "context": context, "windows": windows, "text_tokens": len(ids),
        "scored": windows * (context - first), "value": math.exp(sum(sums) / (windows * (context - first))),
        "window_means": [s / (context - first) for s in sums],
    }


def main():
    torch.set_num_threads(2)
    cases = [("llama", "windows", 1024, 3), ("llama", "windows", 100, 5), ("llama", "llama.cpp", 512, 4), ("llama", "llama.cpp", 65, 5),
             ("gpt2", "windows", 512, 4), ("gpt2", "llama.cpp", 512, 3)]
    golden = [measure(*case) for case in cases]
    (ROOT / "tests" / "golden" / "evaluate.json").write_text(json.dumps(golden, indent=1) + "\n")
    if "--full" in sys.argv:
        for case in [("llama", "windows", 1024, 10**9), ("gpt2", "windows", 512, 10**9)]:
            print(case, measure(*case)["value"])


main()
