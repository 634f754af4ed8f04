"""Small adapters that PEFT makes and the logits that it computes with them in f32.

usage: make_adapters.py tests/golden/model tests/golden/adapters      (packages: torch, transformers, peft, safetensors)
Each folder holds an adapter as PEFT saves it and expected.safetensors: logits [16, vocab] of the model's first 16 golden tokens with the
adapter, and delta, the largest difference to the logits without it.
"""
import json
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = {
    "llama": ("llama", dict(r=4, lora_alpha=6, target_modules="all-linear")),
    "llama_patterns": ("llama", dict(r=3, lora_alpha=5, use_rslora=True, target_modules=LINEAR, exclude_modules=["layers.0.mlp.up_proj"],
                                     rank_pattern={"q_proj": 2, "layers.1.mlp.down_proj": 5}, alpha_pattern={"layers.0.self_attn.v_proj": 9})),
    "llama_saved": ("llama", dict(r=2, lora_alpha=2, target_modules=["q_proj"], modules_to_save=["lm_head"])),
    "qwen3": ("qwen3", dict(r=4, lora_alpha=8, target_modules=r".*\.(q_proj|o_proj|down_proj)")),
    "qwen3_layers": ("qwen3", dict(r=2, lora_alpha=4, target_modules=["v_proj", "gate_proj"], layers_to_transform=[1])),
    "gpt2": ("gpt2", dict(r=4, lora_alpha=8, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True)),
}
TYPES = {"qwen3": torch.bfloat16, "qwen3_layers": torch.float16}
models, out = Path(sys.argv[1]), Path(sys.argv[2])
for name, (base, fields) in CASES.items():
    torch.manual_seed(sum(map(ord, name)))
    model = AutoModelForCausalLM.from_pretrained(models / base, dtype=torch.float32, attn_implementation="eager").eval()
    tokens = load_file(models / base / "expected.safetensors")["tokens"][:16].long()[None]
    with torch.no_grad():
        plain = model(tokens).logits[0]
        adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **fields)).eval()
        for key, parameter in adapted.named_parameters():
            if "lora_" in key or "modules_to_save" in key:
                parameter.copy_((0.3 * torch.randn_like(parameter)).to(TYPES.get(name, torch.float32)))
        logits = adapted(tokens).logits[0]
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = base
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    if name in TYPES:
        file = folder / "adapter_model.safetensors"
        save_file({key: value.to(TYPES[name]) for key, value in load_file(file).items()}, file, metadata={"format": "pt"})
    save_file({"logits": logits.contiguous(), "delta": (logits - plain).abs().max().reshape(1)}, folder / "expected.safetensors")
    print(name, len(load_file(folder / "adapter_model.safetensors")), float((logits - plain).abs().max()))
