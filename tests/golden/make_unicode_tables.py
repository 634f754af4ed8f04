"""Writes lib/tokenizer/unicode_tables.inc and unicode_lowercase.inc: the character classes that Hugging Face tokenizers really uses, found by
asking it about every code point. usage: make_unicode_tables.py CLASSES_INC LOWERCASE_INC  (needs the Python package tokenizers)"""
import sys

from tokenizers import Regex, normalizers, pre_tokenizers

POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
CHUNK = 4096
chunks = [POINTS[i : i + CHUNK] for i in range(0, len(POINTS), CHUNK)]


def by_regex(pattern):
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    found = set()
    for chunk in chunks:
        for _, (begin, end) in split.pre_tokenize_str("".join(map(chr, chunk))):
            found.update(chunk[begin:end])
    return found


def removed_by(pre_tokenizer):
    found = set()
    for chunk in chunks:
        found.update(chunk)
        for _, (begin, end) in pre_tokenizer.pre_tokenize_str("".join(map(chr, chunk))):
            found.difference_update(chunk[begin:end])
    return found


def glued():
    """Code points that pre_tokenizers.Whitespace keeps in one word with a letter before them."""
    found = set()
    for chunk in chunks:
        text = "".join("a" + chr(c) + "\n" for c in chunk)
        for _, (begin, end) in pre_tokenizers.Whitespace().pre_tokenize_str(text):
            if end - begin == 2 and begin % 3 == 0:
                found.add(chunk[begin // 3])
    return found


def numeric():
    found = set()
    digits = pre_tokenizers.Digits(individual_digits=True)
    for chunk in chunks:
        text = "".join("aa" + chr(c) for c in chunk)
        for _, (begin, end) in digits.pre_tokenize_str(text):
            if end - begin == 1 and begin % 3 == 2:
                found.add(chunk[begin // 3])
    return found


def marks():
    strip = normalizers.StripAccents()
    found = set()
    for chunk in chunks:
        kept = set(strip.normalize_str("".join(map(chr, chunk))))
        found.update(c for c in chunk if chr(c) not in kept)
    return found


CLASSES = [
    ("kLetter", by_regex(r"\p{L}+")),
    ("kNumber", by_regex(r"\p{N}+")),
    ("kSpace", by_regex(r"\s+")),
    ("kWord", by_regex(r"\w+")),
    ("kRustWord", glued()),
    ("kRustSpace", removed_by(pre_tokenizers.WhitespaceSplit())),
    ("kRustNumeric", numeric()),
    ("kPunctuation", removed_by(pre_tokenizers.Punctuation("removed"))),
    ("kMark", marks()),
]
for name, members in CLASSES:
    print(name, len(members), hex(max(members)), file=sys.stderr)

runs = []
for c in range(0x110000):
    bits = sum(1 << i for i, (_, members) in enumerate(CLASSES) if c in members)
    if not runs or runs[-1][1] != bits:
        runs.append((c, bits))
print(len(runs), "runs", file=sys.stderr)
with open(sys.argv[1], "w") as out:
    out.write("// Made by tests/golden/make_unicode_tables.py; do not edit. {first code point of a run, class bits of unicode.h}.\n")
    line = ""
    for c, bits in runs:
        item = f"{{0x{c:x}, 0x{bits:x}}}, "
        if len(line) + len(item) > 110:
            out.write(line.rstrip() + "\n")
            line = ""
        line += item
    out.write(line.rstrip() + "\n")

# Lower case is asked too: one code point to one, except U+0130 which the C++ side knows.
lower = normalizers.Lowercase()
pairs = [(c, lower.normalize_str(chr(c))) for c in POINTS]
pairs = [(c, ord(low)) for c, low in pairs if len(low) == 1 and ord(low) != c]
with open(sys.argv[2], "w") as out:
    out.write("// Made by tests/golden/make_unicode_tables.py; do not edit. {code point, its lower case}.\n")
    line = ""
    for c, low in pairs:
        item = f"{{0x{c:x}, 0x{low:x}}}, "
        if len(line) + len(item) > 110:
            out.write(line.rstrip() + "\n")
            line = ""
        line += item
    out.write(line.rstrip() + "\n")
