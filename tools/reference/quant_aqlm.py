"""Layers and a tiny Llama in AQLM's layout, and what the aqlm package makes of them on a CPU: decoded weights, outputs, logits."""

import json
import shutil

from common import FIXTURES, versions, write

import torch
from aqlm import QuantizedLinear
from aqlm.utils import _dequantize_weight, get_int_dtype, pack_int_data, unpack_int_data
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

OUT = FIXTURES / "quant"
ABOUT = dict(made_by="tools/reference/quant_aqlm.py", **versions("aqlm"))


def tensors(out, into, books, bits, group, tall, g):
    """random codes over the whole range, code books and scales as a checkpoint keeps them"""
    codes = torch.randint(0, 2**bits, (out // tall, into // group, books), generator=g)
    codes[0, 0, 0], codes[-1, -1, -1] = 0, 2**bits - 1
    return {
        "codes": pack_int_data(codes, bits).to(get_int_dtype(bits)),
        "codebooks": (torch.randn(books, 2**bits, tall, group, generator=g) / into**0.5).half(),
        "scales": (0.5 + torch.rand(out // tall, 1, 1, 1, generator=g)).half(),
    }


def decoded(parts):
    bits = parts["codebooks"].shape[1].bit_length() - 1
    return _dequantize_weight(unpack_int_data(parts["codes"], bits), parts["codebooks"].float(), parts["scales"].float())


def layer(name, out, into, books, bits, group=8, tall=1):
    g = torch.Generator().manual_seed(31 + bits)
    parts = tensors(out, into, books, bits, group, tall, g)
    x = torch.randn(3, into, generator=g)
    module = QuantizedLinear(into, out, group, tall, books, bits, bias=False, dtype=torch.float32)
    module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in parts.items()})
    with torch.no_grad():
        y = module(x)
    w = decoded(parts)
    print(name, tuple(w.shape), "layer against its decoded weight", (y - x @ w.T).abs().max().item())
    write(OUT / f"aqlm-{name}.safetensors", {f"proj.{k}": v for k, v in parts.items()}, **ABOUT)
    write(OUT / f"aqlm-{name}.expected.safetensors", {"input": x, "output": y, "weight": w}, **ABOUT)


def model(books=2, bits=4, group=4):
    source, folder = FIXTURES / "models" / "llama3", FIXTURES / "models" / "llama3-aqlm"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    g = torch.Generator().manual_seed(5)
    state = {}
    for name, t in load_file(source / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            for k, v in tensors(*t.shape, books, bits, group, 1, g).items():
                state[name.replace("weight", k)] = v
        else:
            state[name] = t
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "aqlm",
        "in_group_size": group,
        "out_group_size": 1,
        "num_codebooks": books,
        "nbits_per_codebook": bits,
        "linear_weights_not_to_quantize": ["lm_head", "lm_head.weight"],
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    layers = [m for m in loaded.modules() if isinstance(m, QuantizedLinear)]
    for m in layers:  # the CPU has no product of float32 with float16
        m.codebooks.data, m.scales.data = m.codebooks.data.float(), m.scales.data.float()
    ids = load_file(source / "reference.safetensors")["input_ids"]
    with torch.no_grad():
        out = loaded(ids, labels=ids)
    print(len(layers), "layers, loss", out.loss.item())
    write(folder / "reference.safetensors", {"input_ids": ids, "logits": out.logits, "loss": out.loss}, **ABOUT)


layer("2x8", 16, 32, 2, 8)  # the package's look-up kernel for CPUs
layer("1x9", 12, 24, 1, 9)  # codes of 16 bits
layer("3x3", 12, 30, 3, 3, group=5, tall=2)
model()
