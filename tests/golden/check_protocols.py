"""Every perplexity protocol of qwb-eval against the tool it follows, in f32 on both sides.

usage: check_protocols.py QWB_EVAL MODEL TEXT [--context N] [--bytes N] [--llama-perplexity PROGRAM --gguf FILE]
  gptq        the loop of the GPTQ code (datautils.py, llama.py), written out here on transformers' logits
  hf-stride   the loop of transformers' page on perplexity, likewise
  lm-eval     lm_eval's HFLM.loglikelihood_rolling on TEXT cut into documents at blank lines, its own wikitext metrics
  llama.cpp   llama-perplexity on FILE, the f32 GGUF of MODEL (skipped without)
Only the first --bytes of TEXT are used. Prints a line each; exits 1 if any is off by more than 1e-4 (llama.cpp: 1e-3).
Needs torch, transformers, lm_eval.
"""
import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def gptq(model, ids, context):
    nlls = []
    for i in range(ids.shape[1] // context):
        batch = ids[:, i * context:(i + 1) * context]
        logits = model(batch).logits[:, :-1, :]
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), batch[:, 1:].reshape(-1))
        nlls.append(loss.double() * context)
    return math.exp(torch.stack(nlls).sum() / (len(nlls) * context))


def hf_stride(model, ids, context, stride):
    seq_len, nll_sum, n_tokens, previous_end = ids.size(1), 0.0, 0, 0
    for begin in range(0, seq_len, stride):
        end = min(begin + context, seq_len)
        target_len = end - previous_end
        batch = ids[:, begin:end]
        targets = batch.clone()
        targets[:, :-target_len] = -100
        loss = model(batch, labels=targets).loss
        valid = (targets != -100).sum().item() - targets.size(0)
        nll_sum += loss.double().item() * valid
        n_tokens += valid
        previous_end = end
        if end == seq_len:
            break
    return math.exp(nll_sum / n_tokens)


def lm_eval_rolling(folder, documents, context):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    lm = HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=1, max_length=context)
    requests = [Instance(request_type="loglikelihood_rolling", doc={}, arguments=(d,), idx=0) for d in documents]
    total = sum(lm.loglikelihood_rolling(requests, disable_tqdm=True))
    words = sum(len(re.split(r"\s+", d)) for d in documents)
    size = sum(len(d.encode()) for d in documents)
    return math.exp(-total / words), math.exp(-total / size), -total / size / math.log(2)


def ours(program, model, text, protocol, *flags):
    out = subprocess.run([program, model, "--text", text, "--protocol", protocol, "--no-baseline", "--json", "--fresh", "-q", *flags],
                         check=True, capture_output=True, text=True).stdout
    return json.loads(out)["perplexity"]


def llama_cpp(program, gguf, text, context):
    result = subprocess.run([program, "-m", gguf, "-f", text, "-c", str(context), "-t", "2", "-b", str(context), "-fa", "off"],
                            capture_output=True, text=True)
    match = re.search(r"Final estimate: PPL = ([0-9.]+)", result.stdout + result.stderr)
    assert match, result.stdout[-2000:] + result.stderr[-2000:]
    return float(match.group(1))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("program")
    arguments.add_argument("model")
    arguments.add_argument("text")
    arguments.add_argument("--context", type=int, default=512)
    arguments.add_argument("--bytes", type=int, default=40000)
    arguments.add_argument("--llama-perplexity")
    arguments.add_argument("--gguf")
    a = arguments.parse_args()
    torch.set_num_threads(2)
    text = Path(a.text).read_bytes()[:a.bytes].decode(errors="ignore")
    documents = [d for d in text.split("\n\n\n") if d.strip()]
    if len(documents) < 4:
        pieces = text.split("\n\n")
        documents = ["\n\n".join(pieces[i::5]) for i in range(5)]
    scratch = Path(tempfile.mkdtemp())
    plain, lines = scratch / "text.txt", scratch / "documents.jsonl"
    plain.write_text(text)
    lines.write_text("".join(json.dumps({"text": d}) + "\n" for d in documents))
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32).eval()
    ids = tokenizer(text, return_tensors="pt").input_ids
    context, stride = str(a.context), a.context // 3
    failed = False

    def compare(name, theirs, mine, tolerance=1e-4):
        nonlocal failed
        off = mine / theirs - 1
        failed |= not abs(off) < tolerance
        print(f"{name:24} theirs {theirs:.7g}  ours {mine:.7g}  off {off:+.1e}", flush=True)

    with torch.no_grad():
        compare("gptq", gptq(model, ids, a.context), ours(a.program, a.model, plain, "gptq", "--context", context)["value"])
        compare("hf-stride", hf_stride(model, ids, a.context, stride),
                ours(a.program, a.model, plain, "hf-stride", "--context", context, "--stride", str(stride))["value"])
        word, byte, bits = lm_eval_rolling(a.model, documents, a.context)
        mine = ours(a.program, a.model, lines, "lm-eval", "--context", context)
        compare("lm-eval word", word, mine["value"])
        compare("lm-eval byte", byte, mine["byte_perplexity"])
        compare("lm-eval bits per byte", bits, mine["bits_per_byte"])
    if a.gguf:
        compare("llama.cpp", llama_cpp(a.llama_perplexity, a.gguf, plain, a.context),
                ours(a.program, a.model, plain, "llama.cpp", "--context", context)["value"], 1e-3)
    sys.exit(failed)


main()
