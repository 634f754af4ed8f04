#!/usr/bin/env python3
"""Golden files of formats/: one small folder for each case under tests/golden/convert, packed by the libraries
that own the formats, with expected.safetensors: that library's own dequantization, in its own type.

Needs gptqmodel, bitsandbytes, compressed-tensors, nvidia-modelopt, transformers, torch, safetensors. The product needs none of them.
usage: make_convert.py [CASE...]
"""
import json
import os
import sys

import torch
from safetensors.torch import save_file

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "convert")
MODULE = "layers.0.proj"


def random_weight(out, inp, seed, dtype=torch.float16):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, inp, generator=generator) * 0.05
    weight[:, 3] *= 8  # an outlier channel: asymmetric ranges
    weight[1] = weight[1].abs()  # zero points at an end
    return weight.to(dtype)


def store(case, settings, tensors, expected, dtype=torch.float16):
    folder = os.path.join(HERE, case)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump({"model_type": "golden", "torch_dtype": str(dtype)[6:], "quantization_config": settings}, file, indent=1)
    tensors = {f"{MODULE}.{name}": value.contiguous().clone() for name, value in tensors.items()}
    tensors["norm.weight"] = torch.arange(8, dtype=torch.float16)
    save_file(tensors, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    save_file({"weight": expected.contiguous()}, os.path.join(folder, "expected.safetensors"))
    print(case, {name: list(value.shape) for name, value in tensors.items()})


def grids(weight, bits, group, sym):
    """Scales (f16 values) and zero points [out, groups] by plain rounding."""
    out, inp = weight.shape
    w = torch.nn.functional.pad(weight.float(), (0, -inp % group)).reshape(out, -1, group)
    top = 2**bits - 1
    if sym:
        scale = w.abs().amax(-1) * 2 / top
        zero = torch.full_like(scale, 2 ** (bits - 1))
    else:
        low, high = w.amin(-1).clamp(max=0), w.amax(-1).clamp(min=0)
        scale = (high - low) / top
        scale = scale.half().float()
        zero = (-low / scale).round().clamp(0, top)
    return scale.half().float().clamp(min=1e-4).half().float(), zero


def gptq(bits, sym, v2, group=32, act_order=False, out=64, inp=96, seed=1):
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.utils.backend import BACKEND
    from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module

    weight = random_weight(out, inp, seed + bits)
    size = inp if group == -1 else group
    scale, zero = grids(weight, bits, size, sym)
    index = torch.arange(inp, dtype=torch.int32) // size
    if act_order:
        index = index[torch.randperm(inp, generator=torch.Generator().manual_seed(7))].contiguous()
    layer = torch.nn.Linear(inp, out, bias=True).half()
    layer.weight.data = weight.float()
    module = TorchLinear(bits=bits, group_size=group, sym=sym, desc_act=act_order, in_features=inp, out_features=out,
                         bias=True, pack_dtype=torch.int32, backend=BACKEND.GPTQ_TORCH if hasattr(BACKEND, "GPTQ_TORCH") else BACKEND.TORCH,
                         adapter=None, register_buffers=True)
    module.pack_original(layer, scale, zero, index)
    module.qzero_format(format=2)
    module.optimize = lambda *_, **__: None  # torch.compile is not wanted here
    module.post_init()
    expected = module.dequantize_weight().T
    assert expected.dtype == torch.float16, expected.dtype
    if not v2:

        class Config:
            pass

        config = Config()
        config.bits, config.pack_dtype = bits, torch.int32
        convert_gptq_v2_to_v1_format_module(module, config)
    tensors = {name: getattr(module, name) for name in ("qweight", "qzeros", "scales", "g_idx", "bias")}
    settings = {"bits": bits, "group_size": group, "desc_act": act_order, "sym": sym, "quant_method": "gptq",
                "checkpoint_format": "gptq_v2" if v2 else "gptq", "pack_dtype": "int32"}
    kind = ("sym" if sym else "asym") + ("-act" if act_order else "") + ("-row" if group == -1 else "")
    store(f"gptq-{bits}-{kind}-{'v2' if v2 else 'v1'}", settings, tensors, expected)


def awq(group, out=40, inp=96):
    from gptqmodel.nn_modules.qlinear.gemm_awq import _pack_awq_columns
    from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

    weight = random_weight(out, inp, 11)
    size = inp if group == -1 else group
    scale, zero = grids(weight, 4, size, False)
    scale, zero = scale.T.contiguous(), zero.T.contiguous()
    index = torch.arange(inp) // size
    codes = ((weight.float().T + (zero * scale)[index]) / scale[index]).round().clamp(0, 15).to(torch.int32)
    qweight = _pack_awq_columns(codes, 4)
    qzeros = _pack_awq_columns(zero.to(torch.int32), 4)
    expected = dequantize_gemm(qweight, qzeros, scale.half(), 4, size).T
    settings = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}
    store(f"awq-{'row' if group == -1 else group}", settings,
          {"qweight": qweight, "qzeros": qzeros, "scales": scale.half()}, expected)


def bnb4(kind, nested, block, dtype, out=48, inp=100):
    import bitsandbytes.functional as F

    weight = random_weight(out, inp, 21, dtype)
    packed, state = F.quantize_4bit(weight, blocksize=block, compress_statistics=nested, quant_type=kind)
    expected = F.dequantize_4bit(packed, state)
    tensors = {"weight": packed}
    tensors.update({f"weight.{name}": value for name, value in state.as_dict(packed=True).items()})
    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": kind,
                "bnb_4bit_use_double_quant": nested}
    store(f"bnb-{kind}{'-nested' if nested else ''}-{block}", settings, tensors, expected, dtype)


def bnb8(out=24, inp=70):
    import bitsandbytes.functional as F

    weight = random_weight(out, inp, 31)
    codes, stats, _ = F.int8_vectorwise_quant(weight)
    expected = F.int8_vectorwise_dequant(codes, stats)
    settings = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    store("bnb-int8", settings,
          {"weight": codes, "SCB": stats.float(), "weight_format": torch.tensor(0, dtype=torch.uint8)}, expected)


def compressed(bits, sym, strategy, packed=True, out=24, inp=96, dtype=torch.bfloat16):
    from compressed_tensors.compressors.naive_quantized.base import IntQuantizationCompressor
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    weight = random_weight(out, inp, 41 + bits, dtype)
    group = 32 if strategy == "group" else inp
    scale, zero = grids(weight, bits, group, sym)
    if strategy == "tensor":
        scale, zero = scale.max().reshape(1), zero[:1, 0]
    args = {"num_bits": bits, "type": "int", "symmetric": sym, "strategy": strategy}
    if strategy == "group":
        args["group_size"] = 32
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**args))
    tensors = {"weight": weight, "weight_scale": scale.to(dtype)}
    if not sym:
        tensors["weight_zero_point"] = (zero - 2 ** (bits - 1)).to(torch.int8)
    compressor = PackedQuantizationCompressor if packed else IntQuantizationCompressor
    tensors = compressor.compress(tensors, scheme)
    expected = compressor.decompress(tensors, scheme)["weight"]
    settings = {"quant_method": "compressed-tensors", "format": "pack-quantized" if packed else "int-quantized",
                "quantization_status": "compressed", "ignore": [],
                "config_groups": {"group_0": {"targets": ["Linear"], "weights": args}}}
    name = f"ct-{'packed' if packed else 'int'}-{bits}-{'sym' if sym else 'asym'}-{strategy}"
    store(name, settings, tensors, expected)


def float_scale(weight, strategy, top):
    """The scale that maps the largest magnitude of each part to `top`, and what compressed-tensors calls the parts."""
    w = weight.float().abs()
    if strategy == "tensor":
        return (w.amax() / top).reshape(1)
    if strategy == "channel":
        return w.amax(1, keepdim=True) / top
    rows, columns = -(-w.shape[0] // 16), -(-w.shape[1] // 32)
    padded = torch.nn.functional.pad(w, (0, 32 * columns - w.shape[1], 0, 16 * rows - w.shape[0]))
    return padded.reshape(rows, 16, columns, 32).amax((1, 3)) / top


def compressed_float(kind, strategy, dtype=torch.bfloat16, out=24, inp=96):
    from compressed_tensors.compressors.mxfp4.base import MXFP4PackedCompressor
    from compressed_tensors.compressors.naive_quantized.base import FloatQuantizationCompressor
    from compressed_tensors.compressors.nvfp4.base import NVFP4PackedCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    weight = random_weight(out, inp, 51, dtype)
    weight[2] *= 1e-3  # subnormal codes
    args = {"num_bits": 8 if kind == "fp8" else 4, "type": "float", "symmetric": True, "strategy": strategy}
    tensors = {"weight": weight}
    if kind == "fp8":
        compressor, form = FloatQuantizationCompressor, "float-quantized"
        if strategy == "block":
            args["block_structure"] = [16, 32]
        tensors["weight_scale"] = float_scale(weight, strategy, 448).to(dtype)
    else:
        args["group_size"] = 16 if kind == "nvfp4" else 32
        args["scale_dtype"] = torch.float8_e4m3fn if kind == "nvfp4" else torch.uint8
        largest = weight.float().reshape(out, -1, args["group_size"]).abs().amax(-1)
        if kind == "nvfp4":
            compressor, form = NVFP4PackedCompressor, "nvfp4-pack-quantized"
            tensors["weight_global_scale"] = (448 * 6 / largest.amax()).reshape(1)
            scale = (largest / 6 * tensors["weight_global_scale"]).to(torch.float8_e4m3fn)
            tensors["weight_scale"] = scale.float()
        else:
            compressor, form = MXFP4PackedCompressor, "mxfp4-pack-quantized"
            tensors["weight_scale"] = 2.0 ** (largest.log2().floor() - 2)
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**args))
    tensors = compressor.compress(tensors, scheme)
    expected = compressor.decompress(tensors, scheme)["weight"]
    if "scale_dtype" in args:
        args["scale_dtype"] = str(args["scale_dtype"])
    settings = {"quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed", "ignore": [],
                "config_groups": {"group_0": {"targets": ["Linear"], "weights": args}}}
    store(f"ct-{kind}-{strategy}", settings, tensors, expected, dtype)


def fine_grained(out=24, inp=256):
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    weight = random_weight(out, inp, 61, torch.bfloat16).float()
    scale = weight.abs().reshape(1, out, inp // 128, 128).amax((1, 3)) / 448
    spread = scale.repeat_interleave(128, 1)
    tensors = {"weight": (weight / spread).to(torch.float8_e4m3fn), "weight_scale_inv": scale}
    expected = Fp8Dequantize(None)._dequantize_one(tensors["weight"], scale, torch.float32)
    settings = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [128, 128],
                "modules_to_not_convert": ["lm_head"]}
    store("fp8-block", settings, tensors, expected, torch.bfloat16)


def modelopt(kind, out=24, inp=96):
    from modelopt.torch.quantization.qtensor import FP8QTensor, NVFP4QTensor

    weight = random_weight(out, inp, 71, torch.bfloat16).float()
    settings = {"quant_method": "modelopt", "quant_algo": "FP8", "producer": {"name": "modelopt"}, "ignore": ["lm_head"]}
    if kind == "fp8":
        scale = weight.abs().amax() / 448
        packed = FP8QTensor(weight.shape, weight.dtype, (weight / scale).to(torch.float8_e4m3fn))
        expected = packed.dequantize(torch.float32, scale=scale)
        tensors = {"weight": packed._quantized_data, "weight_scale": scale, "input_scale": torch.tensor(0.5)}
    else:
        settings["quant_algo"] = "NVFP4"
        packed, scale, outer = NVFP4QTensor.quantize(weight, 16)
        expected = packed.dequantize(torch.float32, fast=False, scale=scale, double_scale=outer, block_sizes={-1: 16})
        tensors = {"weight": packed._quantized_data, "weight_scale": scale.to(torch.float8_e4m3fn),
                   "weight_scale_2": outer.float(), "input_scale": torch.tensor(0.5)}
    store(f"modelopt-{kind}", settings, tensors, expected.float(), torch.bfloat16)


def main():
    wanted = sys.argv[1:]
    jobs = []
    for bits in (2, 3, 4, 8):
        for sym in (True, False):
            for v2 in (True, False):
                jobs.append(("gptq", lambda b=bits, s=sym, v=v2: gptq(b, s, v)))
    jobs.append(("gptq", lambda: gptq(4, True, False, act_order=True)))
    jobs.append(("gptq", lambda: gptq(3, False, True, act_order=True)))
    jobs.append(("gptq", lambda: gptq(4, False, False, group=-1)))
    for group in (32, -1):
        jobs.append(("awq", lambda g=group: awq(g)))
    for kind, nested, block, dtype in (("nf4", True, 64, torch.bfloat16), ("nf4", False, 128, torch.float16),
                                       ("fp4", True, 64, torch.float32), ("fp4", False, 64, torch.float16)):
        jobs.append(("bnb", lambda k=kind, n=nested, b=block, d=dtype: bnb4(k, n, b, d)))
    jobs.append(("bnb", bnb8))
    for bits in (3, 4, 8):
        for sym in (True, False):
            jobs.append(("ct", lambda b=bits, s=sym: compressed(b, s, "group")))
    jobs.append(("ct", lambda: compressed(4, False, "channel", dtype=torch.float16)))
    jobs.append(("ct", lambda: compressed(8, True, "channel", packed=False)))
    jobs.append(("ct", lambda: compressed(8, False, "group", packed=False)))
    jobs.append(("ct", lambda: compressed(8, True, "tensor", packed=False)))
    for kind, strategy in (("fp8", "tensor"), ("fp8", "channel"), ("fp8", "block"), ("nvfp4", "tensor_group"), ("mxfp4", "group")):
        jobs.append(("floats", lambda k=kind, s=strategy: compressed_float(k, s)))
    jobs.append(("floats", fine_grained))
    for kind in ("fp8", "nvfp4"):
        jobs.append(("floats", lambda k=kind: modelopt(k)))
    for name, job in jobs:
        if not wanted or name in wanted:
            job()


if __name__ == "__main__":
    with torch.no_grad():
        main()
