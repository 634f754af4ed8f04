"""Files of torch.save in both forms with what torch reads from them, and a tiny checkpoint of PyTorch's shards.

usage: make_pickle.py tests/golden/pickle      (packages: torch, transformers, safetensors)
zip.bin and stream.bin hold the tensors of expected.safetensors. sharded/: a llama as two shards, one of each form; its
tensors again as sharded/expected.safetensors (torch.save keeps the tied head twice).
"""
import collections
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

root = Path(sys.argv[1])
(root / "sharded").mkdir(parents=True, exist_ok=True)
torch.manual_seed(7)
base = torch.randn(6, 8)
tensors = collections.OrderedDict()
for name in ("float32 float16 bfloat16 float64 int64 int32 int16 int8 uint8 bool uint16 uint32 uint64").split():
    tensors[name] = (torch.arange(7) * 37 % 23).to(getattr(torch, name))
tensors["base"] = base
tensors["same"] = base
tensors["transposed"] = base.t()
tensors["rows"] = base[2:5]
tensors["columns"] = base[:, 3:6]
tensors["steps"] = base[1::2, ::3]
tensors["deep"] = torch.randn(2, 3, 4).permute(2, 0, 1)
tensors["one_row"] = torch.randn(5, 1).t()
tensors["scalar"] = torch.tensor(2.5)
tensors["empty"] = torch.zeros(0, 3)
tensors["parameter"] = torch.nn.Parameter(torch.randn(3))
tensors["bf16_slice"] = torch.randn(4, 4).to(torch.bfloat16)[1:, 1:]
torch.save(tensors, root / "zip.bin")
# The stream knows no storages without a type.
old = collections.OrderedDict((k, v) for k, v in tensors.items() if k not in ("uint16", "uint32", "uint64"))
torch.save({"epoch": 3, "state_dict": old}, root / "stream.bin", _use_new_zipfile_serialization=False)
save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, root / "expected.safetensors")

config = AutoConfig.for_model(model_type="llama", vocab_size=24, hidden_size=8, intermediate_size=12, num_hidden_layers=1,
                              num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=32, tie_word_embeddings=True,
                              bos_token_id=1, eos_token_id=2)
model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
state = model.state_dict()
config.dtype = "float32"
config.save_pretrained(root / "sharded")
names = list(state)
weight_map = {}
for part, chosen in enumerate((names[:6], names[6:])):
    file = f"pytorch_model-0000{part + 1}-of-00002.bin"
    torch.save(collections.OrderedDict((name, state[name]) for name in chosen), root / "sharded" / file,
               _use_new_zipfile_serialization=part == 0)
    weight_map |= {name: file for name in chosen}
(root / "sharded" / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}, indent=1))
save_file({k: v.contiguous().clone() for k, v in state.items()}, root / "sharded" / "expected.safetensors")
