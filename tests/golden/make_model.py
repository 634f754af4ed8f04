"""Tiny random checkpoints of every architecture with the logits that transformers computes in f32.

usage: make_model.py tests/golden/model [NAME...]      (packages: torch, transformers, safetensors)
Each folder holds config.json, model.safetensors and expected.safetensors: tokens [n] and logits_1, logits_17, logits_full (of 300 tokens: the last 64; of the families at the end: the last 32).
"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

BASE = dict(vocab_size=96, hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=128, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
CASES = {
    "llama": dict(model_type="llama", **BASE),
    "llama_tied_head_dim": dict(model_type="llama", **BASE, head_dim=16, tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
    "llama_linear": dict(model_type="llama", **BASE, rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)),
    "llama_llama3": dict(model_type="llama", **BASE, rope_parameters=dict(
        rope_type="llama3", rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)),
    "llama_yarn": dict(model_type="llama", **BASE, rope_parameters=dict(
        rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32)),
    "mistral": dict(model_type="mistral", **BASE, sliding_window=9),
    "qwen2": dict(model_type="qwen2", **BASE),
    "qwen3": dict(model_type="qwen3", **BASE, head_dim=12),
    "mixtral": dict(model_type="mixtral", **BASE, num_local_experts=6, num_experts_per_tok=2),
    "gemma2": dict(model_type="gemma2", **BASE, head_dim=12, query_pre_attn_scalar=20, sliding_window=9, attn_logit_softcapping=3.0,
                   final_logit_softcapping=5.0),
    "gemma3": dict(model_type="gemma3_text", **BASE, head_dim=12, query_pre_attn_scalar=20, sliding_window=9, layer_types=["sliding_attention", "full_attention"],
                   rope_parameters=dict(full_attention=dict(rope_type="linear", rope_theta=5e4, factor=4.0), sliding_attention=dict(rope_type="default", rope_theta=300.0))),
    "olmo2": dict(model_type="olmo2", **BASE),
    "granite": dict(model_type="granite", **BASE, embedding_multiplier=3.0, attention_multiplier=0.2, residual_multiplier=0.7, logits_scaling=3.0),
    "smollm3": dict(model_type="smollm3", **BASE, no_rope_layers=[1, 0], use_sliding_window=True, sliding_window=40, tie_word_embeddings=True, pad_token_id=0),
    "phi3": dict(model_type="phi3", **BASE, partial_rotary_factor=0.5, sliding_window=50, pad_token_id=0),
    "phi3_longrope": dict(model_type="phi3", **(BASE | dict(max_position_embeddings=2048)), original_max_position_embeddings=512, pad_token_id=0, rope_scaling=dict(
        type="longrope", short_factor=[1.0, 1.3, 1.7, 2.5], long_factor=[1.0, 2.0, 4.0, 8.0])),
    "starcoder2": dict(model_type="starcoder2", **BASE, sliding_window=50),
    "stablelm": dict(model_type="stablelm", **BASE, use_qkv_bias=True, partial_rotary_factor=0.5),
    "glm4": dict(model_type="glm4", **BASE, head_dim=12, partial_rotary_factor=0.5, pad_token_id=0),
    "cohere": dict(model_type="cohere", **BASE, logit_scale=0.3, layer_norm_eps=1e-5, pad_token_id=0),
    "cohere2": dict(model_type="cohere2", **BASE, logit_scale=0.3, layer_norm_eps=1e-5, pad_token_id=0, sliding_window=50, layer_types=["sliding_attention", "full_attention"]),
    "gpt2": dict(model_type="gpt2", vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=128, bos_token_id=1, eos_token_id=2),
    "gpt2_scaled": dict(model_type="gpt2", vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=128, n_inner=40,
                        scale_attn_by_inverse_layer_idx=True, activation_function="gelu"),
}

# Of the families below only the last 32 logits are kept.
NEOX = dict(vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, bos_token_id=1, eos_token_id=2)
EXPERTS = dict(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, num_experts=5,
               max_position_embeddings=512, bos_token_id=1, eos_token_id=2)
SMALL = {
    "gpt_neox": dict(model_type="gpt_neox", **NEOX, intermediate_size=40, max_position_embeddings=512),
    "gpt_neox_serial": dict(model_type="gpt_neox", **NEOX, intermediate_size=40, max_position_embeddings=512, use_parallel_residual=False, attention_bias=False,
                            rope_parameters=dict(rope_type="default", rope_theta=500.0, partial_rotary_factor=1.0)),
    "gptj": dict(model_type="gptj", vocab_size=40, n_embd=24, n_layer=2, n_head=3, n_positions=512, n_inner=40, rotary_dim=4, bos_token_id=1, eos_token_id=2),
    "opt": dict(model_type="opt", **(NEOX | dict(hidden_size=16, num_attention_heads=2)), ffn_dim=40, max_position_embeddings=128, word_embed_proj_dim=16, pad_token_id=1),
    "bloom": dict(model_type="bloom", vocab_size=40, hidden_size=12, n_layer=2, n_head=3, bos_token_id=1, eos_token_id=2),
    "falcon_7b": dict(model_type="falcon", **NEOX, ffn_hidden_size=40, max_position_embeddings=512),
    "falcon_40b": dict(model_type="falcon", **(NEOX | dict(num_attention_heads=6)), ffn_hidden_size=40, max_position_embeddings=512, num_kv_heads=2, new_decoder_architecture=True),
    "falcon_11b": dict(model_type="falcon", **(NEOX | dict(num_attention_heads=6)), ffn_hidden_size=40, max_position_embeddings=512, num_kv_heads=3, new_decoder_architecture=True,
                       num_ln_in_parallel_attn=1, bias=True),
    "qwen2_moe": dict(model_type="qwen2_moe", **EXPERTS, moe_intermediate_size=12, shared_expert_intermediate_size=20, num_experts_per_tok=4, mlp_only_layers=[0]),
    "qwen3_moe": dict(model_type="qwen3_moe", **EXPERTS, head_dim=8, moe_intermediate_size=12, num_experts_per_tok=3, norm_topk_prob=True),
    "olmoe": dict(model_type="olmoe", **(EXPERTS | dict(intermediate_size=12)), num_experts_per_tok=2, pad_token_id=0),
    "mpt": dict(model_type="mpt", vocab_size=40, d_model=12, n_layers=2, n_heads=3, max_seq_len=512, bos_token_id=1, eos_token_id=2),
}
CASES |= SMALL

LONGER = {"gemma3_text", "olmo2", "granite", "smollm3", "phi3", "starcoder2", "stablelm", "glm4", "cohere", "cohere2"}  # with logits at 300 tokens
root = Path(sys.argv[1])
for name, fields in CASES.items():
    if sys.argv[2:] and name not in sys.argv[2:]:
        continue
    torch.manual_seed(sum(map(ord, name)))
    config = AutoConfig.for_model(**fields)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # large enough that every term of the forward pass shows in the logits
            parameter.copy_(torch.randn_like(parameter) * (0.5 if parameter.dim() == 1 else 1.6 / parameter.shape[-1] ** 0.5))
    folder = root / name
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if name == "gpt2_scaled":  # the other spelling: without the prefix "transformer."
        tensors = load_file(folder / "model.safetensors")
        save_file({k.removeprefix("transformer."): v for k, v in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    length = 128 if name == "opt" else 300 if name in SMALL or fields["model_type"] in LONGER else 128
    kept = 32 if name in SMALL else 128 if length == 128 else 64
    if name == "llama_yarn":  # the spelling of older files
        text = json.loads((folder / "config.json").read_text())
        rope = text.pop("rope_parameters")
        text["rope_theta"] = rope.pop("rope_theta")
        text["rope_scaling"] = {"type": rope.pop("rope_type"), **rope}
        (folder / "config.json").write_text(json.dumps(text, indent=2))
    tokens = torch.randint(0, config.vocab_size, (length,))
    expected = {"tokens": tokens.to(torch.int32)}
    with torch.no_grad():
        for label, count in (("1", 1), ("17", 17), ("full", length)):
            expected["logits_" + label] = model(tokens[None, :count]).logits[0][-kept:].contiguous()
    save_file(expected, folder / "expected.safetensors", {"format": "pt"})
    print(name, float(expected["logits_full"].abs().max()))
