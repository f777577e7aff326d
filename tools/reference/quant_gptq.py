"""What AutoGPTQ and GPTQModel make of fixed matrices, on the CPU: codes, scales, zero points, packed layers, logits.

Neither can be imported as a whole beside the pinned transformers, and both refuse to install where they find no CUDA
unless BUILD_CUDA_EXT=0 is set; their parts that are used here need only torch:
BUILD_CUDA_EXT=0 pip install --no-deps --no-build-isolation auto-gptq==0.7.1 gptqmodel==7.7.0
pip install --no-deps pypcre tokenicer logbar device-smi threadpoolctl defuser ninja
"""

import importlib
import importlib.util
import json
import os
import shutil
import sys
import types

from common import FIXTURES, seed, versions, write

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # GPTQModel compiles for minutes what runs once

import torch
from transformers import LlamaConfig, LlamaForCausalLM

OUT = FIXTURES / "quant"
ABOUT = dict(made_by="tools/reference/quant_gptq.py", auto_gptq="0.7.1", gptqmodel="7.7.0", **versions())


def auto_gptq(*names):
    """modules of the package, without its __init__, which imports what transformers no longer has"""
    root = importlib.util.find_spec("auto_gptq").submodule_search_locations[0]
    for name in ("auto_gptq", "auto_gptq.quantization", "auto_gptq.nn_modules", "auto_gptq.nn_modules.qlinear"):
        module = types.ModuleType(name)
        module.__path__ = [root + name.removeprefix("auto_gptq").replace(".", "/")]
        sys.modules[name] = module
    return [importlib.import_module(f"auto_gptq.{name}") for name in names]


GPTQ, QUANT_LINEAR = auto_gptq("quantization.gptq", "nn_modules.qlinear.qlinear_cuda")
torch.cuda.synchronize = lambda *_: None  # it times a GPU that is not there


class Single(GPTQ.Quantizer):
    def find_params(self, x, weight=False):
        super().find_params(x.to(torch.float32), weight)

    def quantize(self, x):
        return super().quantize(x.to(torch.float32)).to(x.dtype)


def solved(w, x, bits, group, sym, act, static, damp=0.01):
    """the layer with the weights that GPTQ chose, its scales, zeros [out, G] and groups.

    H and the corrections are in double precision, by a `float` that is none, and only the grid in single one: of 1000
    codes some five would else be chosen by rounding errors of the factorization. Blocks are no longer than a group: within a block AutoGPTQ finds the scale of a group from weights that lack the
    corrections of the block's earlier columns, where the paper's algorithm has none such.
    """
    layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False, dtype=torch.float64)
    layer.weight.data = w.double()
    run = GPTQ.GPTQ(layer)
    run.H = run.H.double()
    run.quantizer = Single()
    run.quantizer.configure(bits, perchannel=True, sym=sym, mse=False)
    size = 128 if group == -1 else min(group, 128)
    single, torch.Tensor.float = torch.Tensor.float, torch.Tensor.double
    try:
        run.add_batch(x, None)
        scale, zero, g_idx = run.fasterquant(
            blocksize=size, percdamp=damp, group_size=group, actorder=act, static_groups=static
        )
    finally:
        torch.Tensor.float = single
    return layer, scale, zero, g_idx


def packed(layer, scale, zero, g_idx, bits, group, dtype=torch.float16):
    linear = QUANT_LINEAR.QuantLinear(bits, group, layer.in_features, layer.out_features, False, weight_dtype=dtype)
    linear.pack(layer, scale.clone(), zero.clone(), g_idx)  # in double: what it divides by are the scales that it had
    linear.scales = linear.scales.to(dtype)
    return linear


CASES = {
    "plain": dict(bits=4, group=128, sym=True, act=False, static=False),
    "asymmetric": dict(bits=4, group=32, sym=False, act=False, static=False),
    "ordered": dict(bits=4, group=64, sym=False, act=True, static=False),
    "static": dict(bits=3, group=32, sym=True, act=True, static=True),
    "rows": dict(bits=2, group=-1, sym=False, act=True, static=False),
    "wide": dict(bits=8, group=64, sym=True, act=True, static=False),
    "three": dict(bits=3, group=64, sym=False, act=True, static=False),
    "dead": dict(bits=4, group=64, sym=False, act=True, static=False),
}


def solver():
    g = torch.Generator().manual_seed(31)
    n, k, rows = 32, 256, 48
    w = (torch.randn(n, k, generator=g) * 0.05).half()
    # correlated inputs of unlike sizes, as whole numbers: E[x xT] is exact in float32
    mix = torch.randn(16, k, generator=g)
    x = torch.randn(rows, 16, generator=g) @ mix + torch.randn(rows, k, generator=g) * 2
    x = (x * torch.logspace(0, 1, k)[torch.randperm(k, generator=g)]).round().clamp(-127, 127)
    while len(h := (x * x).sum(0)) != len(h.unique()):  # inputs of equal E[x2] have no order
        values, counts = h.unique(return_counts=True)
        x[0, torch.where(h == values[counts > 1][0])[0][0]] += 1
    tensors = {"w": w, "x": x.to(torch.int8)}
    for name, case in CASES.items():
        inputs = x.clone()
        if name == "dead":
            inputs[:, [3, 100, 255]] = 0
        layer, scale, zero, g_idx = solved(w.float(), inputs, **case)
        codes = torch.round(layer.weight.data / scale[:, g_idx.long()]) + zero[:, g_idx.long()]
        assert codes.min() >= 0 and codes.max() < 2 ** case["bits"]
        tensors |= {f"{name}.codes": codes.to(torch.uint8), f"{name}.scale": scale.float(), f"{name}.zero": zero.to(torch.uint8)}
        if case["act"]:
            tensors[f"{name}.g_idx"] = g_idx
        linear = packed(layer, scale, zero, g_idx, case["bits"], case["group"])
        for key in ("qweight", "qzeros", "scales", "g_idx"):
            tensors[f"{name}.packed.{key}"] = getattr(linear, key).contiguous()
        print(name, "zeros", zero.min().item(), zero.max().item(), "first qzeros", hex(linear.qzeros[0, 0].item() & 0xFFFFFFFF))
    write(OUT / "gptq-solver.safetensors", tensors, cases=CASES, **ABOUT)


def versions_of_the_format():
    """what GPTQModel makes of a v1 layer's zeros when it loads it, and what its kernel for the CPU multiplies"""
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module

    g = torch.Generator().manual_seed(32)
    tensors = {}
    for bits in (2, 3, 4, 8):
        w = torch.randn(64, 64, generator=g)
        x = torch.randn(100, 64, generator=g)
        layer, scale, zero, g_idx = solved(w, x, bits, 32, False, bits != 8, False)
        first = packed(layer, scale, zero, g_idx, bits, 32)
        linear = TorchLinear(bits=bits, group_size=32, sym=False, desc_act=True, in_features=64, out_features=64, bias=False)
        for key in ("qweight", "qzeros", "scales", "g_idx"):
            getattr(linear, key).data = getattr(first, key).clone()
            tensors[f"v1-{bits}.{key}"] = getattr(first, key).contiguous()
        convert_gptq_v1_to_v2_format_module(linear, bits, torch.int32)
        for key in ("qweight", "qzeros", "scales", "g_idx"):
            tensors[f"v2-{bits}.{key}"] = getattr(linear, key).data.clone().contiguous()
        linear.post_init()
        dense = linear.dequantize_weight().T.contiguous().double()  # [out, in], products in float16
        codes = torch.round(layer.weight.data / scale[:, g_idx.long()])
        exact = codes * first.scales.double().T[:, g_idx.long()]
        print(bits, "dequantize_weight is off by", (dense - exact).abs().max().item())
        assert torch.allclose(dense, exact, rtol=2e-3, atol=1e-4)
        tensors[f"dense-{bits}"] = exact.float()
    write(OUT / "gptq-versions.safetensors", tensors, **ABOUT)


def model():
    """a tiny Llama with AutoGPTQ's layers in place of its linear ones, and the logits that these give"""
    folder = OUT / "llama-gptq"
    shutil.rmtree(folder, ignore_errors=True)
    config = LlamaConfig(
        vocab_size=48, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=True,
    )
    config._attn_implementation = "eager"
    network = LlamaForCausalLM(config).float().eval()
    g = torch.Generator().manual_seed(33)
    for name, p in network.named_parameters():
        p.data = torch.randn(p.shape, generator=g) * (0.15 if p.ndim == 2 else 0.1) + (0 if p.ndim == 2 else 1)
        p.data = p.data.half().float()
    for layer in network.model.layers:
        for path in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                     "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"):
            parent, leaf = layer.get_submodule(path.split(".")[0]), path.split(".")[1]
            linear = getattr(parent, leaf)
            x = torch.randn(80, linear.in_features, generator=g) * torch.linspace(0.2, 2, linear.in_features)
            setattr(parent, leaf, packed(*solved(linear.weight.data, x, 4, 32, False, True, False), 4, 32))
    ids = torch.randint(0, 48, (2, 12), generator=g)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, QUANT_LINEAR.QuantLinear):
                module.scales = module.scales.float()  # float16 numbers, products in float32
        out = network(ids, labels=ids)
    state = {k: v.half() if v.dtype == torch.float32 else v for k, v in network.state_dict().items()}
    state.pop("lm_head.weight", None)
    folder.mkdir(parents=True)
    write(folder / "model.safetensors", {k: v.contiguous() for k, v in state.items()}, **ABOUT)
    said = config.to_dict() | {"architectures": ["LlamaForCausalLM"], "dtype": "float16"}
    said["quantization_config"] = dict(
        quant_method="gptq", bits=4, group_size=32, desc_act=True, sym=False, static_groups=False, true_sequential=True,
        damp_percent=0.01, checkpoint_format="gptq",
    )
    (folder / "config.json").write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")
    write(folder / "reference.safetensors", {"input_ids": ids, "logits": out.logits, "loss": out.loss}, **ABOUT)
    print("loss", out.loss.item())


if __name__ == "__main__":
    seed(0)
    solver()
    versions_of_the_format()
    model()
