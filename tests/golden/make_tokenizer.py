"""Golden files of tests/tokenizer: small tokenizers of every kind, nasty texts, the ids and decoded texts of Hugging Face tokenizers, and chats
as transformers' apply_chat_template renders them. usage: make_tokenizer.py REPOSITORY [MORE_TEMPLATES_FOLDER...]
With more folders (real models, not to be committed) their chat templates are rendered too, into chat_local.json."""
import json
import random
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

root = Path(sys.argv[1])
out = root / "tests/golden/tokenizer"
demo = root / "recipes/demo"
prose = (demo / "text/eval.txt").read_text()[:60000]
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

rng = random.Random(7)
TEXTS = [
    "", " ", "\0", "a\0b", "Hello world", " Hello  world ", "   leading\n\n\ntrailing   \n", "\t\ttabs\tand\r\nlines\r\r\n",
    "def f(x):\n    return {'a': x[1:], \"b\": x**2}  # c\n", "#include <vector>\nint main() { return 0x1F; }\n",
    "I'm you're WE'LL they'd it's IT'S 'tis o'clock 'S 'LL \u2019s '\u017f 'll'", "12345678 1,234.50 \u0664\u0665\u0666 \u00bd\u2167\u00b2 1a2b3c",
    "\U0001F468\u200D\U0001F469\u200D\U0001F467\u200D\U0001F466 \U0001F3F3\uFE0F\u200D\U0001F308 \U0001F44D\U0001F3FD \U0001F1E9\U0001F1EA\u2764\uFE0F",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002 \u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u05e9\u05dc\u05d5\u05dd",
    "e\u0301 \u00e9 a\u0323\u0302 \u1ead \u212b \u00c5 \ufb01 \u2460 \u1e9e \u0130 I\u0307", "\u1112\u1161\u11ab\u1100\u1173\u11af \ud55c\uae00 \uac00\u11a8",
    "\ufffd \ue000\uf8ff \U0010FFFD \ufeffbom \u200b\u200e\u2028\u2029\u0085\u00a0\u3000\u180e\u1680x", "\u0c3c\u0301 a\u1dfa\u0301\u0323 \U00011938",
    "x" * 200, "ab" * 150, " " * 100, "\n" * 50, "=" * 80, "supercalifragilistic" * 10, "\u2581a\u2581\u2581b \u2581", "\u0120the \u010a",
    "<s>[INST] hi [/INST]</s>", "a<s>b <s> c</s>", "<|im_start|>user\nhi<|im_end|>\n", "x <mask> y<mask>z  <mask>  ", "wordbig big bigger Big big, (big)_big_",
    "caf\u00c9 CAF\u00c9 cafe\u0301 NORM norm Norm", "  <left>  <right>  <both>  x", "<right> <right>\n<left>", "<unk> <0x0A> <0xff>", "abc<|endoftext|>def",
]
for _ in range(12):
    TEXTS.append("".join(rng.choice(["", " ", "a"]) + chr(rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x250, 0xD800), rng.randrange(0xE000, 0x11000), rng.randrange(0x11000, 0x20000)])) for _ in range(30)))

FLAGS = [AddedToken("<mask>", lstrip=True, special=True), AddedToken("big", single_word=True), AddedToken("Caf\u00c9", normalized=True), AddedToken("<left>", lstrip=True),
         AddedToken("<right>", rstrip=True, normalized=False), AddedToken("<both>", lstrip=True, rstrip=True, special=True), AddedToken("norm", normalized=True),
         AddedToken("bigger", normalized=False), AddedToken("<|im_start|>", special=True, normalized=False), AddedToken("<|im_end|>", special=True, normalized=False)]


def train_bpe(tokenizer, size, **options):
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, **options)
    tokenizer.train_from_iterator(prose.split("\n"), trainer)
    return tokenizer


def byte_level(pattern, normalizer=None, ignore_merges=False):
    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    t.normalizer = normalizer
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    return train_bpe(t, 600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|endoftext|>"])


def sentencepiece_bpe(metaspace=None):
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    marked = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    t.normalizer = marked
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    train_bpe(t, 700, special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)])
    t.add_special_tokens(["<unk>", "<s>", "</s>"])
    data = json.loads(t.to_str())
    data["added_tokens"] = [a for a in data["added_tokens"] if not a["content"].startswith("<0x")]
    t = Tokenizer.from_str(json.dumps(data))
    if metaspace:
        t.normalizer = None
        t.pre_tokenizer = metaspace
    else:
        t.normalizer = marked
        t.pre_tokenizer = None
    t.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A $B", special_tokens=[("<s>", 1), ("</s>", 2)])
    if metaspace is None:
        return without_pre_tokenizer(t)
    return t


def without_pre_tokenizer(t):
    data = json.loads(t.to_str())
    data["pre_tokenizer"] = None
    return Tokenizer.from_str(json.dumps(data))


def unigram(byte_fallback):
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip(False, True)])
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>"] + ([f"<0x{b:02X}>" for b in range(256)] if byte_fallback else [])
    t.train_from_iterator(prose.split("\n"), trainers.UnigramTrainer(vocab_size=600, special_tokens=special, unk_token="<unk>", show_progress=False))
    data = json.loads(t.to_str())
    data["added_tokens"] = [a for a in data["added_tokens"] if not a["content"].startswith("<0x")]
    data["model"]["byte_fallback"] = byte_fallback
    t = Tokenizer.from_str(json.dumps(data))
    t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]) if byte_fallback else decoders.Metaspace()
    t.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 1))
    return t


def plain_bpe(pre_tokenizer, normalizer=None, decoder=None, **options):
    t = Tokenizer(models.BPE(unk_token="[UNK]", **options))
    t.normalizer = normalizer
    t.pre_tokenizer = pre_tokenizer
    trainer = {k: v for k, v in options.items() if k.endswith("fix")}
    train_bpe(t, 300, special_tokens=["[UNK]"], **trainer)
    t.decoder = decoder
    return t


P = pre_tokenizers
flags = byte_level(QWEN2, normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]))
for token in FLAGS:
    flags.add_special_tokens([token]) if token.special else flags.add_tokens([token])
behaviors = [(b, i) for b in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous") for i in (False, True)]
MADE = {
    "llama2_like": sentencepiece_bpe(),
    "metaspace_first": sentencepiece_bpe(P.Metaspace(prepend_scheme="first", split=False)),
    "metaspace_split": sentencepiece_bpe(P.Metaspace(prepend_scheme="always", split=True)),
    "metaspace_never": sentencepiece_bpe(P.Metaspace(prepend_scheme="never", split=True)),
    "qwen_like": byte_level(QWEN2, normalizers.NFC()),
    "llama3_like": byte_level(LLAMA3, None, True),
    "unknown_pattern": byte_level(r"\w+'?|[^\s\w]{1,2}|\p{Lu}|\s*\n|\s+", normalizers.NFKD()),
    "added_tokens": flags,
    "unigram": unigram(False),
    "unigram_bytes": unigram(True),
    "words": plain_bpe(P.Sequence([P.Whitespace(), P.Digits(True)]), normalizers.NFKC(), decoders.Strip("e", 0, 1), fuse_unk=False),
    "suffix": plain_bpe(P.Sequence([P.WhitespaceSplit(), P.Punctuation("merged_with_previous"), P.Digits(False)]), normalizers.Strip(), decoders.Fuse(), fuse_unk=True, end_of_word_suffix="</w>"),
    "prefix": plain_bpe(P.WhitespaceSplit(), normalizers.Lowercase(), decoders.Sequence([decoders.Replace(Regex("e+"), "E"), decoders.Fuse(), decoders.Strip("#", 2, 0)]), continuing_subword_prefix="##"),
}
for behavior, invert in behaviors:
    MADE[f"split_{behavior}{'_inverted' if invert else ''}"] = plain_bpe(P.Split(Regex(r"[aeiou]|\s"), behavior, invert))

cases = []
for name, tokenizer in MADE.items():
    data = json.loads(tokenizer.to_str())
    if name == "qwen_like":
        data["model"]["merges"] = [" ".join(m) for m in data["model"]["merges"]]  # the older form
    cases.append((name, data, None))
for name in ("llama", "gpt2"):
    cases.append((name, None, f"recipes/demo/{name}"))
result = []
for name, data, folder in cases:
    tokenizer = Tokenizer.from_str(json.dumps(data)) if data else Tokenizer.from_file(str(root / folder / "tokenizer.json"))
    ids = [tokenizer.encode(t, add_special_tokens=False).ids for t in TEXTS]
    full = [tokenizer.encode(t).ids for t in TEXTS]
    noise = [[rng.randrange(tokenizer.get_vocab_size() + 3) for _ in range(40)] for _ in range(4)]
    decoded = [tokenizer.decode(i, skip_special_tokens=False) for i in full + noise]
    skipped = [tokenizer.decode(i, skip_special_tokens=True) for i in full + noise]
    result.append({"name": name, "tokenizer": json.dumps(data, ensure_ascii=False) if data else None, "folder": folder, "ids": ids, "full": full, "noise": noise, "decoded": decoded, "skipped": skipped})
(out / "ids.json").write_text(json.dumps({"texts": TEXTS, "cases": result}, ensure_ascii=True, separators=(",", ":")))
exec((Path(__file__).parent / "make_chats.py").read_text())
