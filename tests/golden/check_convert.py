#!/usr/bin/env python3
"""Loads what qwb-convert writes in the libraries that own the formats and compares logits.

For each format: recipes/demo/llama (or --model) is quantized by qwb-quantize, converted, loaded by transformers
(bitsandbytes, compressed-tensors, fp8) or GPTQModel (gptq, awq), and its logits on a text are compared with those of
the same artifact dequantized by qwb-convert to the type in which that library holds its weights. Both run in f32. Fails if they differ by more than 1e-3 of the
largest logit. The product needs no Python; this is an oracle.

usage: check_convert.py BIN_FOLDER [--model FOLDER] [--only NAME]...
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TEXT = "Once upon a time there was a little girl who lived in a house by the sea. One day she found a shell and"

# name: (flags of qwb-quantize, format, loader)
CASES = {
    "gptq-4": (["--method", "rtn", "--bits", "4", "--group-size", "64", "--scale-dtype", "f16"], "gptq", "gptqmodel"),
    "gptq-3-asym": (["--method", "rtn", "--bits", "3", "--group-size", "32", "--scale-dtype", "f16", "--asymmetric"], "gptq",
                    "gptqmodel"),
    "gptq-8-row": (["--method", "rtn", "--bits", "8", "--group-size", "-1", "--scale-dtype", "f16"], "gptq-v2", "gptqmodel"),
    "gptq-2-asym": (["--method", "rtn", "--bits", "2", "--group-size", "32", "--scale-dtype", "f16", "--asymmetric"], "gptq-v2",
                    "gptqmodel"),
    "awq-4": (["--method", "rtn", "--bits", "4", "--group-size", "64", "--scale-dtype", "f16", "--asymmetric"], "awq", "gptqmodel"),
    "bnb-int8": (["--method", "int8"], "bitsandbytes", "bnb"),
    "bnb-nf4": (["--method", "nf4"], "bitsandbytes", "bnb"),
    "bnb-fp4": (["--method", "fp4", "--no-double-quantization"], "bitsandbytes", "bnb"),
    "ct-4": (["--method", "rtn", "--bits", "4", "--group-size", "64", "--scale-dtype", "f16"], "compressed-tensors", "ct"),
    "ct-3-asym": (["--method", "rtn", "--bits", "3", "--group-size", "32", "--scale-dtype", "f16", "--asymmetric"],
                  "compressed-tensors", "ct"),
    "ct-8-row": (["--method", "rtn", "--bits", "8", "--group-size", "-1", "--scale-dtype", "f16"], "compressed-tensors-int",
                 "ct"),
    "ct-fp8": (["--method", "rtn", "--grid", "fp8"], "compressed-tensors", "ct"),
    "ct-fp8-tensor": (["--method", "rtn", "--grid", "fp8-tensor"], "compressed-tensors", "ct"),
    "ct-fp8-block": (["--method", "rtn", "--grid", "fp8-block"], "compressed-tensors", "ct"),
    "ct-nvfp4": (["--method", "rtn", "--grid", "nvfp4"], "compressed-tensors", "ct4"),
    "ct-mxfp4": (["--method", "rtn", "--grid", "mxfp4"], "compressed-tensors", "ct4"),
    "fp8": (["--method", "rtn", "--grid", "fp8-block"], "fp8", "fp8"),
}


def load_plain(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def load_bnb(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu")
    count = sum(type(module).__name__ in ("Linear4bit", "Linear8bitLt") for module in model.modules())
    assert count > 0, "no module was loaded as quantized"
    # LLM.int8's forward pass rounds activations too; the weights are compared here.
    return model.dequantize().float()


def decompress_ct(folder):
    """The library's own decompressor, module by module: transformers 5.23 with compressed-tensors 0.20 refuses asymmetric packed folders,
    those that the library saved itself included (the zero points of its empty model are not packed), and FP4 in a model of f32 (it unpacks to bf16)."""
    from compressed_tensors.compressors.mxfp4.base import MXFP4PackedCompressor
    from compressed_tensors.compressors.nvfp4.base import NVFP4PackedCompressor
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationConfig
    from safetensors.torch import load_file
    from transformers import AutoConfig

    with open(os.path.join(folder, "config.json")) as file:
        settings = json.load(file)["quantization_config"]
    compressors = {"pack-quantized": PackedQuantizationCompressor, "nvfp4-pack-quantized": NVFP4PackedCompressor,
                   "mxfp4-pack-quantized": MXFP4PackedCompressor}
    scheme = next(iter(QuantizationConfig.model_validate(settings).config_groups.values()))
    config = AutoConfig.from_pretrained(folder)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config).float()
    tensors = load_file(os.path.join(folder, "model.safetensors"))
    modules = {name.removesuffix(".weight_packed") for name in tensors if name.endswith(".weight_packed")}
    state = {name: value for name, value in tensors.items() if name.rpartition(".")[0] not in modules}
    for module in modules:
        parts = {name.rpartition(".")[2]: value for name, value in tensors.items() if name.rpartition(".")[0] == module}
        if settings["format"] == "pack-quantized":
            parts["weight_scale"] = parts["weight_scale"].float()  # as a model loaded in f32 has it
            parts["weight_shape"] = torch.Size(parts["weight_shape"].tolist())
        state[module + ".weight"] = compressors[settings["format"]].decompress(parts, scheme)["weight"].float()
    missing, unexpected = model.load_state_dict({name: value.float() for name, value in state.items()}, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model


def load_ct(folder):
    with open(os.path.join(folder, "config.json")) as file:
        settings = json.load(file)["quantization_config"]
    if settings["format"] == "pack-quantized" and not settings["config_groups"]["group_0"]["weights"]["symmetric"]:
        return decompress_ct(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    count = sum(hasattr(module, "quantization_scheme") for module in model.modules())
    assert count > 0, "no module was loaded as quantized"
    return model


def load_fp8(folder):
    from transformers import FineGrainedFP8Config

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=FineGrainedFP8Config(dequantize=True))
    assert model.model.layers[0].mlp.up_proj.weight.dtype == torch.float32
    return model


def load_gptqmodel(folder):
    from gptqmodel import BACKEND, GPTQModel

    with open(os.path.join(folder, "config.json")) as file:
        awq = json.load(file)["quantization_config"]["quant_method"] == "awq"
    names = ["AWQ_TORCH", "TORCH_AWQ"] if awq else ["GPTQ_TORCH", "TORCH"]
    backend = next(getattr(BACKEND, name) for name in names if hasattr(BACKEND, name))
    model = GPTQModel.load(folder, backend=backend, device="cpu", dtype=torch.float16).model
    # The weights as the library dequantizes them, in f32 from there on.
    for name, module in list(model.named_modules()):
        if not hasattr(module, "qweight"):
            continue
        if awq:
            weight = module._dequantize_weight_for_inference(torch.zeros(1, module.in_features).half(), dtype=torch.float16)
        else:
            weight = module.dequantize_weight()
        plain = torch.nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
        plain.weight.data = weight.T.float()
        if module.bias is not None:
            plain.bias.data = module.bias.float()
        model.set_submodule(name, plain)
    return model.float()


# The types that the libraries dequantize to here; nothing: that of the model.
DTYPES = {"gptqmodel": ["--dtype", "f16"], "ct": ["--dtype", "f32"], "ct4": ["--dtype", "bf16"], "fp8": ["--dtype", "f32"], "bnb": []}
# What cannot be held, and why: nothing else may be refused. Blocks of Conv1D are quantized anew instead.
BLOCKS = "blocks that run over [in, out]"
REFUSALS = [BLOCKS, "is a Conv1D"]
LOADERS = {"bnb": load_bnb, "ct": load_ct, "ct4": decompress_ct, "fp8": load_fp8, "gptqmodel": load_gptqmodel}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin")
    parser.add_argument("--model", default=os.path.join(ROOT, "recipes/demo/llama"))
    parser.add_argument("--only", action="append", default=[])
    args = parser.parse_args()
    tokens = AutoTokenizer.from_pretrained(args.model)(TEXT, return_tensors="pt").input_ids
    failed = 0
    for name, (flags, form, loader) in CASES.items():
        if args.only and name not in args.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            artifact, export, plain = (os.path.join(folder, part) for part in ("artifact", "export", "plain"))
            run(os.path.join(args.bin, "qwb-quantize"), "--model", args.model, *flags, "--no-cache", "--out", artifact, "-q")
            convert = os.path.join(args.bin, "qwb-convert")
            try:
                record = json.loads(run(convert, artifact, "--to", form, export, "--json", "-q"))
            except subprocess.CalledProcessError as refusal:
                reason = next((reason for reason in REFUSALS if reason in refusal.stderr), None)
                failed += reason is None
                if reason != BLOCKS:
                    print(f"{name:12} refused: {reason or 'FAILED: ' + refusal.stderr.strip()[-300:]}", flush=True)
                    continue
                record = json.loads(run(convert, args.model, "--to", form, export, "--json", "-q", "--requantize", *flags[1:]))
                artifact = export
            run(convert, artifact, "--to", "huggingface", plain, "-q",
                *(["--dtype", "f32"] if name == "bnb-int8" else DTYPES[loader]))
            try:
                with torch.no_grad():
                    ours = load_plain(plain)(tokens).logits
                    theirs = LOADERS[loader](export)(tokens).logits.float()
                share = ((ours - theirs).abs().max() / ours.abs().max()).item()
                word = "ok" if share <= 1e-3 else "FAILED"
            except Exception as error:  # one format that cannot be loaded must not hide the others
                share, word = float("nan"), f"FAILED: {type(error).__name__}: {str(error)[:300]}"
            failed += word != "ok"
            print(f"{name:12} exact {record['exact']}  largest difference {share:.2e} of the largest logit  {word}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
