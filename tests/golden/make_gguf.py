"""Golden files of GGUF: blocks made and read by llama.cpp, and tiny models written by the Python package gguf.

usage: make_gguf.py tests/golden LIBGGML_BASE.so      (packages: gguf numpy safetensors torch)
gguf/blocks.safetensors  x F32 [4, 512]; for every type TYPE.blocks U8 as ggml_quantize_chunk makes them without an importance
                         matrix, TYPE.values F32 as dequantize_row_TYPE reads them
gguf/MODEL.gguf          the tiny random checkpoints of golden/model in F32, laid out as convert_hf_to_gguf.py does
"""
import ctypes
import json
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

root, library = Path(sys.argv[1]), ctypes.CDLL(sys.argv[2])
out = root / "gguf"
TYPES = {"Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14,
         "IQ4_NL": 20, "IQ4_XS": 23, "MXFP4": 39}


def blocks():
    rng = np.random.default_rng(6)
    x = (rng.standard_normal((4, 512)) * 0.05).astype(np.float32)
    x[1] *= np.exp(rng.standard_normal(512)).astype(np.float32)  # outliers
    x[2, :32] = 0  # an empty block
    x[2, 32:64] = [0.25, -0.25] * 16  # ties of magnitude
    x[2, 64:96] = np.arange(32, dtype=np.float32) - 16  # halves and ends of the codes
    x[2, 96:128] = 1e-7 * rng.standard_normal(32)  # scales that are subnormal in f16
    x[2, 128:160] = np.float32(3.0)  # constant
    x[2, 160:192] = -np.abs(x[2, 160:192])
    x[3] = np.abs(x[3])
    library.ggml_quantize_init.argtypes = [ctypes.c_int]
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    pointer = ctypes.c_void_p
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, pointer]
    tensors = {"x": x}
    for name, number in TYPES.items():
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(number)]
        made = np.zeros((4, 512 // block * size), np.uint8)
        library.ggml_quantize_init(number)
        library.ggml_quantize_chunk(number, x.ctypes.data, made.ctypes.data, 0, 4, 512, None)
        values = np.zeros_like(x)
        read = getattr(library, "dequantize_row_" + (name.replace("Q", "q") if name[0] == "Q" else name.lower()))
        read.argtypes = [pointer, pointer, ctypes.c_int64]
        read.restype = None
        read(made.ctypes.data, values.ctypes.data, x.size)
        tensors[name + ".blocks"], tensors[name + ".values"] = made, values
    save_file(tensors, out / "blocks.safetensors", {"format": "pt"})


LLAMA = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
         "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
GPT2 = {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up",
        "mlp.c_proj": "ffn_down"}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "transformer.wte": "token_embd",
       "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm"}


def permute(weights, heads):
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def model(name):
    config = json.loads((root / "model" / name / "config.json").read_text())
    kind = config["model_type"]
    arch = "llama" if kind == "mistral" else kind
    writer = gguf.GGUFWriter(out / f"{name}.gguf", arch)
    if kind == "gpt2":
        writer.add_context_length(config["n_positions"])
        writer.add_embedding_length(config["n_embd"])
        writer.add_feed_forward_length(4 * config["n_embd"])
        writer.add_block_count(config["n_layer"])
        writer.add_head_count(config["n_head"])
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    else:
        rope = config["rope_parameters"]
        head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_head_count(config["num_attention_heads"])
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_freq_base(rope["rope_theta"])
        writer.add_key_length(head)
        writer.add_value_length(head)
        if rope["rope_type"] == "llama3":
            low, high = rope["low_freq_factor"], rope["high_freq_factor"]
            trained, factor = rope["original_max_position_embeddings"], rope["factor"]
            factors = []
            for f in 1.0 / (rope["rope_theta"] ** (np.arange(0, head, 2, dtype=np.float32) / head)):
                wave = 2 * np.pi / f
                smooth = (trained / wave - low) / (high - low)
                factors.append(1 if wave < trained / high else factor if wave > trained / low else 1 / ((1 - smooth) / factor + smooth))
            writer.add_tensor("rope_freqs.weight", np.array(factors, dtype=np.float32))
    for key, tensor in load_file(root / "model" / name / "model.safetensors").items():
        stem, ending = key.rsplit(".", 1)
        if stem in TOP:
            new = TOP[stem]
        else:
            parts = stem.split(".", 3)
            new = f"blk.{parts[2]}." + (GPT2 if kind == "gpt2" else LLAMA)[parts[3]]
        if kind == "gpt2" and ".c_" in stem and ending == "weight":
            tensor = tensor.T
        if arch == "llama" and stem.endswith(("q_proj", "k_proj")):
            tensor = permute(tensor, config["num_attention_heads" if stem.endswith("q_proj") else "num_key_value_heads"])
        writer.add_tensor(f"{new}.{ending}", np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


blocks()
for name in ("llama_llama3", "qwen3", "gpt2"):
    model(name)


def vocabulary(kind):
    """A file with a tokenizer and one small tensor: what a fuzzer can take apart."""
    writer = gguf.GGUFWriter(out / f"tokens-{kind}.gguf", "llama")
    for add, value in ((writer.add_context_length, 16), (writer.add_embedding_length, 32), (writer.add_feed_forward_length, 32),
                       (writer.add_block_count, 1), (writer.add_head_count, 2), (writer.add_layer_norm_rms_eps, 1e-5)):
        add(value)
    writer.add_tokenizer_model(kind)
    if kind == "gpt2":
        tokens = ["<|end|>", "a", "b", "ab", "Ġ", "Ġab"]
        writer.add_tokenizer_pre("llama-bpe")
        writer.add_token_merges(["a b", "Ġ ab"])
        writer.add_token_types([3, 1, 1, 1, 1, 1])
    else:
        tokens = ["<unk>", "<s>", "</s>", "<0x0A>", "▁", "a", "b", "▁a", "ab", "▁ab"]
        writer.add_token_scores([0, 0, 0, 0, -9, -8, -7, -1, -2, -3])
        writer.add_token_types([2, 3, 3, 6, 1, 1, 1, 1, 1, 1])
    writer.add_token_list(tokens)
    writer.add_bos_token_id(0 if kind == "gpt2" else 1)
    writer.add_chat_template("{{ messages[0].content }}")
    writer.add_array("test.numbers", [1, 2, 3])
    writer.add_tensor("token_embd.weight", np.zeros((len(tokens), 32), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


for kind in ("gpt2", "llama"):
    vocabulary(kind)
