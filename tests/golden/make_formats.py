"""Golden files of tests/formats: safetensors files written by the Python package (pip install safetensors numpy xxhash).

python.safetensors        every element type numpy has, odd shapes, scalar, empty, names beyond ASCII, metadata
python.json               what is in it: dtype, shape, XXH3-128 of the bytes
python-plain.safetensors  a small file whose bytes our writer must reproduce
"""
import json
import pathlib

import numpy as np
import xxhash
from safetensors.numpy import save_file

here = pathlib.Path(__file__).parent / "formats"
names = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
         "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL"}
shapes = [(3, 5), (7,), (), (0, 4), (1, 2, 3, 2)]

tensors = {}
for d, dtype in enumerate(names):
    for s, shape in enumerate(shapes):
        count = int(np.prod(shape))
        values = (np.arange(count) * (2 * d + 3) + s) % 101
        tensors[f"{dtype}.größe.{s}"] = np.array(values, dtype=dtype).reshape(shape)
save_file(tensors, here / "python.safetensors", metadata={"format": "pt", "grüße": "\"quoted\"\n"})
facts = {name: {"dtype": names[str(t.dtype)], "shape": list(t.shape), "xxh128": xxhash.xxh3_128_hexdigest(t.tobytes())}
         for name, t in tensors.items()}
(here / "python.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")

plain = {name: np.array(np.arange(4) * 3, dtype=dtype)[: 4 - i % 3]
         for i, (name, dtype) in enumerate([("b", "float32"), ("a", "float32"), ("c", "uint8"), ("e", "int64"), ("d", "float16"),
                                            ("f", "bool"), ("g", "int8"), ("h", "uint16"), ("i", "uint64"), ("j", "float64")])}
save_file(plain, here / "python-plain.safetensors", metadata={"format": "pt"})
