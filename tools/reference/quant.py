"""What bitsandbytes makes of fixed matrices, on its CPU path: codes, scales, decoded values, stored layout."""

from common import FIXTURES, seed, versions, write

import bitsandbytes as bnb
import torch
from bitsandbytes import functional as F

OUT = FIXTURES / "quant"
ABOUT = dict(made_by="tools/reference/quant.py", **versions("bitsandbytes"))


def matrices(*names):
    """name -> float32 [out, in]"""
    g = torch.Generator().manual_seed(11)
    normal = torch.randn(64, 96, generator=g)
    # one block of zeros, one of a single value, one tiny, one with an outlier
    odd = torch.randn(16, 48, generator=g)
    flat = odd.view(-1)
    flat[:64] = 0
    flat[64:128] = 0.37
    flat[128:192] *= 1e-12
    flat[200] = 60.0
    ragged = torch.randn(5, 27, generator=g)  # 135 values: the last block is short
    wide = torch.randn(96, 192, generator=g) * 0.02  # 288 blocks of 64: two blocks of nested scales
    every = {"normal": normal, "odd": odd, "ragged": ragged, "wide": wide}
    return {name: every[name] for name in names or every}


def decode_4bit(codes, state):
    """quant_map[code] · absmax[position // block]: the format's definition, and what the library's GPU kernels do.

    dequantize_4bit of bitsandbytes 0.50.2 on the CPU differs where a row is no multiple of the block
    (it restarts blocks at rows, quantize_4bit does not), so decoded values are made here, and compared where it is right.
    """
    absmax = state.absmax
    if state.nested:
        absmax = F.dequantize_blockwise(state.absmax, state.state2) + state.offset
    packed = codes.flatten()
    index = torch.stack([packed >> 4, packed & 15], 1).flatten().long()[: state.shape.numel()]
    w = state.code[index] * absmax.repeat_interleave(state.blocksize)[: state.shape.numel()]
    w = w.reshape(state.shape)
    library = F.dequantize_4bit(codes, state)
    same = torch.allclose(w, library, rtol=1e-6, atol=0)
    print(f"  {tuple(state.shape)} in blocks of {state.blocksize}: dequantize_4bit agrees: {same}")
    assert same or state.shape[-1] % state.blocksize != 0
    return w


def four_bit(kind, block, double):
    tensors = {}
    wide = ["wide"] if kind == "nf4" and block == 64 and double else []
    for name, w in matrices("normal", "odd", "ragged", *wide).items():
        codes, state = F.quantize_4bit(w.clone(), blocksize=block, compress_statistics=double, quant_type=kind)
        tensors[f"{name}.codes"] = codes  # two a byte, the first in the high half
        tensors[f"{name}.decoded"] = decode_4bit(codes, state)
        tensors[f"{name}.absmax"] = state.absmax  # float32, or uint8 codes when nested
        if double:
            tensors[f"{name}.nested_absmax"] = state.state2.absmax
            tensors[f"{name}.offset"] = state.offset
            tensors[f"{name}.absmax_decoded"] = F.dequantize_blockwise(state.absmax, state.state2) + state.offset
            tensors["nested_quant_map"] = state.state2.code
        tensors["quant_map"] = state.code
    file = f"{kind}-{block}{'-double' if double else ''}.safetensors"
    nested = state.state2.blocksize if double else None
    write(OUT / file, tensors, kind=kind, block=block, nested_block=nested, **ABOUT)
    print(file, {k: (tuple(v.shape), str(v.dtype)) for k, v in tensors.items() if k.startswith("normal") or "." not in k})


def eight_bit():
    tensors = {"dynamic_map": F.create_dynamic_map(), "dynamic_map_unsigned": F.create_dynamic_map(signed=False)}
    for name, w in matrices("normal", "odd", "ragged").items():
        codes, state = F.quantize_blockwise(w.clone(), blocksize=256)
        tensors |= {f"{name}.codes": codes, f"{name}.absmax": state.absmax}
        tensors[f"{name}.decoded"] = F.dequantize_blockwise(codes, state)
    write(OUT / "dynamic8-256.safetensors", tensors, block=256, **ABOUT)


def int8_rows():
    """LLM.int8's weight: each row by its largest magnitude (SCB), codes in -127..127. It takes half precision."""
    tensors = {}
    for name, w in matrices("normal", "odd", "ragged").items():
        codes, scale, _ = F.int8_vectorwise_quant(w.half())
        tensors |= {f"{name}.input": w.half(), f"{name}.codes": codes, f"{name}.SCB": scale}
        tensors[f"{name}.decoded"] = F.int8_vectorwise_dequant(codes, scale)
    write(OUT / "int8-rows.safetensors", tensors, **ABOUT)
    # the same as a layer stores it: weight int8, SCB float32, weight_format uint8
    layer = bnb.nn.Linear8bitLt(96, 64, bias=False, has_fp16_weights=False)
    layer.weight = bnb.nn.Int8Params(matrices()["normal"].half(), requires_grad=False, has_fp16_weights=False)
    state = {f"proj.{k}": v for k, v in layer.to("cpu").state_dict().items()}
    assert torch.equal(state["proj.weight"], tensors["normal.codes"]) and torch.equal(state["proj.SCB"], tensors["normal.SCB"])
    write(OUT / "stored-int8.safetensors", state, **ABOUT)
    print("Linear8bitLt", {k: (tuple(v.shape), str(v.dtype)) for k, v in state.items()}, state["proj.weight_format"])


def stored():
    """A layer as bitsandbytes and transformers store it in a 4-bit checkpoint."""
    for double, name in ((False, "normal"), (True, "wide")):
        w = matrices()[name]
        out, width = w.shape
        layer = bnb.nn.Linear4bit(width, out, compress_statistics=double, quant_type="nf4", compute_dtype=torch.float32)
        layer.load_state_dict({"weight": w, "bias": torch.linspace(-1, 1, out)})
        layer = layer.to("cpu")
        x = torch.randn(3, width, generator=torch.Generator().manual_seed(12))
        y = x @ decode_4bit(layer.weight.data, layer.weight.quant_state).T + layer.bias
        state = {f"proj.{k}": v for k, v in layer.state_dict().items()}
        file = f"stored-nf4{'-double' if double else ''}"
        write(OUT / f"{file}.safetensors", state, input=name, **ABOUT)
        write(OUT / f"{file}.expected.safetensors", {"input": x, "output": y}, **ABOUT)
        print({k: (tuple(v.shape), str(v.dtype)) for k, v in state.items()})
        print(bytes(state["proj.weight.quant_state.bitsandbytes__nf4"].tolist()).decode(), (layer(x) - y).abs().max().item())


if __name__ == "__main__":
    seed(0)
    write(OUT / "inputs.safetensors", matrices(), **ABOUT)
    for kind, block, double in (
        ("nf4", 64, False), ("nf4", 64, True), ("nf4", 128, False), ("nf4", 128, True), ("fp4", 64, False),
    ):
        four_bit(kind, block, double)
    eight_bit()
    int8_rows()
    stored()
