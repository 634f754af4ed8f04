"""What transformers' AutoTokenizer makes of a tokenizer.json by the class that tokenizer_config.json or config.json names, and by add_prefix_space, legacy and split_special_tokens, for
tests/tokenizer/special_tokens_test.cpp. usage: make_tokenizer_classes.py OUTPUT (tests/golden/tokenizer/classes.json); made with transformers 5.24. Expected null: qwb refuses."""
import copy
import json
import sys
import tempfile
from pathlib import Path

import transformers
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from make_special_tokens import added, template, tokenizer as byte_tokenizer

transformers.logging.set_verbosity(transformers.logging.CRITICAL)

TEXTS = ["the 12345 THE", " the <s>the</s> the", "e\u0301 \u00e9 it's  a\n b", "<|endoftext|>the<unk>", "x<new>the"]
MARK = "\u2581"


def byte():
    t = byte_tokenizer()
    vocab = t["model"]["vocab"]
    for token in ("12", "<|endoftext|>", "\u0120the", "\u0120t", "<s>", "</s>"):
        vocab[token] = len(vocab)
    # The order of the merges decides; those of the space come last.
    t["model"]["merges"] += [["1", "2"], ["\u0120", "the"], ["\u0120", "t"]]
    t["added_tokens"] = [added(vocab["<s>"], "<s>"), added(vocab["</s>"], "</s>")]
    return t


def spaced():
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for i in range(256):
        vocab[f"<0x{i:02X}>"] = len(vocab)
    for c in [MARK, *map(chr, range(33, 127)), "th", "the", MARK + "the", MARK + "t"]:
        vocab.setdefault(c, len(vocab))
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")],
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": MARK}, {"type": "Replace", "pattern": {"String": " "}, "content": MARK}]}, "pre_tokenizer": None,
            "post_processor": None, "decoder": None,
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                      "vocab": vocab, "merges": [["t", "h"], ["th", "e"], [MARK, "the"], [MARK, "t"]]}}


LOWER = {"type": "Lowercase"}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
DIGITS = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTES]}
SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}


def config(name=None, **more):
    return {**({"tokenizer_class": name} if name else {}), **NAMES, **more}


def cases():
    """The tokenizer, changes of tokenizer.json, tokenizer_config.json, the model's type; and, where qwb keeps tokenizer.json or refuses, which of them."""
    for name in ("GPT2Tokenizer", "GPT2TokenizerFast", "Qwen2Tokenizer", "Qwen2TokenizerFast", "Qwen3_5Tokenizer", "PreTrainedTokenizerFast", "TokenizersBackend", "LlamaTokenizer", "NoSuchTokenizer"):
        for change in ({}, {"normalizer": LOWER}, {"normalizer": {"type": "NFD"}}, {"pre_tokenizer": {**BYTES, "add_prefix_space": True}}):
            yield "bytes", change, config(name), "llama"
    for name in ("GPT2Tokenizer", "GPTNeoXTokenizer", "Qwen2Tokenizer", "PreTrainedTokenizerFast"):
        for prefix in (True, False):
            yield "bytes", {}, config(name, add_prefix_space=prefix), "llama"
        yield "bytes", {"post_processor": template("<s>", "A")}, config(name), "llama"
        yield "bytes", {"pre_tokenizer": {**BYTES, "use_regex": False}}, config(name, unk_token="<new>"), "llama"
        flags = {"content": "<new>", "lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
        yield "bytes", {}, config(name, added_tokens_decoder={"300": flags}), "llama"
        yield "bytes", {}, {"tokenizer_class": name}, "llama"
        for split in (True, False):
            yield "bytes", {}, config(name, split_special_tokens=split), "llama"
    yield "bytes", {"added_tokens": [added(266, "<s>", False), added(267, "</s>")]}, config("TokenizersBackend", bos_token=None, split_special_tokens=True), "llama"
    for model in ("gpt2", "qwen2", "qwen3", "mistral", "mixtral", "llama", "gemma2"):
        for name in (None, "PreTrainedTokenizerFast", "GPT2Tokenizer", "LlamaTokenizerFast", "Qwen2Tokenizer"):
            yield "bytes", {"normalizer": LOWER}, config(name), model
    for model in ("gpt_neox", "gptj", "opt", "mpt", "olmoe", "qwen2_moe", "qwen3_moe", "bloom", "falcon"):
        yield "bytes", {"normalizer": LOWER}, config(None), model
    yield "bytes", {"pre_tokenizer": DIGITS}, config("GPT2Tokenizer"), "llama", "kept, told"
    yield "bytes", {"pre_tokenizer": DIGITS, "normalizer": LOWER}, config("GPT2Tokenizer"), "llama"
    yield "bytes", {"pre_tokenizer": DIGITS}, config("PreTrainedTokenizerFast"), "llama"
    yield "bytes", {"pre_tokenizer": DIGITS}, config("Qwen2Tokenizer"), "llama"
    for name in ("LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer"):
        for legacy in (True, False, None):
            yield "spaced", {}, config(name, legacy=legacy), "llama", "kept"
    for legacy in (True, False, None):
        for change in ({"normalizer": LOWER}, {"normalizer": SPACES}, {"normalizer": None, "pre_tokenizer": {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "first", "split": False}},
                       {"pre_tokenizer": {"type": "Digits", "individual_digits": True}}):
            yield "spaced", change, config("LlamaTokenizer", legacy=legacy), "llama"
        yield "spaced", {}, config("LlamaTokenizer", legacy=legacy, add_prefix_space=False), "llama"
    for name in ("GemmaTokenizer", "GemmaTokenizerFast"):
        for change in ({}, {"normalizer": SPACES}, {"normalizer": LOWER}):
            yield "spaced", change, config(name), "gemma2"
    yield "spaced", {"normalizer": SPACES}, config(None), "gemma2"
    for name in ("CohereTokenizerFast", "CodeGenTokenizer", "T5Tokenizer", "WhisperTokenizer", "BertTokenizer"):
        yield "bytes", {"normalizer": LOWER}, config(name), "llama", "refused"
    yield "spaced", {"normalizer": LOWER}, config("CodeLlamaTokenizer"), "llama", "refused"
    own = [["code.Own", None], ["code.Own", "code.OwnFast"]]
    for model in ("llama", "qwen2", "gpt2"):
        for name in ("OwnTokenizer", "LlamaTokenizer", "GPT2Tokenizer", None):
            for auto_map in ({"AutoTokenizer": own[0]}, {"AutoTokenizer": own[1]}, own[0]):
                yield "bytes", {"normalizer": LOWER}, config(name, auto_map=auto_map), model, "told"
    # Chains of post-processors, and patterns that match nothing.
    two = [template("<s>", "A"), template("A", "</s>")]
    yield "bytes", {"post_processor": {"type": "Sequence", "processors": two}}, config("TokenizersBackend"), "llama", "refused"
    yield "bytes", {"post_processor": {"type": "Sequence", "processors": [two[0], {"type": "BertProcessing", "sep": ["</s>", 259], "cls": ["<s>", 258]}]}}, config("TokenizersBackend"), "llama", "refused"
    yield "bytes", {"post_processor": {"type": "Sequence", "processors": [{"type": "Sequence", "processors": [two[1]]}, {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}, two[1]]}}, config("TokenizersBackend"), "llama", "refused"
    yield "bytes", {"post_processor": {"type": "Sequence", "processors": [template("A"), two[0]]}}, config("TokenizersBackend"), "llama"
    yield "bytes", {"post_processor": {"type": "Sequence", "processors": [{"type": "BertProcessing", "sep": ["</s>", 259], "cls": ["<s>", 258]}, two[1]]}}, config("TokenizersBackend"), "llama"
    for pattern in ({"Regex": "^"}, {"Regex": "x*"}, {"String": ""}, {"Regex": "$"}, {"Regex": "(?=e)"}, {"Regex": "a|"}, {"Regex": "(?<=t)"}):
        yield "bytes", {"normalizer": {"type": "Replace", "pattern": pattern, "content": ">"}}, config("TokenizersBackend"), "llama", "refused"  # tokenizers writes the first ">" twice, or panics
        for behavior in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
            for invert in (False, True):
                split = {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}
                yield "bytes", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, {**BYTES, "use_regex": False}]}}, config("TokenizersBackend"), "llama"


def expected(file, files, rule):
    if rule == "refused":
        return None
    with tempfile.TemporaryDirectory() as folder:
        for name, content in {"tokenizer.json": file, **files}.items():
            (Path(folder) / name).write_text(json.dumps(content))
        if rule.startswith("kept"):
            made = Tokenizer.from_file(folder + "/tokenizer.json")
            return [made.encode(text).ids for text in TEXTS]
        try:
            made = AutoTokenizer.from_pretrained(folder)
            return [made(text)["input_ids"] for text in TEXTS]
        except BaseException as error:  # tokenizers panics
            print("left out:", files, repr(error)[:100])
            return "failed"


def main():
    bases = {"bytes": byte(), "spaced": spaced()}
    made = []
    for which, change, settings, model, *rule in cases():
        rule = rule[0] if rule else ""
        files = {"tokenizer_config.json": settings, "config.json": {"model_type": model}}
        file = copy.deepcopy(bases[which])
        file.update(change)
        wanted = expected(file, files, rule)
        if wanted != "failed":
            made.append({"tokenizer": which, "tokenizer.json": change, "files": files, "note": rule.endswith("told"), "expected": wanted})
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        out.write(json.dumps({"texts": TEXTS, "tokenizers": bases, "cases": []}, ensure_ascii=True)[:-2] + "\n" + ",\n".join(json.dumps(c) for c in made) + "]}\n")
    print(len(made), "cases")


if __name__ == "__main__":
    main()
