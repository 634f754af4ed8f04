"""Two builds of the tools side by side: time and peak memory of the same work, in turns, so that the machine's moods meet both.

Usage: python3 tests/bench/pairs.py BASE-TOOLS NEW-TOOLS MODEL [ROUNDS [NAME...]]      python3's standard library only
MODEL: a checkpoint of Hugging Face, SmolLM2-135M-Instruct say. NAME: the works to time (all of them: see `works`).
A line per work: the medians, the median of base / new (time: above 1 is faster), its range, and new / base of the peaks.
Peaks are the kernel's maximal resident set of the process that did the work.
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

base, new, model = sys.argv[1:4]
rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 5
only = sys.argv[5:]
here = os.path.dirname(os.path.abspath(__file__))
text = os.path.join(here, "../../recipes/demo/text")
folder = tempfile.mkdtemp(dir="/dev/shm")
made, quantized, gguf = (os.path.join(folder, n) for n in ("made", "quantized", "q4_0.gguf"))
calib = ["--calib", os.path.join(text, "calib.jsonl"), "--samples", "8", "--length", "512"]


def run(tools, arguments):
    """Seconds, peak in MB, what was printed."""
    shutil.rmtree(made, ignore_errors=True)
    if os.path.exists(made + ".gguf"):
        os.remove(made + ".gguf")
    environment = dict(os.environ, QWB_CACHE=os.path.join(folder, "cache"))
    begin = time.monotonic()
    child = subprocess.Popen([os.path.join(tools, arguments[0])] + arguments[1:] + ["-q"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, env=environment)
    out = child.stdout.read()
    error = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{tools}: {arguments}: {error}")
    return time.monotonic() - begin, usage.ru_maxrss / 1024, out


def of_speed(prompt, tokens, of):
    def figure(tools):
        arguments = ["qwb-eval", of, "--speed", "--pp", prompt, "--tg", tokens, "--repetitions", "2", "--output", "jsonl", "--fresh"]
        _, peak, out = run(tools, arguments)
        lines = [json.loads(line) for line in out.splitlines()]
        rate = [line["avg_ts"] for line in lines if line["n_gen" if tokens != "0" else "n_prompt"]][0]
        return 1 / rate, peak
    return figure


def of(*arguments):
    return lambda tools: run(tools, list(arguments))[:2]


def perplexity(of_model):
    return of("qwb-eval", of_model, "--ppl", "--context", "512", "--windows", "8", "--text", text + "/eval.txt", "--fresh")


def quantize(*arguments):
    return of("qwb-quantize", "--model", model, "--no-cache", "--out", made, *arguments)


works = {
    "decode bf16": of_speed("0", "64", model),
    "decode rtn-4": of_speed("0", "64", quantized),
    "prefill bf16": of_speed("512", "0", model),
    "prefill rtn-4": of_speed("512", "0", quantized),
    "f32 perplexity": perplexity(model),
    "gptq off": quantize("--method", "gptq", "--refine", "off", "--include", "*.[012].*", *calib),
    "gptq full": quantize("--method", "gptq", "--refine", "full", "--include", "*.[012].*", *calib),
    "nf4": quantize("--method", "nf4"),
    "artifact to GGUF": of("qwb-convert", quantized, made + ".gguf", "--to", "gguf"),
    "GGUF to GPTQ": of("qwb-convert", gguf, made, "--to", "gptq"),
}
try:
    run(base, ["qwb-quantize", "--model", model, "--method", "rtn", "--group-size", "32", "--no-cache", "--out", quantized])
    run(base, ["qwb-convert", quantized, gguf, "--to", "gguf"])
    for name, work in works.items():
        if only and name not in only:
            continue
        times, peaks = ([], []), ([], [])
        for turn in range(rounds + 1):
            for who in ((0, 1), (1, 0))[turn % 2]:
                seconds, peak = work((base, new)[who])
                if turn:  # the first turn warms the files
                    times[who].append(seconds)
                    peaks[who].append(peak)
        ratios = sorted(b / n for b, n in zip(*times))
        print(f"{name:18} base {statistics.median(times[0]):8.4f}  new {statistics.median(times[1]):8.4f}  "
              f"base / new {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})  "
              f"peak {statistics.median(peaks[1]):.0f} MB, new / base {statistics.median(peaks[1]) / statistics.median(peaks[0]):.3f}",
              flush=True)
finally:
    shutil.rmtree(folder)
