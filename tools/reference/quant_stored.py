"""Tiny Llamas as other tools store them, and the logits by the weights that these tools decode: quant_stored.py [NAME...]

llama-int8   transformers with bitsandbytes, LLM.int8 (its layers round the inputs too, so logits are of the decoded weights)
llama-fp8    compressed-tensors, 8-bit floats with a scale a row
llama-hqq    hqq's layers, as its state dict has them
"""

import json
import shutil
import sys

from common import FIXTURES, ids, perturb, seed, versions, write

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

CONFIG = LlamaConfig(
    vocab_size=48, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=True,
)


def network():
    CONFIG._attn_implementation = "eager"
    seed(12)
    model = LlamaForCausalLM(CONFIG).float().eval()
    perturb(model, torch.Generator().manual_seed(12))
    return model


def finish(folder, model, weights, about):
    """the logits with these matrices in the place of the model's own"""
    x = ids(2, 12, 48, torch.Generator().manual_seed(13))
    with torch.no_grad():
        for name, w in weights.items():
            model.get_submodule(name).weight.copy_(w)
        out = model(x, labels=x)
    write(folder / "reference.safetensors", {"input_ids": x, "logits": out.logits, "loss": out.loss},
          made_by="tools/reference/quant_stored.py", **about)
    for extra in ("generation_config.json", "recipe.yaml"):
        (folder / extra).unlink(missing_ok=True)
    print(folder.name, len(weights), "layers, loss", out.loss.item())


def int8(folder):
    from bitsandbytes.functional import int8_vectorwise_dequant
    from bitsandbytes.nn import Linear8bitLt

    model = network()
    model.save_pretrained(folder / "dense")
    packed = AutoModelForCausalLM.from_pretrained(
        folder / "dense", quantization_config=BitsAndBytesConfig(load_in_8bit=True), dtype=torch.float32, device_map="cpu"
    )
    shutil.rmtree(folder / "dense")
    packed.save_pretrained(folder)
    layers = {n: m.weight for n, m in packed.named_modules() if isinstance(m, Linear8bitLt)}
    finish(folder, model, {n: int8_vectorwise_dequant(w.data, w.SCB) for n, w in layers.items()}, versions("bitsandbytes"))


def fp8(folder):
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme, apply_quantization_config

    model, packed = network(), network()
    args = QuantizationArgs(num_bits=8, type="float", strategy="channel", symmetric=True)
    config = QuantizationConfig(
        config_groups={"group_0": QuantizationScheme(targets=["Linear"], weights=args)}, ignore=["lm_head"],
        format="float-quantized", quantization_status="frozen",
    )
    apply_quantization_config(packed, config)
    weights = {}
    for name, module in packed.named_modules():
        if hasattr(module, "weight_scale"):
            w = module.weight.data
            scale = (w.abs().amax(1, keepdim=True) / 448).to(module.weight_scale.dtype)
            module.weight_scale.data.copy_(scale)
            weights[name] = (w / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale
    compressor = ModelCompressor.from_pretrained_model(packed)
    compressor.compress_model(packed)
    state = {k: v.contiguous() for k, v in packed.state_dict().items() if k != "lm_head.weight"}
    folder.mkdir(parents=True)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    CONFIG.save_pretrained(folder)
    compressor.update_config(folder)
    finish(folder, model, weights, versions("compressed-tensors"))


def hqq(folder):
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

    model = network()
    settings = BaseQuantizeConfig(nbits=4, group_size=32, axis=1)
    state, weights = {}, {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            layer = HQQLinear(module, settings, compute_dtype=torch.float32, device="cpu", del_orig=False)
            state |= {f"{name}.{k}": v.detach().contiguous() for k, v in layer.state_dict().items()}
            weights[name] = layer.dequantize()
    rest = {k: v for k, v in model.state_dict().items() if k.removesuffix(".weight") not in weights and k != "lm_head.weight"}
    folder.mkdir(parents=True)
    save_file(state | rest, folder / "model.safetensors", metadata={"format": "pt"})
    said = CONFIG.to_dict() | {"architectures": ["LlamaForCausalLM"], "dtype": "float32"}
    said["quantization_config"] = {"quant_method": "hqq", "quant_config": settings, "skip_modules": ["lm_head"]}
    (folder / "config.json").write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")
    finish(folder, model, weights, versions("hqq"))


MADE = {"llama-int8": int8, "llama-fp8": fp8, "llama-hqq": hqq}
for name in sys.argv[1:] or MADE:
    target = FIXTURES / "models" / name
    shutil.rmtree(target, ignore_errors=True)
    MADE[name](target)
