#!/usr/bin/env python3
"""Greedy continuations of the demo models by transformers (an oracle; the product needs no Python).

Writes complete.json beside this file: per model and prompt the ids of 40 new tokens and their text.
The tokenizer is the `tokenizers` library on tokenizer.json, with BOS where the model's config asks for it.
"""
import json
import pathlib

import tokenizers
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
DEMO = HERE.parent.parent / "recipes" / "demo"
PROMPTS = ["The history of the city begins", "In 1956 he was born in a small town,"]
NEW_TOKENS = 40


def continue_greedily(name, prompt):
    tokenizer = tokenizers.Tokenizer.from_file(str(DEMO / name / "tokenizer.json"))
    model = transformers.AutoModelForCausalLM.from_pretrained(DEMO / name, dtype=torch.float32)
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids
    config = json.loads((DEMO / name / "tokenizer_config.json").read_text())
    if config.get("add_bos_token"):
        ids = [tokenizer.token_to_id(config["bos_token"])] + ids
    margin = float("inf")
    out = list(ids)
    with torch.no_grad():
        for _ in range(NEW_TOKENS):
            logits = model(torch.tensor([out])).logits[0, -1]
            best = torch.topk(logits, 2).values
            margin = min(margin, float(best[0] - best[1]))
            out.append(int(torch.argmax(logits)))
    generated = model.generate(torch.tensor([ids]), max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS,
                               do_sample=False)[0].tolist()
    assert generated == out, (name, prompt)
    before, after = tokenizer.decode(ids), tokenizer.decode(out)
    assert after.startswith(before)
    # Two logits closer than the arithmetic's error would make the golden a coin toss.
    assert margin > 1e-3, (name, prompt, margin)
    return {"model": name, "prompt": prompt, "tokens": out[len(ids):], "text": after[len(before):],
            "least_margin": round(margin, 5)}


cases = [continue_greedily(name, prompt) for name in ("llama", "gpt2") for prompt in PROMPTS]
(HERE / "complete.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")
