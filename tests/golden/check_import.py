#!/usr/bin/env python3
"""Compares how qwb reads an artifact that another library made with how that library itself dequantizes it.

For each folder: the library that owns the format loads it (GPTQModel: gptq, awq; transformers: bitsandbytes, compressed-tensors), gives its
dequantized weights in its own type, and every one is compared bit by bit with what `qwb-convert --to huggingface` makes of the folder; then the
perplexity of those weights in f32 (torch) is compared with qwb-eval's on the folder as it is. Fails if a weight differs or if the
perplexities differ by more than 1e-4 of their value. The product needs no Python; this is an oracle.

usage: check_import.py BIN_FOLDER TEXT CONTEXT WINDOWS FOLDER...      (run it where GPTQModel may write its logs)
"""
import json
import math
import os
import subprocess
import sys
import tempfile

import torch
from transformers import AutoTokenizer

from check_convert import DTYPES, LOADERS, decompress_ct, load_plain


def theirs_config(folder):
    with open(os.path.join(folder, "config.json")) as file:
        return json.load(file)["quantization_config"]


def owner(folder):
    config = theirs_config(folder)
    method = config.get("quant_method") or config.get("method")
    return {"gptq": "gptqmodel", "awq": "gptqmodel", "bitsandbytes": "bnb", "compressed-tensors": "ct"}[method]


def perplexity(model, ids, context, windows):
    total, count = 0.0, min(len(ids) // context, windows)
    with torch.no_grad():
        for i in range(count):
            x = torch.tensor(ids[i * context:(i + 1) * context])[None]
            logits = model(x).logits[0, :-1].double()
            total += torch.nn.functional.cross_entropy(logits, x[0, 1:], reduction="sum").item()
    return math.exp(total / (count * (context - 1)))


def compare(bin_folder, text, context, windows, folder):
    loader = owner(folder)
    with tempfile.TemporaryDirectory() as scratch:
        def plain(*flags):
            command = [os.path.join(bin_folder, "qwb-convert"), folder, "--to", "huggingface", scratch, "--force", "-q", *flags]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            return load_plain(scratch)

        int8 = loader == "bnb" and theirs_config(folder).get("load_in_8bit", False)
        ours = plain(*(["--dtype", "f32"] if int8 else DTYPES[loader]))
        # A loaded compressed-tensors model keeps its words; the library's decompressor gives the weights.
        packed = loader == "ct" and theirs_config(folder)["format"] == "pack-quantized"
        theirs = decompress_ct(folder) if packed else LOADERS[loader](folder)
        exact = plain("--dtype", "f32")
    mine, modules, wrong, compared = ours.state_dict(), dict(ours.named_modules()), [], 0
    wanted = {name for name in mine if name.endswith("weight")}
    for name, weight in theirs.state_dict().items():
        if name not in wanted:
            continue
        weight = weight.float()
        turned = type(modules[name.rpartition(".")[0]]).__name__ == "Conv1D"
        if turned and isinstance(theirs.get_submodule(name.rpartition(".")[0]), torch.nn.Linear):
            weight = weight.T
        compared += 1
        if not torch.equal(weight, mine[name].float()):
            wrong.append(f"{name}: {(weight - mine[name].float()).abs().max().item():.3g}")
    with open(text, encoding="utf-8") as file:
        ids = AutoTokenizer.from_pretrained(folder)(file.read())["input_ids"]
    expected = perplexity(exact, ids, context, windows)
    command = [os.path.join(bin_folder, "qwb-eval"), folder, "--ppl", "--context", str(context), "--windows", str(windows), "--text", text,
               "--no-baseline", "--json", "-q"]
    line = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[0]
    found = json.loads(line)["perplexity"]["value"]
    ok = not wrong and compared == len(wanted) and abs(found / expected - 1) < 1e-4
    print(f"{folder}: {compared} of {len(wanted)} weights, {len(wrong)} differ {wrong[:2] if wrong else ''}; perplexity {found:.5f}, of those weights in "
          f"torch {expected:.5f}: {'ok' if ok else 'FAILED'}", flush=True)
    return ok


if __name__ == "__main__":
    if len(sys.argv) < 6:
        sys.exit(__doc__)
    results = [compare(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), folder) for folder in sys.argv[5:]]
    sys.exit(0 if all(results) else 1)
