"""Compares the ids of this project's tokenizer with those of Hugging Face tokenizers, and their speed.

usage: compare_tokenizer.py [--special] PROGRAM TEXTS FOLDER...
PROGRAM is the built tests/tokenize_lines. TEXTS is a file of records, a little-endian u32 length and that many bytes of UTF-8
(make_texts.py makes one). Each FOLDER has a tokenizer.json. With --special, ids come from transformers' AutoTokenizer.
"""
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer


def read_texts(path):
    data = Path(path).read_bytes()
    texts, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        texts.append(data[at + 4 : at + 4 + size].decode("utf-8", errors="replace"))
        at += 4 + size
    return texts, len(data) - 4 * len(texts)


def split_ids(path, count):
    flat, at, result = np.fromfile(path, dtype="<i4"), 0, []
    for _ in range(count):
        size = int(flat[at])
        result.append(flat[at + 1 : at + 1 + size])
        at += 1 + size
    assert at == len(flat)
    return result


def smallest(text, differs):
    """A minimal part of text that still differs."""
    size = len(text)
    while size > 0:
        for at in range(0, len(text), max(size, 1)):
            shorter = text[:at] + text[at + size :]
            if shorter and differs(shorter):
                text = shorter
                break
        else:
            size //= 2
        size = min(size, len(text))
    return text


def main():
    args = [a for a in sys.argv[1:] if not a.startswith("--")]
    special = "--special" in sys.argv
    program, texts_file, folders = args[0], args[1], args[2:]
    texts, size = read_texts(texts_file)
    failed = False
    for folder in folders:
        if special:
            from transformers import AutoTokenizer

            fast = AutoTokenizer.from_pretrained(folder)
            reference = lambda text: fast(text)["input_ids"]
        else:
            fast = Tokenizer.from_file(f"{folder}/tokenizer.json")
            reference = lambda text: fast.encode(text, add_special_tokens=False).ids

        def ours(batch, out):
            raw = out + ".texts"
            encoded = [t.encode() for t in batch]
            Path(raw).write_bytes(b"".join(struct.pack("<I", len(t)) + t for t in encoded))
            text = subprocess.run([program, folder, raw, out] + ([] if special else ["bare"]), check=True, capture_output=True, text=True).stdout
            return float(text.split()[0]), split_ids(out, len(batch))

        with tempfile.TemporaryDirectory() as temporary:
            out = temporary + "/ids"
            seconds, mine = ours(texts, out)
            begin = time.perf_counter()
            theirs = [reference(text) for text in texts]
            reference_seconds = time.perf_counter() - begin
            bad = [i for i in range(len(texts)) if list(mine[i]) != theirs[i]]
            total = sum(map(len, theirs))
            print(f"{folder}: {size / 1e6:.1f} MB, {total} ids, {len(bad)} of {len(texts)} texts differ; "
                  f"{size / 1e6 / seconds:.1f} MB/s against {size / 1e6 / reference_seconds:.2f} ({reference_seconds / seconds:.1f}x)", flush=True)
            failed = failed or bool(bad)
            for i in bad[:3]:
                small = smallest(texts[i], lambda t: list(ours([t], out)[1][0]) != reference(t))
                print("   ", ascii(small), list(ours([small], out)[1][0])[:20], reference(small)[:20], flush=True)
    sys.exit(failed)


main()
