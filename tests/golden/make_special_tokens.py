"""What transformers' AutoTokenizer makes of a folder's special tokens: tokenizer_config.json, special_tokens_map.json, added_tokens.json and tokenizer.json in all their
combinations, for tests/tokenizer/special_tokens_test.cpp. usage: make_special_tokens.py OUTPUT (tests/golden/tokenizer/special_tokens.json); made with transformers 5.24."""
import copy
import itertools
import json
import sys
import tempfile
from pathlib import Path

import transformers
from transformers import AutoTokenizer

transformers.logging.set_verbosity(transformers.logging.CRITICAL)

TEXTS = ["the", "a<s>b</s>c", "x<new>y<p>z", " the <m>  b", "Thex the"]


def alphabet():
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in kept]
    return {**{b: chr(b) for b in kept}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def added(id, content, special=True, **flags):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": not special, "special": special, **flags}


def template(*pieces):
    names = {"<s>": 258, "</s>": 259}
    single = [{"Sequence": {"id": "A", "type_id": 0}} if p == "A" else {"SpecialToken": {"id": p, "type_id": 0}} for p in pieces]
    return {"type": "TemplateProcessing", "single": single, "pair": [{"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {p: {"id": p, "ids": [names[p]], "tokens": [p]} for p in pieces if p != "A"}}


def tokenizer():
    vocab = {c: i for i, (_, c) in enumerate(sorted(alphabet().items()))}
    vocab.update(th=256, the=257)
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [added(258, "<s>"), added(259, "</s>")], "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}, "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": vocab, "merges": [["t", "h"], ["th", "e"]]}}


BASE = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}


def cases():
    """Pairs of changes: of tokenizer.json (a function), and the other files."""
    posts = {"none": None, "bos": template("<s>", "A"), "eos": template("A", "</s>"), "both": template("<s>", "A", "</s>"), "before": template("</s>", "A"), "byte": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
             "sequence": {"type": "Sequence", "processors": [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}, template("<s>", "A")]}}
    for post in posts.values():
        change = lambda t, post=post: t.update(post_processor=post)
        for bos, eos in itertools.product((None, False, True), repeat=2):
            flags = {k: v for k, v in (("add_bos_token", bos), ("add_eos_token", eos)) if v is not None}
            yield change, {"tokenizer_config.json": {**BASE, **flags}}
        yield change, {"tokenizer_config.json": {**FAST, "add_bos_token": True}, "special_tokens_map.json": {"bos_token": "<s>", "eos_token": "</s>"}}
        yield change, {}
    same = lambda t: None
    as_dict = {"__type": "AddedToken", "content": "<s>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    yield same, {"tokenizer_config.json": {**FAST, "bos_token": as_dict, "eos_token": "</s>"}}
    yield same, {"tokenizer_config.json": {**BASE, "bos_token": None}}
    yield same, {"tokenizer_config.json": {**BASE, "bos_token": "<new>"}}
    yield same, {"tokenizer_config.json": {**BASE, "pad_token": "<p>", "unk_token": "<new>"}}
    yield same, {"tokenizer_config.json": {**BASE, "pad_token": {**as_dict, "content": "<p>", "lstrip": True, "rstrip": True}}}
    yield same, {"tokenizer_config.json": {**BASE, "bos_token": "the"}}
    yield same, {"tokenizer_config.json": {**BASE, "bos_token": "a"}}
    for key in ("additional_special_tokens", "extra_special_tokens"):
        yield same, {"tokenizer_config.json": {**BASE, key: ["<new>", "<p>"]}}
        yield same, {"tokenizer_config.json": {**BASE, key: [{**as_dict, "content": "<m>", "lstrip": True}]}}
        yield same, {"tokenizer_config.json": {**BASE, key: []}}
    for maps in ({"bos_token": "<s>", "eos_token": "</s>"}, {"bos_token": as_dict}, {"bos_token": "</s>"}, {"pad_token": "<p>"}, {"additional_special_tokens": ["<new>"]}):
        yield same, {"tokenizer_config.json": FAST, "special_tokens_map.json": maps}
        yield same, {"tokenizer_config.json": BASE, "special_tokens_map.json": maps}
        yield same, {"tokenizer_config.json": {**BASE, "added_tokens_decoder": {}}, "special_tokens_map.json": maps}
        yield same, {"special_tokens_map.json": maps}
    flags = {"content": "<new>", "lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
    for decoder in ({"260": flags}, {"300": flags}, {"260": {**flags, "special": False, "normalized": True}}, {"261": {**flags, "content": "<p>"}, "260": flags}, {"258": {**flags, "content": "<s>", "lstrip": True}},
                    {"258": {**flags, "content": "<s>", "special": False}}, {"260": {**flags, "content": "<m>", "lstrip": True, "rstrip": True}}, {"257": {**flags, "content": "the"}}, {"1000": {**flags, "content": "<p>"}, "2": flags}):
        yield same, {"tokenizer_config.json": {**BASE, "added_tokens_decoder": decoder}}
        yield same, {"tokenizer_config.json": {**FAST, "added_tokens_decoder": decoder}}
    for change in ({"rstrip": True}, {"lstrip": True}, {"single_word": True}, {"normalized": True}, {"special": False, "rstrip": True}):
        yield same, {"tokenizer_config.json": {**BASE, "added_tokens_decoder": {"258": {**flags, "content": "<s>", **change}, "259": {**flags, "content": "</s>", "rstrip": True}}}}
        yield same, {"tokenizer_config.json": {**FAST, "bos_token": {**as_dict, **change}, "eos_token": "</s>"}}
        yield (lambda t, change=change: t.update(added_tokens=[added(258, "<s>"), {**added(259, "<s>"), **change}])), {"tokenizer_config.json": BASE}
    for extra in ({"<new>": 260}, {"<new>": 400}, {"<s>": 258}, {"<p>": 261, "<new>": 260}, {"the": 257}):
        yield same, {"tokenizer_config.json": BASE, "added_tokens.json": extra}
        yield same, {"tokenizer_config.json": {**BASE, "pad_token": "<p>"}, "added_tokens.json": extra}
        yield same, {"tokenizer_config.json": {**BASE, "added_tokens_decoder": {"258": {**flags, "content": "<s>"}}}, "added_tokens.json": extra}
    for tokens in ([added(950, "The", False)], [added(950, "the", False)], [added(900, "<s>"), added(950, "</s>")], [added(259, "<s>"), added(258, "</s>")], [added(258, "<s>"), added(258, "</s>")], [added(258, "<s>"), added(270, "<s>", lstrip=True), added(300, "</s>")],
                   [], [added(258, "<s>", False), added(259, "</s>")], [added(5, "the"), added(6, "<s>"), added(7, "</s>")]):
        change = lambda t, tokens=tokens: t.update(added_tokens=tokens)
        yield change, {"tokenizer_config.json": BASE}
        yield change, {"tokenizer_config.json": FAST}
        yield change, {}


def loaded(folder):
    t = AutoTokenizer.from_pretrained(folder)
    id_of = lambda token: None if token is None else t.convert_tokens_to_ids(token)
    return {"full": [t(x)["input_ids"] for x in TEXTS], "bare": [t(x, add_special_tokens=False)["input_ids"] for x in TEXTS], "bos": id_of(t.bos_token), "eos": id_of(t.eos_token),
            "skipped": [t.decode(t(x)["input_ids"], skip_special_tokens=True, clean_up_tokenization_spaces=False) for x in TEXTS]}


def main():
    result = []
    for change, files in cases():
        model = tokenizer()
        change(model)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text('{"model_type": "llama"}')
            changes = {k: v for k, v in model.items() if tokenizer()[k] != v}
            (Path(folder) / "tokenizer.json").write_text(json.dumps(model))
            for name, content in files.items():
                (Path(folder) / name).write_text(json.dumps(content))
            try:
                expected = loaded(folder)
            except Exception as error:
                expected = None
            result.append({"tokenizer.json": changes, "files": files, "expected": expected})
    print(len(result), "cases,", sum(r["expected"] is None for r in result), "refused")
    with open(sys.argv[1], "w") as file:
        file.write(json.dumps({"texts": TEXTS, "tokenizer": tokenizer()}, separators=(",", ":"))[:-1] + ',\n"cases": [\n' + ",\n".join(json.dumps(r, separators=(",", ":")) for r in result) + "]}\n")


if __name__ == "__main__":
    main()
