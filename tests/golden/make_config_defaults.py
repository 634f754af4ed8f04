"""What transformers makes of config.json, for every family that is read and every key that could change a result: absent, null, in its old and new
spelling, and both. usage: make_config_defaults.py OUTPUT (tests/golden/config_defaults.json) [FAMILIES]; config_families.json holds those of
MORE, which add fewer cases to the shared ones; made with transformers 5.24, whose defaults and precedence
count where version 4 had others. "expected" is null where transformers refuses the configuration, or fails on a text."""
import copy
import json
import sys
import warnings

import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

warnings.simplefilter("ignore")
transformers.logging.set_verbosity(transformers.logging.CRITICAL)

LLAMA = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
FAMILIES = sys.argv[2:] or ["llama", "mistral", "qwen2", "qwen3", "gpt2", "mixtral", "gemma2"]
MORE = {  # their own keys, each with values to try
    "gemma3_text": {"sliding_window_pattern": (2, 3, 0, None), "rope_local_base_freq": (50.0, None), "use_bidirectional_attention": (None, True, False), "layer_types": (["sliding_attention", "full_attention"] * 2, ["full_attention"] * 4, ["nonsense"] * 4, None),
                    "final_logit_softcapping": (3.0, None), "attn_logit_softcapping": (3.0, None), "query_pre_attn_scalar": (64, None, 0), "hidden_activation": (None, "relu"),
                    "rope_parameters": ({"full_attention": {"rope_type": "default", "rope_theta": 50.0}}, {"sliding_attention": {"rope_type": "default", "rope_theta": 50.0}, "full_attention": None},
                                        {"full_attention": {"rope_type": "linear", "factor": 4.0}, "sliding_attention": {"rope_type": "default"}}, {"full_attention": {"type": "linear", "factor": 4.0}})},
    "olmo2": {"attention_bias": (None, True), "clip_qkv": (0.1,), "sliding_window": (8,)},
    "granite": {"attention_bias": (None, True), "mlp_bias": (None, True), "embedding_multiplier": (12.0, 2, 0.5, None), "logits_scaling": (8.0, 3, None), "residual_multiplier": (0.22, None), "attention_multiplier": (0.0078125, 1, None)},
    "smollm3": {"attention_bias": (None, True), "mlp_bias": (None, True), "no_rope_layers": ([1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1], [1, 1, 1, 0, 0], None), "no_rope_layer_interval": (2, 3, 0, 1, None), "use_sliding_window": (None, True), "sliding_window": (8, None),
                "layer_types": (["full_attention"] * 4, None)},
    "phi3": {"sliding_window": (8, None), "partial_rotary_factor": (0.5, 0.75, 1.0, 0.25, 0.3), "original_max_position_embeddings": (16, None), "attention_bias": (True,)},
    "starcoder2": {"use_bias": (None, True, False), "norm_epsilon": (1e-3, None), "sliding_window": (8, None), "rms_norm_eps": (1e-3,), "mlp_type": ("default",)},
    "stablelm": {"use_qkv_bias": (None, True), "use_parallel_residual": (None, True), "qk_layernorm": (None, True), "layer_norm_eps": (1e-3, None), "norm_eps": (1e-3,), "partial_rotary_factor": (0.5, 1.0, 0.25), "rope_pct": (0.5,)},
    "cohere": {"attention_bias": (None, True), "logit_scale": (0.5, 2, None), "use_qk_norm": (None, True, False), "layer_norm_eps": (1e-3,), "sliding_window": (8,)},
    "cohere2": {"attention_bias": (None, True), "logit_scale": (0.5, None), "layer_norm_eps": (1e-3, None), "sliding_window": (8, None), "sliding_window_pattern": (2, 0, None), "layer_types": (["sliding_attention", "full_attention"] * 2, ["full_attention"] * 4, None)},
    "glm4": {"attention_bias": (None, True, False), "partial_rotary_factor": (0.25, 1.0), "sliding_window": (8,), "padded_vocab_size": (70,)},
}
ACTIVATIONS = {"GELUActivation": "gelu", "NewGELUActivation": "tanh", "GELUTanh": "tanh", "FastGELUActivation": "tanh", "QuickGELUActivation": "quick", "ReLU": "relu", "SiLU": "silu",
               "SiLUActivation": "silu", "AccurateGELUActivation": "tanh"}
ABSENT = object()


def rotary(model_class, config):
    module = sys.modules[model_class.__module__]
    name = next(n for n in dir(module) if n.endswith("RotaryEmbedding"))
    return getattr(module, name)(config)


def effective(raw):
    # As AutoConfig decides.
    ministral = raw["model_type"] == "mistral" and "layer_types" in raw
    raw = json.loads(json.dumps(raw))
    if ministral:
        raw["model_type"] = "ministral"
        if raw.get("head_dim") is None and raw.get("num_attention_heads"):  # without it transformers cannot make one; meant is a mistral's
            raw["head_dim"] = raw["hidden_size"] // raw["num_attention_heads"]
    config = CONFIG_MAPPING[raw["model_type"]].from_dict(raw)
    model_class = AutoModelForCausalLM._model_mapping[type(config)]
    gpt2 = raw["model_type"] == "gpt2"
    tiny = config.hidden_size * config.num_hidden_layers <= 1024 and config.vocab_size <= 4096
    blocks, act = [], None
    from transformers.activations import ACT2FN
    if tiny:
        config._attn_implementation = "eager"
        model = model_class(config).eval()
        with torch.no_grad():
            model(torch.arange(12)[None] % config.vocab_size)
        blocks = list(model.transformer.h if gpt2 else model.model.layers)
    act = type(ACT2FN[config.activation_function if gpt2 else config.hidden_activation if raw["model_type"].startswith("gemma") else config.hidden_act]).__name__
    heads = config.num_attention_heads
    result = {"vocab": config.vocab_size, "hidden": config.hidden_size, "layers": config.num_hidden_layers, "heads": heads, "positions": config.max_position_embeddings,
              "activation": ACTIVATIONS.get(act, act), "tied": bool(config.tie_word_embeddings), "bos": config.bos_token_id, "eos": config.eos_token_id}
    if gpt2:
        result.update(intermediate=config.n_inner if config.n_inner is not None else 4 * config.n_embd, kv_heads=heads, head_dim=config.n_embd // heads, eps=config.layer_norm_epsilon,
                      scales=[b.attn.scaling for b in blocks], frequencies=[], attention_factor=1.0, windows=[0] * config.n_layer)
        return result
    if raw["model_type"] in MORE:
        return {**result, **more(raw["model_type"], config, rotary(model_class, config), blocks)}
    embedding = rotary(model_class, config)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    windows = [0] * config.num_hidden_layers
    if raw["model_type"] in ("mistral", "mixtral"):
        windows = [config.sliding_window or 0] * config.num_hidden_layers
    if raw["model_type"].startswith("qwen") or raw["model_type"] == "gemma2" or ministral:
        windows = [(config.sliding_window or 0) if t == "sliding_attention" else 0 for t in config.layer_types]
    result.update(intermediate=config.intermediate_size, kv_heads=config.num_key_value_heads, head_dim=head_dim, eps=config.rms_norm_eps, scales=[b.self_attn.scaling for b in blocks],
                  frequencies=[float(f) for f in embedding.inv_freq], attention_factor=float(embedding.attention_scaling), windows=windows)
    if raw["model_type"] == "mixtral":
        result.update(experts=config.num_local_experts, used=config.num_experts_per_tok)
    if raw["model_type"] == "gemma2":
        result.update(caps=[config.attn_logit_softcapping or 0, config.final_logit_softcapping or 0])
        if config.use_bidirectional_attention:
            result["bidirectional"] = True
    if blocks and raw["model_type"] != "mixtral":
        attention, mlp = blocks[0].self_attn, blocks[0].mlp
        result.update(attention_bias=attention.q_proj.bias is not None, output_bias=attention.o_proj.bias is not None, mlp_bias=mlp.gate_proj.bias is not None)
    return result


def more(family, config, embedding, blocks):
    """The rest of what effective() says, of the families in MORE."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    gemma = family == "gemma3_text"
    if gemma:  # it makes only the kinds that the model has
        both = copy.deepcopy(config)
        both.layer_types = ["sliding_attention", "full_attention"]
        embedding = type(embedding)(both)
    types = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    windows = [(config.sliding_window or 0) if t == "sliding_attention" else 0 for t in types] if gemma or family in ("smollm3", "cohere2") else [0] * config.num_hidden_layers
    if family in ("phi3", "starcoder2"):
        windows = [config.sliding_window or 0] * config.num_hidden_layers
    eps = next(getattr(config, key) for key in ("rms_norm_eps", "norm_epsilon", "layer_norm_eps") if hasattr(type(config)(), key))
    result = dict(intermediate=config.intermediate_size, kv_heads=config.num_key_value_heads, head_dim=head_dim, eps=eps, scales=[b.self_attn.scaling for b in blocks], windows=windows,
                  frequencies=[float(f) for f in (embedding.full_attention_inv_freq if gemma else embedding.inv_freq)],
                  attention_factor=float(embedding.full_attention_attention_scaling if gemma else embedding.attention_scaling), layer_ropes=["whole"] * config.num_hidden_layers)
    if gemma:
        result.update(local=[float(f) for f in embedding.sliding_attention_inv_freq], caps=[config.attn_logit_softcapping or 0, config.final_logit_softcapping or 0],
                      layer_ropes=["local" if t == "sliding_attention" else "whole" for t in types])
        assert embedding.sliding_attention_attention_scaling == 1
        if config.use_bidirectional_attention:
            result["bidirectional"] = True
    if family == "smollm3":
        result.update(layer_ropes=["whole" if r else "none" for r in config.no_rope_layers[: config.num_hidden_layers]])
    if family == "granite":
        result.update(multipliers=[config.embedding_multiplier, config.residual_multiplier, 1 / config.logits_scaling])
    if family.startswith("cohere"):
        result.update(multipliers=[1, 1, config.logit_scale])
        if getattr(config, "use_qk_norm", False):
            result["refused"] = True
    if family == "cohere2":
        result.update(layer_ropes=["whole" if t == "sliding_attention" else "none" for t in types])
    if family == "stablelm" and (config.use_parallel_residual or config.qk_layernorm):
        result["refused"] = True
    if blocks:
        attention, mlp = blocks[0].self_attn, blocks[0].mlp
        result.update(attention_bias=getattr(attention, "q_proj", attention.o_proj).bias is not None, mlp_bias=getattr(mlp, "up_proj", getattr(mlp, "c_fc", mlp.__dict__["_modules"].get("down_proj"))).bias is not None)
    return result


def changed(base, **change):
    return {k: v for k, v in {**base, **change}.items() if v is not ABSENT}


def rope_cases():
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    linear = {"type": "linear", "factor": 2.0}
    new = {"rope_type": "default", "rope_theta": 500.0}
    yield from [{"rope_theta": 1e6}, {"rope_theta": 777}, {"rope_theta": None}, {"rope_parameters": None}, {"rope_scaling": None}, {"rope_parameters": {}}, {"rope_scaling": {}}, {"rope_parameters": new},
                {"rope_parameters": new, "rope_theta": 9.0}, {"rope_parameters": {"rope_type": "default"}, "rope_theta": 9.0}, {"rope_parameters": {"rope_theta": 300.0}}, {"rope_scaling": {"rope_theta": 300.0}},
                {"rope_parameters": {"rope_type": "default", "rope_theta": None}, "rope_theta": 9.0}, {"rope_parameters": {"rope_type": "default"}, "rope_theta": None},
                {"rope_parameters": {"rope_type": None, "rope_theta": 9.0}}, {"rope_scaling": {"type": None, "factor": 2.0}}, {"rope_scaling": "linear"}, {"rope_scaling": 2}, {"rope_parameters": 2},
                {"rope_scaling": {"type": "default"}}, {"rope_scaling": {"type": "default", "factor": 4.0}, "rope_theta": 123.0}]
    for scaling in (linear, {"rope_type": "linear", "factor": 4}, {"type": "linear", "rope_type": "default", "factor": 2.0}, {"type": "yarn", "rope_type": "linear", "factor": 2.0}, {"factor": 2.0},
                    {"type": "linear"}, {"type": "linear", "factor": None}, {"type": "linear", "factor": "2"}, {"type": "linear", "factor": 0.5}, {"type": "linear", "factor": 2.0, "rope_theta": 55.0},
                    {"type": "linear", "factor": 2.0, "rope_theta": None}, yarn, {**yarn, "type": "linear"}, {"type": "yarn", "factor": 4.0}, {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": None},
                    {**yarn, "beta_fast": 16, "beta_slow": 2}, {**yarn, "beta_fast": None, "beta_slow": None}, {**yarn, "beta_fast": 0}, {**yarn, "attention_factor": 1.5}, {**yarn, "attention_factor": None},
                    {**yarn, "attention_factor": 2}, {**yarn, "mscale": 0.7}, {**yarn, "mscale": 1.0, "mscale_all_dim": 0.5}, {**yarn, "mscale_all_dim": 1.0}, {**yarn, "mscale": 0, "mscale_all_dim": 1.0},
                    {**yarn, "truncate": False}, {**yarn, "truncate": None}, {**yarn, "factor": None}, {**yarn, "factor": 1.0}, {**yarn, "factor": 0.5}, {**yarn, "rope_theta": 100.0}, {**yarn, "finetuned": True},
                    llama3, {**llama3, "type": "llama3"}, {k: v for k, v in llama3.items() if k != "original_max_position_embeddings"}, {k: v for k, v in llama3.items() if k != "low_freq_factor"},
                    {k: v for k, v in llama3.items() if k != "factor"}, {**llama3, "original_max_position_embeddings": None}, {**llama3, "factor": 1}, {**llama3, "low_freq_factor": 2, "high_freq_factor": 8},
                    {"type": "dynamic", "factor": 2.0}, {"type": "dynamic"}, {"type": "longrope", "factor": 2.0, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "original_max_position_embeddings": 32},
                    {"type": "su", "factor": 2.0}, {"type": "mrope", "mrope_section": [1, 1, 2]}, {"rope_type": "proportional", "factor": 2.0}, {"rope_type": "ntk", "factor": 2.0}):
        for key in ("rope_scaling", "rope_parameters"):
            yield {key: scaling}
            yield {key: scaling, "rope_theta": 2000.0}
        yield {"rope_scaling": scaling, "rope_parameters": new}
        yield {"rope_scaling": scaling, "rope_parameters": new, "rope_theta": 2000.0}
        yield {"rope_scaling": {}, "rope_parameters": scaling}
        yield {"rope_scaling": None, "rope_parameters": scaling}
    for other in (yarn, llama3, linear, {"type": "yarn", "factor": 4.0}):
        for length in (24, None):
            yield {"rope_scaling": other, "original_max_position_embeddings": length}
            yield {"rope_parameters": {**other, "rope_theta": 500.0}, "original_max_position_embeddings": length}
        for partial in (1.0, 0.5, None):
            yield {"rope_scaling": other, "partial_rotary_factor": partial}
            yield {"rope_scaling": {**other, "partial_rotary_factor": partial}}
    for partial in (1.0, 0.5, 0.25, None, 1):
        yield {"partial_rotary_factor": partial}
        yield {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0, "partial_rotary_factor": partial}}
    for key in ("rope_parameters", "rope_scaling"):
        yield {key: {"full_attention": new, "sliding_attention": new}}
        yield {key: {"full_attention": new}, "layer_types": ["full_attention"] * 4}
    yield from [{"rotary_pct": 0.5}, {"rotary_dim": 4}, {"rope_base": 5.0}, {"rotary_emb_base": 5.0}, {"rope_percent": 0.5}, {"rope_ratio": 2.0}, {"default_theta": 5.0}]


def llama_cases():
    for key in LLAMA:
        yield {key: ABSENT}
        yield {key: None}
    yield {k: ABSENT for k in LLAMA}
    yield from rope_cases()
    for key, values in {
        "head_dim": (None, ABSENT, 16, 8, 6, 0), "num_key_value_heads": (1, 4, 3, 8, 0), "rms_norm_eps": (None, 1e-5, 0.0, 1), "layer_norm_eps": (1e-3,), "layer_norm_epsilon": (1e-3,), "hidden_activation": (None, "relu", "gelu", "gelu_pytorch_tanh"),
        "hidden_act": (None, "silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python", "gelu_python_tanh", "gelu_accurate", "gelu_10", "quick_gelu", "relu", "relu2", "relu6",
                       "tanh", "sigmoid", "linear", "mish", "SiLU", "nonsense"),
        "tie_word_embeddings": (None, True, False), "attention_bias": (None, True, False), "mlp_bias": (None, True, False), "bias": (True,), "qkv_bias": (True,), "use_bias": (True,), "attention_out_bias": (True,),
        "torch_dtype": (None, "bfloat16", "float16"), "dtype": (None, "float32"), "pretraining_tp": (None, 1, 2), "max_position_embeddings": (128, 0), "n_positions": (128,), "max_sequence_length": (128,),
        "bos_token_id": (None, 5), "eos_token_id": (None, 5, [5], [5, 6], []), "attention_dropout": (None, 0.5), "hidden_dropout": (0.5,), "initializer_range": (0.5,), "use_cache": (False,), "logit_scale": (0.5,),
        "logits_scaling": (2.0,), "attention_multiplier": (0.5,), "embedding_multiplier": (2.0,), "residual_multiplier": (0.5,), "final_logit_softcapping": (3.0, None, 0.0), "attn_logit_softcapping": (3.0, None, 0.0), "use_bidirectional_attention": (None, True, False),
        "query_pre_attn_scalar": (64, None, 0, 144.0), "scale_attn_weights": (False,), "num_local_experts": (4, None, 1), "num_experts_per_tok": (1, 3, 9, None), "num_experts": (4,), "router_jitter_noise": (0.1,), "norm_topk_prob": (False,), "intermediate_size": ([48, 48, 48, 48],), "hidden_size": (30,), "num_attention_heads": (2,), "n_embd": (16,), "n_head": (2,),
        "n_layer": (1,), "num_layers": (2,), "ffn_dim": (10,), "qk_norm": (True,), "use_qk_norm": (True,), "parallel_attn": (True,), "layer_types": (None,), "clip_qkv": (0.1,), "no_rope_layers": ([0, 1, 0, 1],),
        "sliding_window": (None, 8, 0, 4096), "use_sliding_window": (None, True, False), "max_window_layers": (None, 2), "attention_window": (8,), "window_size": (8,), "use_mrope": (True,), "is_causal": (False,),
    }.items():
        for value in values:
            yield {key: value}
    yield {"head_dim": 16, "num_key_value_heads": None}
    yield {"hidden_size": 30, "head_dim": 8}
    yield {"num_attention_heads": 3, "head_dim": 8, "num_key_value_heads": 1}
    types = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    for use in (True, False, None, ABSENT):
        for window in (8, None, ABSENT):
            for layers in (2, 0, 4, None, ABSENT):
                yield {"use_sliding_window": use, "sliding_window": window, "max_window_layers": layers}
            for named in (types, ["full_attention"] * 4, ["attention"] * 4, ["sliding_attention"] * 4, types[:3], ["chunked_attention"] * 4, ["nonsense"] * 4, [], None):
                yield {"use_sliding_window": use, "sliding_window": window, "layer_types": named}
    yield {"use_sliding_window": True, "sliding_window": 8, "layer_types": types, "max_window_layers": 0}


def more_cases(family):
    for key in LLAMA:
        yield {key: ABSENT}
        yield {key: None}
    yield {k: ABSENT for k in LLAMA}
    for key, values in {"head_dim": (None, ABSENT, 16), "num_key_value_heads": (4, 3), "hidden_size": (30,), "rms_norm_eps": (1e-3, None), "hidden_act": ("gelu", "relu", "nonsense", None), "tie_word_embeddings": (None, True, False),
                        "bos_token_id": (None, 5), "eos_token_id": (None, 5, [5, 6]), **MORE[family]}.items():
        for value in values:
            yield {key: value}
    long = {"short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [2.0, 3.0, 4.0, 5.0]}
    for rope in ({"type": "linear", "factor": 2.0}, {"rope_type": "linear", "factor": 2.0, "rope_theta": 55.0}, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}, {"rope_type": "default", "rope_theta": 500.0},
                 {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}, {"type": "longrope", **long}, {"type": "su", **long}, {"type": "yarn", **long},
                 {"rope_type": "longrope", **long, "factor": 3.0}, {"rope_type": "longrope", **long, "attention_factor": 1.5}, {"rope_type": "longrope", **long, "original_max_position_embeddings": 32},
                 {"rope_type": "longrope", "short_factor": [1.0] * 3, "long_factor": [1.0] * 4}, {"rope_type": "longrope", "long_factor": [1.0] * 4}, {"type": "dynamic", "factor": 2.0}):
        yield {"rope_scaling": rope}
        yield {"rope_scaling": rope, "rope_theta": 300.0, "original_max_position_embeddings": 32}
        yield {"rope_parameters": rope}
        yield {"rope_scaling": {**rope, "partial_rotary_factor": 1.0}}
    yield from [{"rope_theta": 777.0}, {"rope_theta": None}, {"rope_parameters": {}}, {"rope_parameters": None}, {"rope_parameters": 2}, {"partial_rotary_factor": 0.5, "rope_theta": 9.0}]
    if family == "smollm3":
        types = ["sliding_attention", "full_attention"] * 2
        yield from [{"use_sliding_window": True, "sliding_window": 8}, {"use_sliding_window": True, "sliding_window": 8, "layer_types": types}, {"sliding_window": 8, "layer_types": types}, {"use_sliding_window": True, "layer_types": types},
                    {"use_sliding_window": True, "sliding_window": 8, "no_rope_layers": [0, 1, 0, 1]}]
    if family == "gemma3_text":
        yield from [{"rope_theta": 5e5, "rope_local_base_freq": 300.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}, {"sliding_window": None}, {"sliding_window": 8, "sliding_window_pattern": 2}]


def gpt2_cases():
    for key in GPT2:
        yield {key: ABSENT}
        yield {key: None}
    yield {k: ABSENT for k in GPT2}
    for key, values in {
        "n_inner": (None, 48, 0), "intermediate_size": (48,), "hidden_size": (16, None), "num_attention_heads": (2,), "num_hidden_layers": (1,), "max_position_embeddings": (32,), "n_ctx": (32,), "num_key_value_heads": (2,),
        "head_dim": (16,), "layer_norm_epsilon": (None, 1e-3, 0.0), "layer_norm_eps": (1e-3,), "rms_norm_eps": (1e-3,), "scale_attn_weights": (None, True, False), "scale_attn_by_inverse_layer_idx": (None, True, False),
        "reorder_and_upcast_attn": (None, True, False), "add_cross_attention": (False,), "tie_word_embeddings": (None, True, False), "bos_token_id": (None, 5), "eos_token_id": (None, 5, [5, 6]),
        "activation_function": (None, "gelu_new", "gelu", "gelu_fast", "gelu_pytorch_tanh", "gelu_python", "gelu_accurate", "relu", "silu", "swish", "tanh", "quick_gelu", "nonsense"), "hidden_act": ("relu",),
        "attention_bias": (False,), "rope_theta": (10.0,), "rope_scaling": ({"type": "linear", "factor": 2.0},), "sliding_window": (8,), "torch_dtype": ("float16",), "resid_pdrop": (0.5,), "attn_pdrop": (0.5,),
        "n_head": (2, 3), "n_layer": (3,), "n_positions": (128,), "scale_attention_softmax_in_fp32": (True,), "normalize_attention_scores": (False,), "multi_query": (True,),
    }.items():
        for value in values:
            yield {key: value}
    yield {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True}
    yield {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True}
    yield {"n_embd": ABSENT, "n_layer": ABSENT, "n_head": ABSENT, "n_positions": ABSENT, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}


def difference(value, base):
    """What of `value` is unlike `base`: {"+": changed and new, "-": gone}; whole values for null."""
    if value is None:
        return None
    short = {"+": {k: v for k, v in value.items() if k not in base or base[k] != v}, "-": [k for k in base if k not in value]}
    return {k: v for k, v in short.items() if v}


cases, seen, firsts = [], set(), {}
for family in FAMILIES:
    base = GPT2 if family == "gpt2" else {**LLAMA, "head_dim": 8} if family.startswith("gemma") or family == "glm4" else LLAMA
    if family in ("phi3", "glm4", "smollm3", "cohere", "cohere2"):
        base = {**base, "pad_token_id": 0}
    for change in [{}, *(more_cases(family) if family in MORE else gpt2_cases() if family == "gpt2" else llama_cases())]:
        raw = {"model_type": family, **changed(base, **change)}
        text = json.dumps(raw)
        if text in seen:
            continue
        seen.add(text)
        try:
            expected = effective(raw)
        except Exception:
            expected = None
        if expected and len(expected["frequencies"]) > 128:
            continue  # an absurd head_dim
        first = firsts.setdefault(family, [raw, expected])
        cases.append([family, difference(raw, first[0]), difference(expected, first[1])])
with open(sys.argv[1], "w") as file:
    file.write('{"transformers": "%s",\n"firsts": %s,\n"cases": [\n' % (transformers.__version__, json.dumps(firsts)))
    file.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]}\n")
print(len(cases), "cases,", sum(c[2] is None for c in cases), "refused")
