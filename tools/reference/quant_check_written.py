"""Do the tools whose layouts Weft writes give the logits that Weft gives? quant_check_written.py FOLDER... [--tolerance 1e-3]

Each FOLDER is a checkpoint with `reference.safetensors` (input_ids, logits) beside it, as quant-written.ts makes them. It is
opened by the tool that its `quant_method` names, on the CPU in float32:

bitsandbytes, compressed-tensors, fp8, aqlm   transformers with the package
gptq, awq                                     transformers with optimum and GPTQModel, whose kernels for a CPU are these
hqq                                           the package's layers in transformers' model: transformers 5 reads no packed HQQ

A folder `adapter` in it is a LoRA for that checkpoint, which the real PEFT puts on: the logits are those with it.

Printed is the largest difference of a logit as a share of the largest logit: of the model as the tool runs it, and of the
weights that the tool decodes in a plain model, where its layers round what they read or what they give (LLM.int8 packs the
inputs too, others multiply in 16 bits). Exits with 1 where the weights' is above the tolerance, or the run's of a tool that
multiplies in float32.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ["NUMBA_NUM_THREADS"] = "1"  # several threads add into one sum in aqlm's look-up kernel, and some of it is lost
os.environ["TORCHDYNAMO_DISABLE"] = "1"  # GPTQModel compiles for minutes what runs once

from common import FIXTURES  # noqa: F401  first: it keeps the hub offline

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

logging.disable_progress_bar()

LOAD = dict(dtype=torch.float32, attn_implementation="eager")
# the layers of these do not multiply in float32, whatever they are asked
ROUNDS = {"Linear8bitLt": "packs the inputs to 8 bits"}


def plain(folder):
    """the network without its packing, to be filled with decoded weights"""
    config = AutoConfig.from_pretrained(folder)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return AutoModelForCausalLM.from_config(config, **LOAD).eval()


def by_transformers(folder, **more):
    return AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", **LOAD, **more).eval()


def by_hqq(folder):
    """hqq's layers in the place of the linear ones, each with its own tensors of the file"""
    from hqq.core.quantize import HQQLinear

    model, done = plain(folder), []
    state = load_file(Path(folder) / "model.safetensors")
    for name, module in list(model.named_modules()):
        own = {k[len(name) + 1 :]: v for k, v in state.items() if k.startswith(f"{name}.")}
        if "W_q" not in own:
            continue
        layer = HQQLinear(None, None, compute_dtype=torch.float32, device="cpu", initialize=False)
        layer.load_state_dict(own)
        # products in float32: scales and zero points keep the numbers that they have
        layer.compute_dtype = layer.meta["compute_dtype"] = torch.float32
        layer.meta["scale"], layer.meta["zero"] = layer.meta["scale"].float(), layer.meta["zero"].float()
        model.set_submodule(name, layer)
        done.append(f"{name}.")
        state = {k: v for k, v in state.items() if not k.startswith(f"{name}.")}
    missing, unexpected = model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    missing = [k for k in missing if not k.startswith(tuple(done)) and k != "lm_head.weight"]
    assert not missing and not unexpected, (missing, unexpected)
    model.tie_weights()
    return model


def by_aqlm(folder):
    model = by_transformers(folder)
    for m in model.modules():  # the CPU has no product of float32 with float16
        if hasattr(m, "codebooks"):
            m.codebooks.data, m.scales.data = m.codebooks.data.float(), m.scales.data.float()
    return model


def by_fp8(folder):
    # decoded on loading, to the dtype of config.json and not to the one asked for
    return by_transformers(folder).float()


LOADERS = {"hqq": by_hqq, "aqlm": by_aqlm, "fp8": by_fp8}


def decoded(module):
    """[out, in] of a packed layer, by the tool's own routine; None for a layer that is plain"""
    kind = type(module).__name__
    if kind == "Linear4bit":
        from quant import decode_4bit  # the library's on a CPU restarts blocks at rows, as said there

        return decode_4bit(module.weight.data, module.weight.quant_state)
    if kind == "Linear8bitLt":
        from bitsandbytes.functional import int8_vectorwise_dequant

        return int8_vectorwise_dequant(module.weight.data, module.weight.SCB)
    if kind == "HQQLinear":
        return module.dequantize()
    if hasattr(module, "codebooks"):
        from aqlm.utils import _dequantize_weight, unpack_int_data

        bits = module.codebooks.shape[1].bit_length() - 1
        return _dequantize_weight(unpack_int_data(module.codes.data, bits), module.codebooks, module.scales)
    if hasattr(module, "qweight"):
        return module.dequantize_weight().T if hasattr(module, "dequantize_weight") else None
    return None


def with_adapter(folder, network):
    """a LoRA of the folder on top, on the packed layers as on plain ones"""
    if not (Path(folder) / "adapter").exists():
        return network, 0
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    network = PeftModel.from_pretrained(network, Path(folder) / "adapter").eval()
    return network, sum(isinstance(m, LoraLayer) for m in network.modules())


def check(folder, tolerance):
    config = json.loads((Path(folder) / "config.json").read_text())["quantization_config"]
    method = config["quant_method"]
    model = LOADERS.get(method, by_transformers)(folder)
    given = load_file(Path(folder) / "reference.safetensors")
    ids, want = given["input_ids"].long(), given["logits"].float()

    def off(network):
        with torch.no_grad():
            return ((network(ids).logits.float() - want).abs().max() / want.abs().max()).item()

    layers = {name: m for name, m in model.named_modules() if type(m) is not torch.nn.Linear}
    weights = {name: w for name, m in layers.items() if (w := decoded(m)) is not None}
    kinds = sorted({type(layers[name]).__name__ for name in weights})
    # what is not packed may have stayed in the file's 16 bits, whatever dtype was asked for
    for name, p in model.named_parameters():
        if p.dtype in (torch.float16, torch.bfloat16) and name.rpartition(".")[0] not in weights:
            p.data = p.data.float()
    # decoded first: a pass changes how some layers keep their weights
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # it would decode to bfloat16
    state = dict(model.state_dict())
    model, adapted = with_adapter(folder, model)
    run = alone = off(model)
    if weights:
        network = plain(folder)
        rest = {k: v for k, v in state.items() if k in network.state_dict()}
        rest = {k: v.float() for k, v in rest.items() if k.removesuffix(".weight") not in weights}
        network.load_state_dict(rest, strict=False)
        with torch.no_grad():
            for name, w in weights.items():
                network.get_submodule(name).weight.copy_(w.float())
        alone = off(with_adapter(folder, network)[0])
    rounds = next((why for kind, why in ROUNDS.items() if kind in kinds), None)
    good = alone <= tolerance and (run <= tolerance or rounds is not None)
    what = f"{method}, {len(weights)} layers {kinds or ''}{f' and {adapted} of LoRA' if adapted else ''}"
    print(f"{'ok ' if good else 'BAD'} {Path(folder).name}: {what}, "
          f"run {run:.1e}{f' ({rounds})' if rounds else ''}, decoded {alone:.1e}")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--tolerance", type=float, default=1e-3)
    options = parser.parse_args()
    bad = 0
    for folder in options.folders:
        try:
            bad += not check(folder, options.tolerance)
        except Exception as error:  # one that does not load says so, and the rest is tried
            if len(options.folders) == 1:
                raise
            bad += 1
            print(f"BAD {Path(folder).name}: {type(error).__name__}: {error}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
