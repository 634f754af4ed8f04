"""LLM.int8's forward pass by bitsandbytes itself (CPU, f16), on weights and activations of the demo models.

usage: make_int8_forward.py     (run in the root of the repository; torch, transformers, tokenizers, bitsandbytes 0.50)

tests/golden/int8/forward.safetensors holds for each case NAME: NAME.x f16 [tokens, in], NAME.codes I8 [out, in] and
NAME.absmax F32 [out] (the weight), NAME.bias f16 [out] (if there is one), and for thresholds 6 and 0: NAME.y6, NAME.y0
f16 [tokens, out], NAME.codes6, NAME.codes0 I8 [tokens, in] and NAME.rows6, NAME.rows0 F32 [tokens] (the activations as
int8_vectorwise_quant makes them), NAME.outliers I32 (columns at threshold 6, -1 behind them).
"""
from pathlib import Path

import bitsandbytes.functional as F
import torch
from bitsandbytes.nn import Linear8bitLt, Int8Params
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(1)
TOKENS = 13
# model, module, factor: of the activations (a power of two), so that outliers are few, none or many
CASES = {
    "gpt2_fc": ("gpt2", "transformer.h.2.mlp.c_fc", 2),
    "gpt2_down_none": ("gpt2", "transformer.h.1.mlp.c_proj", 1),
    "gpt2_qkv_many": ("gpt2", "transformer.h.3.attn.c_attn", 4),
    "llama_q": ("llama", "model.layers.3.self_attn.q_proj", 1),
    "llama_down": ("llama", "model.layers.7.mlp.down_proj", 1),
    "llama_gate": ("llama", "model.layers.0.mlp.gate_proj", 8),
}


def activations(name, modules):
    folder = f"recipes/demo/{name}"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    text = Path("recipes/demo/text/eval.txt").read_text()[:400]
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt").input_ids[:, :TOKENS]
    seen = {}
    for module in modules:
        model.get_submodule(module).register_forward_pre_hook(lambda m, args, key=module: seen.__setitem__(key, args[0][0]))
    with torch.no_grad():
        model(ids)
    return model, seen


def forward(weight, bias, x, threshold):
    layer = Linear8bitLt(weight.shape[1], weight.shape[0], bias=bias is not None, has_fp16_weights=False, threshold=threshold)
    layer.weight = Int8Params(weight.half(), requires_grad=False, has_fp16_weights=False)
    if bias is not None:
        layer.bias = torch.nn.Parameter(bias.half())
    layer = layer.to("cpu").eval()
    if layer.weight.dtype != torch.int8:
        codes, absmax, _ = F.int8_vectorwise_quant(weight.half())
        layer.weight.data, layer.weight.CB, layer.weight.SCB = codes, codes, absmax
    with torch.no_grad():
        y = layer(x.clone())
    return y, layer.state.CB, layer.state.SCB


tensors = {}
with torch.no_grad():
    for name in ("gpt2", "llama"):
        cases = {key: case for key, case in CASES.items() if case[0] == name}
        model, seen = activations(name, [case[1] for case in cases.values()])
        for key, (_, module, factor) in cases.items():
            linear = model.get_submodule(module)
            weight = linear.weight.T if name == "gpt2" else linear.weight
            x = (seen[module] * factor).half()
            for threshold in (6.0, 0.0):
                y, codes, absmax = forward(weight.contiguous(), linear.bias, x, threshold)
                assert y.dtype == torch.float16 and torch.isfinite(y).all()
                quantized, rows, outliers = F.int8_vectorwise_quant(x.clone(), threshold=threshold)
                suffix = f"{threshold:.0f}"
                tensors |= {f"{key}.y{suffix}": y, f"{key}.codes{suffix}": quantized, f"{key}.rows{suffix}": rows}
                if threshold:
                    print(key, tuple(weight.shape), "outliers:", outliers.numel(), "largest", x.abs().max().item())
                    tensors[f"{key}.outliers"] = torch.cat([outliers.int(), torch.tensor([-1], dtype=torch.int32)])
            tensors |= {f"{key}.x": x, f"{key}.codes": codes, f"{key}.absmax": absmax}
            if linear.bias is not None:
                tensors[f"{key}.bias"] = linear.bias.half()

Path("tests/golden/int8").mkdir(exist_ok=True)
save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, "tests/golden/int8/forward.safetensors")
