"""Expected codes and statistics of the methods, made with bitsandbytes (CPU) and torch: tests/golden/quantize/*.

usage: make_quantize.py        (run in the root of the repository; torch, bitsandbytes 0.50, safetensors, xxhash)

Whole tensors are kept as their XXH3-128 digests: the weights themselves are those of recipes/demo.
"""
import json

import bitsandbytes.functional as bnb
import numpy as np
import torch
import xxhash
from safetensors.torch import load_file

torch.set_num_threads(1)  # the mean of a large vector depends on it


def digest(tensor):
    return xxhash.xxh3_128_hexdigest(tensor.contiguous().cpu().numpy().tobytes())


def float_bits(value):
    return np.float32(value).view(np.uint32).item()


def four_bit(weight, kind, block, nested):
    codes, state = bnb.quantize_4bit(weight.contiguous(), blocksize=block, compress_statistics=nested, quant_type=kind)
    result = {"codes": digest(codes), "head": codes.view(-1)[:8].numpy().tobytes().hex(), "absmax": digest(state.absmax)}
    if nested:
        result |= {
            "nested_absmax": digest(state.state2.absmax),
            "nested_map": digest(state.state2.code),
            "nested_offset": float_bits(state.offset.item()),
        }
    return result


def int8(weight):
    codes, absmax, _ = bnb.int8_vectorwise_quant(weight.contiguous())
    return {"codes": digest(codes), "head": codes.view(-1)[:8].numpy().tobytes().hex(), "absmax": digest(absmax)}


def grid(weight, bits, group, symmetric):
    """The plain definition, f32 scales: codes as unsigned bytes [out, in], scales [out, groups], zeros [out, groups]."""
    codes, scales, zeros = [], [], []
    for start in range(0, weight.shape[1], group):
        block = weight[:, start:start + group]
        if symmetric:
            half = 2 ** (bits - 1)
            scale = block.abs().amax(1, keepdim=True) / (half - 1)
            scale[scale == 0] = 1
            zero = torch.full_like(scale, half)
            code = torch.clamp(torch.round(block / scale), -half, half - 1) + half
        else:
            low, high = block.amin(1, keepdim=True).clamp(max=0), block.amax(1, keepdim=True).clamp(min=0)
            scale = (high - low) / (2**bits - 1)
            scale[scale == 0] = 1
            zero = torch.round(-low / scale)
            code = torch.clamp(torch.round(block / scale) + zero, 0, 2**bits - 1)
        codes.append(code)
        scales.append(scale)
        zeros.append(zero)
    join = lambda parts: torch.cat(parts, 1)
    return {"codes": digest(join(codes).to(torch.uint8)), "scales": digest(join(scales)), "zeros": digest(join(zeros).to(torch.uint8))}


def module(name, weight, in_out):
    stored = weight.float()
    straight = (stored.T if in_out else stored).contiguous()
    result = {"name": name, "in_out": in_out}
    for kind in ("nf4", "fp4"):
        result[kind] = {"nested": four_bit(stored, kind, 64, True), "plain": four_bit(stored, kind, 128, False)}
    result["int8"] = int8((weight.T if in_out else weight).contiguous())
    group = min(128, straight.shape[1])
    for bits, symmetric in ((4, True), (4, False), (3, False), (8, True)):
        result[f"rtn {bits} {'symmetric' if symmetric else 'asymmetric'}"] = grid(straight, bits, group, symmetric)
    result["group"] = group
    return result


def synthetic(kind):
    """Ties at every midpoint, zero blocks, signed zeros, subnormals, outliers; 3 x 1047 values: the last block is short and odd."""
    code = torch.tensor(sorted(bnb.get_4bit_type(kind, device="cpu").tolist()))
    middles = (code[:-1] + code[1:]) / 2
    neighbours = [torch.nextafter(middles, torch.tensor(x)) for x in (-2.0, 2.0)]
    ties = torch.cat([middles, *neighbours, torch.tensor([1.0, -1.0])])
    blocks = [torch.cat([ties, torch.zeros(64 - len(ties))]), torch.zeros(64), torch.full((64,), -0.0), torch.full((64,), 1e-40)]
    rng = np.random.default_rng(7)
    blocks += [torch.tensor(rng.standard_normal(64).astype(np.float32) * 10.0**k) for k in range(-30, 30, 2)]
    flat = torch.cat(blocks)
    rest = torch.tensor(rng.standard_t(2, 3 * 1047 - len(flat)).astype(np.float32))
    return torch.cat([flat, rest]).reshape(3, 1047)


def scattered(count):
    """Multiples of 2^-24 in [0, 1): exact in f32."""
    index = np.arange(count, dtype=np.uint64)
    return ((index * np.uint64(2654435761) % np.uint64(2**32)) >> np.uint64(8)).astype(np.float32) * np.float32(2**-24)


expected = {"modules": {}, "sums": {}, "synthetic": {}}
for model, in_out in (("llama", False), ("gpt2", True)):
    tensors = load_file(f"recipes/demo/{model}/model.safetensors")
    names = [n for n, t in sorted(tensors.items()) if t.dim() == 2 and ("proj" in n or "attn" in n or "mlp" in n)]
    expected["modules"][model] = [module(n, tensors[n], in_out) for n in names]
values = torch.tensor(scattered(33000))
for count in [*range(1, 70), 127, 128, 129, 1000, 4096, 5184, 13824, 32767]:
    expected["sums"][str(count)] = float_bits(values[:count].clone().sum().item())
for kind in ("nf4", "fp4"):
    weight = synthetic(kind)
    weight.numpy().tofile(f"tests/golden/quantize/{kind}_input.f32")
    expected["synthetic"][kind] = {"nested": four_bit(weight, kind, 64, True), "plain": four_bit(weight, kind, 64, False)}
llama = load_file("recipes/demo/llama/model.safetensors")["model.layers.0.mlp.down_proj.weight"]
expected["int8 types"] = {
    str(t).removeprefix("torch."): int8((llama.float() * 1.7).to(t)) for t in (torch.float32, torch.float16, torch.bfloat16)
}
with open("tests/golden/quantize/expected.json", "w") as file:
    json.dump(expected, file, indent=1)
    file.write("\n")
