"""What AutoAWQ makes of fixed matrices on the CPU: packed layers, scales, clipping; and a tiny Llama in its GEMM layout."""

import json
import shutil
from types import SimpleNamespace

from common import FIXTURES, perturb, seed, versions, write

import torch
from awq.modules.linear.gemm import WQLinear_GEMM
from awq.modules.linear.gemv import WQLinear_GEMV
from awq.quantize.quantizer import AwqQuantizer
from awq.utils.packing_utils import dequantize_gemm
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

ABOUT = dict(made_by="tools/reference/quant_awq.py", **versions("autoawq"))


def quantizer(group, **more):
    """the quantizer's methods without a model around them"""
    self = SimpleNamespace(w_bit=4, group_size=group, zero_point=True, max_chunk_memory=2**30, n_parallel_calib_samples=None, **more)
    self.pseudo_quantize_tensor = lambda w: AwqQuantizer.pseudo_quantize_tensor(self, w)
    self._module_forward = lambda x, module, kwargs: AwqQuantizer._module_forward(self, x, module, kwargs)
    self._compute_loss = lambda a, b, device: AwqQuantizer._compute_loss(self, a, b, device)
    return self


def packed(weight, group, kind=WQLinear_GEMM):
    """a layer of AutoAWQ from a float32 matrix"""
    w, scales, zeros = quantizer(group).pseudo_quantize_tensor(weight)
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data.copy_(w)
    if kind is WQLinear_GEMM:
        scales, zeros = scales.t().contiguous(), zeros.t().contiguous()
    return kind.from_linear(linear, 4, group, scales=scales, zeros=zeros)


seed(7)
weight = torch.randn(64, 128) * 0.05
tensors, expected = {}, {"input": weight}
for group in (32, 64):
    layer = packed(weight, group)
    tensors.update({f"gemm{group}.{k}": v for k, v in layer.state_dict().items()})
    expected[f"gemm{group}"] = dequantize_gemm(layer.qweight, layer.qzeros, layer.scales.float(), 4, group).t()
    tensors.update({f"gemv{group}.{k}": v for k, v in packed(weight, group, WQLinear_GEMV).state_dict().items()})
write(FIXTURES / "quant" / "awq.safetensors", tensors, **ABOUT)

# a search over scales and one over clipping, of a layer whose inputs have channels of very different sizes
x = torch.randn(96, 128) * (0.05 + 4 * torch.rand(128) ** 6)
expected["x"] = x
for duo in (False, True):
    linear = torch.nn.Linear(128, 64, bias=False)
    linear.weight.data.copy_(weight)
    linear.requires_grad_(False)
    # the library keeps the weights by .cpu(), which on a CPU is no copy: it would go on from what it has changed
    linear.state_dict = lambda *, of=linear: {"weight": of._parameters["weight"].detach().clone()}
    grouped = weight.view(-1, 64).abs()
    w_mean = (grouped / (grouped.amax(1, keepdim=True) + 1e-6)).view(64, 128).mean(0)
    with torch.no_grad():
        scales = AwqQuantizer._compute_best_scale(
            quantizer(64, duo_scaling=duo), x, w_mean, x.abs().mean(0), linear, [linear], linear(x)
        )
    expected["duo" if duo else "plain"] = scales.view(-1)
expected["clip"] = AwqQuantizer._compute_best_clip.__wrapped__(quantizer(64), weight, x).reshape(64, 2)
write(FIXTURES / "quant" / "awq.expected.safetensors", expected, **ABOUT)

# a checkpoint, and its logits by the definition of the format
NAME, GROUP = "llama-awq", 32
folder = FIXTURES / "models" / NAME
shutil.rmtree(folder, ignore_errors=True)
folder.mkdir()
config = LlamaConfig(
    vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False, attn_implementation="eager",
)
model = LlamaForCausalLM(config).eval()
perturb(model, torch.Generator().manual_seed(3))
state = {k: v.clone() for k, v in model.state_dict().items()}
for name, module in list(model.named_modules()):
    if isinstance(module, torch.nn.Linear) and name != "lm_head":
        layer = packed(module.weight.data, GROUP)
        del state[f"{name}.weight"]
        state.update({f"{name}.{k}": v for k, v in layer.state_dict().items()})
        with torch.no_grad():
            module.weight.copy_(dequantize_gemm(layer.qweight, layer.qzeros, layer.scales.float(), 4, GROUP).t())
ids = torch.randint(0, 64, (2, 12), generator=torch.Generator().manual_seed(4))
with torch.no_grad():
    out = model(ids, labels=ids)
model.config.save_pretrained(folder)
save_file({k: v.contiguous() for k, v in state.items()}, folder / "model.safetensors", metadata={"format": "pt"})
about = json.loads((folder / "config.json").read_text())
about["architectures"] = ["LlamaForCausalLM"]
about["quantization_config"] = dict(
    quant_method="awq", bits=4, group_size=GROUP, zero_point=True, version="gemm", modules_to_not_convert=None
)
(folder / "config.json").write_text(json.dumps(about, indent=2) + "\n")
write(folder / "reference.safetensors", {"input_ids": ids, "logits": out.logits, "loss": out.loss}, model=NAME, **ABOUT)
print("loss", out.loss.item())
