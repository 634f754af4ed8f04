"""Our adapters in PEFT: that every tensor lands, and that logits are those that qwb computes with it.

usage: check_adapters.py MODEL ADAPTER MERGED      (packages: torch, transformers, peft)
ADAPTER: a folder that qwb wrote (qwb-merge --combine, --extract, --portable). MERGED: qwb-merge --dtype f32 of both. Prints the largest
difference of logits over the largest logit, and fails beyond 1e-5.
"""
import sys
import warnings

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

warnings.simplefilter("error", UserWarning)  # PEFT warns of missing keys
model, adapter, merged = sys.argv[1:4]
base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
tokens = torch.arange(3, 3 + 48)[None] % base.config.vocab_size
with torch.no_grad():
    plain = base(tokens).logits
    with_adapter = PeftModel.from_pretrained(base, adapter).eval()(tokens).logits
    other = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()(tokens).logits
difference = float((with_adapter - other).abs().max() / with_adapter.abs().max())
print(f"difference {difference:.2e}, the adapter's effect {float((with_adapter - plain).abs().max()):.2e}")
assert difference <= 1e-5 and float((with_adapter - plain).abs().max()) > 1e-3
