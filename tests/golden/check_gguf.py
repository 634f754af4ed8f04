"""Runs llama.cpp on GGUF files that qwb wrote, and qwb on files that llama.cpp quantized.

usage: check_gguf.py BUILD LLAMA_BIN MODEL TEXT [--context N] [--windows N] [--types F32,Q8_0,...] [--embedding TYPE] [--threads N]   (packages: gguf tokenizers)
BUILD: qwb's build folder with the targets qwb-convert, qwb-eval and qwb-complete; LLAMA_BIN: llama-quantize, llama-perplexity,
llama-tokenize, llama-completion. For every type: the tensors against llama-quantize --pure of our F32 file, the perplexity of both
files in both programs, warnings of the loader. For F32: the ids of the text against `tokenizers`, the greedy continuation, and the chat
template.
The last line says whether all that must hold did.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
from tokenizers import Tokenizer

SAME_BYTES = {"F32", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "F16", "BF16"}
CACHE = ["-ctk", "f32", "-ctv", "f32"]  # llama.cpp keeps keys and values in F16 unless it is told not to
parser = argparse.ArgumentParser()
parser.add_argument("build", type=Path), parser.add_argument("llama", type=Path)
parser.add_argument("model", type=Path), parser.add_argument("text", type=Path)
parser.add_argument("--context", type=int, default=512), parser.add_argument("--windows", type=int, default=20)
parser.add_argument("--types", default="F32,F16,BF16,Q8_0,Q4_0,Q4_1,Q5_0,Q5_1,Q2_K,Q3_K,Q4_K,Q5_K,Q6_K")
parser.add_argument("--embedding", default=""), parser.add_argument("--threads", type=int, default=1)
args = parser.parse_args()
environment = dict(os.environ, LD_LIBRARY_PATH=str(args.llama))
failures = []


def run(*command):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=environment)
    if result.returncode != 0:
        raise SystemExit(f"{command}: {result.stdout[-500:]}{result.stderr[-2000:]}")
    return result.stdout, result.stderr


def expect(what, good):
    if not good:
        failures.append(what)
    return "ok" if good else "WRONG"


def different(ours, theirs):
    a = {t.name: t for t in gguf.GGUFReader(ours).tensors}
    b = {t.name: t for t in gguf.GGUFReader(theirs).tensors}
    return [n for n in sorted(set(a) | set(b))
            if n not in a or n not in b or a[n].tensor_type != b[n].tensor_type or a[n].data.tobytes() != b[n].data.tobytes()]


def their_perplexity(path):
    for _ in range(20):  # the end of its output is lost now and then, so one window more than is asked for
        out, log = run(args.llama / "llama-perplexity", "-m", path, "-f", args.text, "-c", args.context, "--chunks", args.windows + 1,
                       "-t", args.threads, "--no-warmup", *CACHE)
        value = re.search(rf"\[{args.windows}\]([\d.]+),", out + log)
        if value:
            break
    complaints = [l for l in log.splitlines() if re.search(r"warn|control-looking|missing|unknown|override", l, re.I)
                  and not re.search(r"no usable GPU|compiled without|n_ctx_seq|GPU support", l)]
    return float(value.group(1)), complaints


def our_perplexity(path):
    out, _ = run(args.build / "bin/qwb-eval", path, "--ppl", "--protocol", "llama.cpp", "--context", args.context, "--windows", args.windows,
                 "--text", args.text, "--no-baseline", "--json", "-q")
    record = json.loads(out.splitlines()[-1])
    return record["perplexity"]["value"] if isinstance(record["perplexity"], dict) else record["perplexity"]


def check_text(path):
    text = args.text.read_text()[:200000]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(text), file.flush()
        out, _ = run(args.llama / "llama-tokenize", "-m", path, "-f", file.name, "--ids", "--log-disable", "--no-bos", "--no-parse-special")
    theirs = json.loads(out.strip().splitlines()[-1])
    expected = Tokenizer.from_file(str(args.model / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    first = next((i for i, (x, y) in enumerate(zip(theirs, expected)) if x != y), min(len(theirs), len(expected)))
    print(f"tokens of {len(text)} characters: llama.cpp {len(theirs)}, tokenizers {len(expected)}, same up to {first}:",
          expect("tokens", theirs == expected))
    prompt = "The old man"
    ours, _ = run(args.build / "bin/qwb-complete", "--model", path, prompt, "--temperature", 0, "--max-tokens", 40, "-q")
    for _ in range(20):  # as above: more tokens than are compared
        out, _ = run(args.llama / "llama-completion", "-m", path, "-p", prompt, "-n", 60, "--temp", 0, "-no-cnv", "-t", args.threads, "--no-warmup",
                     "--no-display-prompt", "-c", args.context, *CACHE)
        theirs = out.strip().removesuffix("[end of text]").strip()
        if ours.strip() and theirs.startswith(ours.strip()):
            break
    print("greedy:", repr(ours.strip()), expect(f"greedy text, theirs {theirs!r}", bool(ours.strip()) and theirs.startswith(ours.strip())))
    jinja, config = args.model / "chat_template.jinja", args.model / "tokenizer_config.json"
    wanted = jinja.read_text() if jinja.exists() else json.loads(config.read_text()).get("chat_template")
    field = gguf.GGUFReader(path).get_field("tokenizer.chat_template")
    print("chat template:", expect("chat template", (field.contents() if field else None) == wanted), "" if wanted else "(none)")


folder = Path(tempfile.mkdtemp(prefix="check-gguf-"))
plain = folder / "plain.gguf"
run(args.build / "bin/qwb-convert", args.model, plain, "--to", "gguf", "--type", "F32")
check_text(plain)
print("type     tensors that differ   ours in llama.cpp  theirs in llama.cpp   ours in qwb  theirs in qwb")
for kind in args.types.split(","):
    ours, theirs = folder / f"ours-{kind}.gguf", folder / f"theirs-{kind}.gguf"
    flags = []
    if args.embedding and kind.startswith("Q"):
        flags = ["--token-embedding-type", args.embedding, "--output-tensor-type", args.embedding]
    run(args.build / "bin/qwb-convert", args.model, ours, "--to", "gguf", "--type", kind, *flags)
    run(args.llama / "llama-quantize", "--pure", *flags, plain, theirs, kind, args.threads)
    bad = different(ours, theirs)
    a, complaints = their_perplexity(ours)
    b = their_perplexity(theirs)[0] if bad else a  # the same tensors are not run twice
    c = our_perplexity(ours)
    d = our_perplexity(theirs) if bad else c
    verdict = [expect(f"{kind}: bytes", not bad)] if kind in SAME_BYTES else [expect(f"{kind}: not worse", c <= d * 1.002)]
    verdict.append(expect(f"{kind}: loader says {complaints[:2]}", not complaints))
    # Below F32 llama.cpp rounds the activations too (the demo gpt2, with its outlier channels, shows it).
    verdict.append(expect(f"{kind}: the programs agree", abs(a / (c if kind == "F32" else b) - 1) < 2e-4 or kind.endswith("_K")))
    print(f"{kind:8} {len(bad):8}             {a:14.4f} {b:18.4f} {c:18.4f} {d:14.4f}  {' '.join(verdict)}", flush=True)
    ours.unlink(), theirs.unlink()
plain.unlink(), folder.rmdir()
print("failed: " + "; ".join(failures) if failures else "all good")
sys.exit(1 if failures else 0)
