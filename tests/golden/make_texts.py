"""Makes a file of many kinds of text, on which tokenizers are compared. usage: make_texts.py OUT SEED MEGABYTES FILE...
The files (prose, source code) are cut into records; then come the made ones. Records are a little-endian u32 length and UTF-8."""
import random
import struct
import sys
from pathlib import Path

out, seed, megabytes, files = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
rng = random.Random(seed)
ASSIGNED = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TOKENS = ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>", "<think>", "</think>",
          "<|start_header_id|>", "<tool_call>", "<0x0A>", "<|im_start", "<s", "\u2581", "\u0120the"]
EMOJI = ["\U0001F468\u200D\U0001F469\u200D\U0001F467", "\U0001F3F3\uFE0F\u200D\U0001F308", "\U0001F44D\U0001F3FD", "\U0001F1E9\U0001F1EA", "\u2764\uFE0F", "\U0001F600"]
SPACES = [" ", "  ", "    ", "\t", "\n", "\r\n", "\n\n", " \n", "\u00a0", "\u3000", "\u2028", "\u180e", "\u200b", "\u0085", "\x0b", "\x0c", "\x1c", "\ufeff"]
CONTRACTIONS = ["'s", "'S", "'t", "'re", "'RE", "'Ll", "'ll", "'d", "'m", "'VE", "'\u017f", "'x", "\u2019s", "''s"]
RANGES = [(0x4E00, 0x9FFF), (0x600, 0x6FF), (0x590, 0x5FF), (0xAC00, 0xD7A3), (0x1100, 0x11FF), (0x300, 0x36F), (0x900, 0x97F), (0x400, 0x4FF),
          (0xE000, 0xE100), (0x3040, 0x30FF), (0x0E00, 0x0E7F), (0x2150, 0x218F), (0x1D400, 0x1D7FF), (0xC0, 0x24F), (0x1E00, 0x1FFF), (0xF900, 0xFAFF)]
WORDS = "the quick brown fox jumps over lazy dog I we they 1 23 456 7890 12345678 def return x=1; // {} []() --> #include <a.h> ... !? don't".split()


def word():
    kind = rng.randrange(12)
    if kind < 4:
        return rng.choice(WORDS)
    if kind == 4:
        low, high = rng.choice(RANGES)
        return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 12)))
    if kind == 5:
        return "".join(chr(rng.choice(ASSIGNED)) for _ in range(rng.randint(1, 8)))
    if kind == 6:
        return rng.choice(TOKENS)
    if kind == 7:
        return rng.choice(EMOJI)
    if kind == 8:
        return rng.choice(SPACES) * rng.randint(1, 6)
    if kind == 9:
        return rng.choice(WORDS) + rng.choice(CONTRACTIONS) + rng.choice(["", "a", "\u00e9", "1"])
    if kind == 10:
        return "".join(chr(rng.randrange(0x20, 0x7F)) for _ in range(rng.randint(1, 20)))
    return "e" + "".join(chr(rng.randint(0x300, 0x36F)) for _ in range(rng.randint(1, 4)))


records = []
for name in files:
    text = Path(name).read_text(encoding="utf-8", errors="replace")
    at = 0
    while at < len(text):
        size = rng.choice([50, 500, 5000, 50000])
        records.append(text[at : at + size])
        at += size
for start in range(0, len(ASSIGNED), 64):  # every code point, with others around it
    records.append("".join(rng.choice(["", " ", "a", "1", "\n"]) + chr(c) for c in ASSIGNED[start : start + 64]))
for n in (1, 2, 100, 3000, 20000):
    records += [" " * n, "a" * n, "\n" * n, "\u2581" * n, "ab" * n, "1" * n, "\u4e2d" * n, " a" * n]
records += ["", "\0", "\0a\0", "\ufffd"]
size = sum(len(r.encode()) for r in records)
while size < megabytes * 1e6:
    record = "".join(word() + rng.choice(["", " ", " ", " "]) for _ in range(rng.choice([1, 3, 10, 200])))
    records.append(record)
    size += len(record.encode())
rng.shuffle(records)
Path(out).write_bytes(b"".join(struct.pack("<I", len(r.encode())) + r.encode() for r in records))
print(len(records), "records,", size, "bytes", file=sys.stderr)
