"""What hqq makes of one matrix on its CPU path: layers as its state dict has them, and what they decode to."""

from common import FIXTURES, seed, versions, write

import torch
from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

KEPT = ("four", "four_half", "three", "two_columns", "ternary")
OUT = FIXTURES / "quant"
seed(5)

# name -> bits, group, axis, compute dtype, other settings
LAYERS = {
    "four": (4, 64, 1, torch.float32, {}),
    "four_half": (4, 64, 1, torch.float16, {}),
    "four_columns": (4, 64, 0, torch.float32, {}),
    "four_plain": (4, 64, 1, torch.float32, {"optimize": False}),
    "three": (3, 64, 1, torch.float32, {}),
    "three_columns": (3, 32, 0, torch.bfloat16, {}),
    "two": (2, 16, 1, torch.float32, {}),
    "two_columns": (2, 16, 0, torch.float16, {}),
    "ternary": (1.58, 16, 1, torch.float32, {}),
    "one": (1, 16, 1, torch.float32, {}),
    "eight": (8, 128, 1, torch.float16, {}),
    "row": (4, None, 1, torch.float32, {}),
}

weight = torch.randn(16, 128) * 0.05
weight[3, 64:128] = 0.25  # a group of one value
weight[5, :64] = 0
tensors, decoded = {}, {"input": weight}
for name, (bits, group, axis, dtype, other) in LAYERS.items():
    linear = torch.nn.Linear(128, 16, bias=name == "four")
    linear.weight.data.copy_(weight)
    config = BaseQuantizeConfig(nbits=bits, group_size=group, axis=axis)
    config["weight_quant_params"].update(other)
    layer = HQQLinear(linear, config, compute_dtype=dtype, device="cpu", del_orig=False)
    for key, value in layer.state_dict().items():
        tensors[f"{name}.{key}"] = value.detach()
    found = layer.dequantize().float()
    if name in KEPT:
        decoded[name] = found
    print(name, {k: (tuple(v.shape), str(v.dtype)) for k, v in layer.state_dict().items() if k in ("W_q", "scale", "shape")},
          "error", (found - weight).abs().mean().item())

about = dict(made_by="tools/reference/quant_hqq.py", **versions("hqq"))
write(OUT / "hqq.safetensors", tensors, **about)
write(OUT / "hqq.expected.safetensors", decoded, **about)
