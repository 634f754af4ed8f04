#!/usr/bin/env python3
"""Writes a checkpoint of N blocks in Mistral-7B's shapes with random bf16 weights: python3 make_mistral_blocks.py FOLDER [N=2] [VOCABULARY=32000]

For the time and memory of quantizing big matrices; what it says is noise. Needs NumPy. The tokenizer is the demo Llama's.
"""
import json
import pathlib
import shutil
import struct
import sys

import numpy

HIDDEN, INNER, HEADS, KV_HEADS = 4096, 14336, 32, 8
VOCABULARY = int(sys.argv[3]) if len(sys.argv) > 3 else 32000


def shapes(blocks):
    kv = HIDDEN // HEADS * KV_HEADS
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for block in range(blocks):
        name = f"model.layers.{block}."
        for projection, rows in (("q", HIDDEN), ("k", kv), ("v", kv), ("o", HIDDEN)):
            yield f"{name}self_attn.{projection}_proj.weight", (rows, HIDDEN)
        yield name + "mlp.gate_proj.weight", (INNER, HIDDEN)
        yield name + "mlp.up_proj.weight", (INNER, HIDDEN)
        yield name + "mlp.down_proj.weight", (HIDDEN, INNER)
        yield name + "input_layernorm.weight", (HIDDEN,)
        yield name + "post_attention_layernorm.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def values(shape, random):
    if len(shape) == 1:
        floats = numpy.ones(shape, numpy.float32)
    else:
        floats = random.standard_normal(shape, numpy.float32) * numpy.float32(shape[1] ** -0.5)
    return (floats.view(numpy.uint32) >> 16).astype(numpy.uint16)


def main():
    folder = pathlib.Path(sys.argv[1])
    blocks = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    demo = pathlib.Path(__file__).resolve().parents[2] / "recipes/demo/llama"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (demo / name).exists():
            shutil.copy(demo / name, folder)
    config = {
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": blocks, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "hidden_act": "silu",
        "rms_norm_eps": 1e-5, "rope_theta": 1e6, "max_position_embeddings": 32768, "sliding_window": None,
        "tie_word_embeddings": False, "vocab_size": VOCABULARY, "torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes(blocks):
        size = 2 * int(numpy.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = numpy.random.default_rng(1)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape in shapes(blocks):
            values(shape, random).tofile(file)


main()
