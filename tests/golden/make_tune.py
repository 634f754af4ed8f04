"""What torch and PEFT make of a few steps of LoRA on the tiny models, in f32.

usage: make_tune.py tests/golden/model tests/golden/tune [NAME...]      (packages: torch, transformers, peft, safetensors)
Each folder holds an adapter with random A and B as PEFT saves it (adapter_config.json, adapter_model.safetensors) and
expected.safetensors: tokens and weights [n] of all documents, documents [k] their lengths, loss of the first step, the norm of
every gradient of it by PEFT's name ("norm.<name>"), and the factors after 20 steps of AdamW on all documents ("after.<name>").
"""
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

models, root = Path(sys.argv[1]), Path(sys.argv[2])
STEPS, RATE, DECAY = 20, 1e-3, 0.01
for name in sys.argv[3:] or ["llama", "qwen3", "gpt2", "mistral"]:
    torch.manual_seed(sum(map(ord, name)))
    model = AutoModelForCausalLM.from_pretrained(models / name, dtype=torch.float32, attn_implementation="eager")
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    trained = {key: value for key, value in model.named_parameters() if value.requires_grad}
    with torch.no_grad():
        for value in trained.values():
            value.copy_(torch.randn_like(value) * 0.2)
    folder = root / name
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    lengths = [17, 5, 12, 23]
    documents = [torch.randint(0, 96, (length,)) for length in lengths]
    weights = [(torch.rand(length) < 0.6).float() for length in lengths]
    for one in weights:
        one[0], one[-1] = 0, 1
    count = sum(float(one.sum()) for one in weights)

    def total_loss():
        loss = 0
        for tokens, weight in zip(documents, weights):
            logits = model(input_ids=tokens[None]).logits[0, :-1]
            each = torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="none")
            loss = loss + (each * weight[1:]).sum()
        return loss / count

    optimizer = torch.optim.AdamW(trained.values(), lr=RATE, weight_decay=DECAY)
    expected = {"tokens": torch.cat(documents).int(), "weights": torch.cat(weights), "documents": torch.tensor(lengths, dtype=torch.int32)}
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = total_loss()
        loss.backward()
        if step == 0:
            expected["loss"] = loss.detach().reshape(1)
            for key, value in trained.items():
                expected["norm." + key.replace(".default", "")] = value.grad.norm().reshape(1)
        optimizer.step()
    for key, value in trained.items():
        expected["after." + key.replace(".default", "")] = value.detach().contiguous()
    save_file(expected, folder / "expected.safetensors")
    print(name, float(expected["loss"]), len(trained))
