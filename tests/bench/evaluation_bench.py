"""Speed of qwb-eval against its peers, in turns, in one run: medians, and ratios with their least and most over rounds.

usage: evaluation_bench.py torch QWB_EVAL MODEL TEXT            f32 perplexity: transformers + torch, windows of 1024
       evaluation_bench.py perplexity QWB_EVAL GGUF TEXT LLAMA_BIN   the llama.cpp protocol: llama-perplexity on the same GGUF
       evaluation_bench.py grid QWB_EVAL GGUF LLAMA_BIN         pp128, pp512, tg64: llama-bench on the same GGUF
       [--threads N] [--rounds N] [--windows N] [--context N]
Perplexities are timed as the time of N + 1 windows less that of one, so that loading and tokenizing are apart; both values
must agree within 1e-4 (llama.cpp's arithmetic on quantized weights: 2 %). Ratios: ours / theirs in tokens a second. Needs nothing
else to run meanwhile. torch: torch, transformers.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
import time


def timed(command, **more):
    begin = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-1500:]
    return time.monotonic() - begin, done.stdout + done.stderr


def ours(a, protocol, windows):
    environment = {**os.environ, "QWB_CACHE": a.cache}
    seconds, text = timed([a.program, a.model, "--text", a.text, "--protocol", protocol, "--context", str(a.context), "--windows",
                           str(windows), "--threads", str(a.threads), "--no-baseline", "--fresh", "--json", "-q"], env=environment)
    return seconds, json.loads(text)["perplexity"]["value"]


def our_windows(a, protocol):
    one, _ = ours(a, protocol, 1)
    more, value = ours(a, protocol, a.windows + 1)
    return more - one, value


def torch_side(a):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    torch.set_num_threads(a.threads)
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32).eval()
    ids = AutoTokenizer.from_pretrained(a.model)(open(a.text, encoding="utf-8").read())["input_ids"]

    def windows():
        total = 0.0
        with torch.inference_mode():
            for i in range(a.windows + 1):
                if i == 1:
                    begin = time.monotonic()
                x = torch.tensor(ids[i * a.context:(i + 1) * a.context])[None]
                logits = model(x).logits[0, :-1]
                total += torch.nn.functional.cross_entropy(logits, x[0, 1:], reduction="sum").item()
        return time.monotonic() - begin, torch.tensor(total / ((a.windows + 1) * (a.context - 1))).exp().item()
    return windows


def llama_windows(a):
    def run(windows):
        seconds, text = timed([a.llama + "/llama-perplexity", "-m", a.model, "-f", a.text, "-c", str(a.context), "-t", str(a.threads), "--chunks",
                               str(windows)])
        return seconds, float(re.search(r"Final estimate: PPL = ([0-9.]+)", text).group(1))
    one, _ = run(1)
    more, value = run(a.windows + 1)
    return more - one, value


def compare(name, pairs, tokens):
    """pairs: seconds of ours and theirs, of each round."""
    ratios = [theirs / mine for mine, theirs in pairs]
    mine, theirs = (statistics.median(tokens / p[i] for p in pairs) for i in (0, 1))
    print(f"{name}: ours {mine:.1f} tokens/s, theirs {theirs:.1f}; ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
          flush=True)


def perplexity(a, protocol, theirs, tolerance):
    pairs = []
    for _ in range(a.rounds):
        mine, my_value = our_windows(a, protocol)
        their, their_value = theirs()
        pairs.append((mine, their))
        assert abs(my_value / their_value - 1) < tolerance, (my_value, their_value)
    print(f"perplexity {my_value:.5f} and {their_value:.5f}")
    compare(f"{protocol} at {a.context}, {a.threads} threads", pairs, a.windows * a.context)


def grid(a):
    rounds = []
    for _ in range(a.rounds):
        mine = json.loads(timed([a.program, a.model, "--speed", "--pp", "128,512", "--tg", "64", "--repetitions", "3", "--threads",
                                 str(a.threads), "--fresh", "--output", "json", "-q"], env={**os.environ, "QWB_CACHE": a.cache})[1])
        text = subprocess.run([a.llama + "/llama-bench", "-m", a.model, "-p", "128,512", "-n", "64", "-r", "3", "-t", str(a.threads), "-o", "json"],
                              capture_output=True, text=True, check=True).stdout
        rounds.append([{(t["n_prompt"], t["n_gen"]): statistics.median(t["samples_ns"]) * 1e-9 for t in side} for side in (mine, json.loads(text))])
    for cell in rounds[0][0]:
        compare(f"pp{cell[0]}" if cell[0] else f"tg{cell[1]}", [(mine[cell], theirs[cell]) for mine, theirs in rounds], cell[0] or cell[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["torch", "perplexity", "grid"])
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("rest", nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--windows", type=int)
    parser.add_argument("--context", type=int)
    a = parser.parse_args()
    a.text, a.llama = (None, a.rest[0]) if a.what == "grid" else (a.rest[0], a.rest[-1])
    a.windows = a.windows or {"torch": 3, "perplexity": 8}.get(a.what)
    a.context = a.context or {"torch": 1024, "perplexity": 512}.get(a.what)
    with tempfile.TemporaryDirectory() as a.cache:
        if a.what == "torch":
            perplexity(a, "windows", torch_side(a), 1e-4)
        elif a.what == "perplexity":
            perplexity(a, "llama.cpp", lambda: llama_windows(a), 0.02)
        else:
            grid(a)


main()
