"""Small SentencePiece models, and the ids of texts by sentencepiece and transformers without a tokenizer.json.

usage: make_sentencepiece.py recipes/demo/text/eval.txt tests/golden/tokenizer/sentencepiece
                                              (packages: sentencepiece, transformers, protobuf)
NAME/tokenizer.model, NAME/tokenizer_config.json; merges/{vocab,config}.json and merges.txt of a GPT-2. ids.json: the texts,
and of every folder the ids with special tokens. Where both differ, sentencepiece's hold, with which models are trained: transformers 5
drops a space before a text if "legacy" is false, and cuts at graphemes before it rewrites characters ("\\r\\n"). Texts with special
tokens are transformers', since sentencepiece finds none.
"""
import json
import random
import sys
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer

text = Path(sys.argv[1]).read_text(encoding="utf8")[:200000]
root = Path(sys.argv[2])
OTHER = ["日本語のテキスト。🙂", "Über größe naïve cafe\u0301", "Привет мир 1234 5678", "ﬁne ＡＢＣ ① ㈱", "a\tb\nc\r\n d", "“quotes” — dash…"]
MODELS = {
    "bpe": (dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
                 split_digits=True, allow_whitespace_only_pieces=True), dict(add_bos_token=True)),
    "bpe_user": (dict(model_type="bpe", user_defined_symbols=["<user>", "<|x|>", "ab", "a-b"], control_symbols=["<ctl>"],
                      normalization_rule_name="identity"), dict(add_bos_token=True, add_eos_token=True)),
    "unigram": (dict(model_type="unigram", rules=True), {}),
    "unigram_user": (dict(model_type="unigram", byte_fallback=True, user_defined_symbols=["<user>", "ﬁ"], rules=True,
                          add_dummy_prefix=False), dict(legacy=False)),
    "bpe_first": (dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity"), dict(legacy=False)),
}
RULES = {"ﬁ": "fi", "Ａ": "A", "Ｂ": "B", "①": "1", "㈱": "(株)", "e\u0301": "é", "…": "...", "\t": " ", "\r": "", "\u3000": " "}

choice = random.Random(3)
texts = ["", " ", "  ", "Hello world", "  two  spaces ", "<user> hi <|x|>ok", "x<s> hi </s><s>", "▁x", " lead", "ab a-b abc", "<ctl>a <unk> b", "\n\n", "a <0x41> b<0x0A>"]
texts += OTHER + [" ".join(choice.sample(OTHER, 3)) for _ in range(6)]
for _ in range(60):
    at = choice.randrange(len(text) - 200)
    texts.append(text[at : at + choice.randint(1, 120)])
result = {"texts": texts, "ids": {}}
with tempfile.TemporaryDirectory() as scratch:
    train = Path(scratch) / "train.txt"
    train.write_text(text + "\n" + "\n".join(OTHER * 20))
    tsv = Path(scratch) / "rules.tsv"
    tsv.write_text("".join(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n" for a, b in RULES.items()))
    for name, (settings, config) in MODELS.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        if settings.pop("rules", False):
            settings["normalization_rule_tsv"] = str(tsv)
        sentencepiece.SentencePieceTrainer.train(input=str(train), model_prefix=str(folder / "tokenizer"), vocab_size=420, minloglevel=2, **settings)
        (folder / "tokenizer.vocab").unlink()
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    merges = root / "merges"
    merges.mkdir(exist_ok=True)
    made = ByteLevelBPETokenizer()
    made.train([str(train)], vocab_size=400, special_tokens=["<|endoftext|>"])
    made.save_model(str(merges))
    (merges / "config.json").write_text(json.dumps({"model_type": "opt"}))
    (merges / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": True, "bos_token": "<|endoftext|>", "tokenizer_class": "GPT2Tokenizer"}))
for folder in sorted(path for path in root.iterdir() if path.is_dir()):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(text)["input_ids"] for text in texts]
    model = folder / "tokenizer.model"
    if model.exists():
        processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
        config = MODELS[folder.name][1]
        for i, text in enumerate(texts):
            if any(token in text for token in ("<s>", "</s>", "<unk>", "<ctl>")):
                continue  # found as special tokens
            own = [1] * config.get("add_bos_token", False) + processor.encode(text) + [2] * config.get("add_eos_token", False)
            if ids[i] != own:
                print(folder.name, "transformers differs on", repr(text))
            ids[i] = own
    result["ids"][folder.name] = ids
(root / "ids.json").write_text(json.dumps(result, ensure_ascii=False, separators=(",", ":")))
