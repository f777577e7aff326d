"""Combination, conversion and hot swap of adapters by the real PEFT: one file with what goes in and what comes out."""

import zlib

from common import FIXTURES, ids, seed, versions, write  # first: it keeps the hub offline

import torch
from peft import LoHaConfig, LoraConfig, convert_to_lora, get_peft_model
from transformers import AutoModelForCausalLM

BASE = "llama3"
TARGETS = ["q_proj", "down_proj"]
LORAS = {
    "one": dict(r=4, lora_alpha=8, target_modules=[*TARGETS, "embed_tokens"]),
    "two": dict(r=4, lora_alpha=2, target_modules=[*TARGETS, "embed_tokens"]),
    "rs": dict(r=4, lora_alpha=6, target_modules=[*TARGETS, "v_proj", "embed_tokens"], use_rslora=True),
    "small": dict(r=2, lora_alpha=3, target_modules=["q_proj"]),
}
EQUAL, OTHER = ["one", "two", "rs"], ["one", "small", "rs"]
# name: (adapters, weights, arguments)
CASES = {
    "linear": (EQUAL, [0.7, -1.3, 0.4], dict(combination_type="linear")),
    "linear-alone": (["two"], [-0.5], dict(combination_type="svd")),
    "cat": (OTHER, [0.7, -1.3, 0.4], dict(combination_type="cat")),
    "svd": (OTHER, [0.7, -1.3, 0.4], dict(combination_type="svd")),
    "svd-rank": (OTHER, [1.0, 0.5, 2.0], dict(combination_type="svd", svd_rank=6)),
    "svd-clamp": (OTHER, [1.0, 0.5, 2.0], dict(combination_type="svd", svd_rank=3, svd_clamp=0.9)),
    "ties": (EQUAL, [0.7, 1.3, 0.4], dict(combination_type="ties", density=0.4)),
    "ties-frequency": (EQUAL, [0.7, -1.3, 0.4], dict(combination_type="ties", density=0.6, majority_sign_method="frequency")),
    "ties_svd": (OTHER, [0.7, 1.3, -0.4], dict(combination_type="ties_svd", density=0.3, svd_rank=5)),
    "magnitude_prune": (EQUAL, [0.7, -1.3, 0.4], dict(combination_type="magnitude_prune", density=0.5)),
    "magnitude_prune_svd": (OTHER, [0.7, -1.3, 0.4], dict(combination_type="magnitude_prune_svd", density=0.25)),
    # nothing is dropped, so chance plays no part
    "dare_linear-whole": (EQUAL, [0.7, -1.3, 0.4], dict(combination_type="dare_linear", density=1.0)),
    "dare_ties_svd-whole": (OTHER, [0.7, 1.3, 0.4], dict(combination_type="dare_ties_svd", density=1.0, svd_rank=4)),
}


def load():
    return AutoModelForCausalLM.from_pretrained(
        FIXTURES / "models" / BASE, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def randomize(model, part, g):
    with torch.no_grad():
        for key, p in model.named_parameters():
            if part in key:
                p.copy_(0.3 * torch.randn(p.shape, generator=g))


def factors(model, name):
    """PEFT's own tensors of one adapter, by module"""
    found = {}
    for key, p in model.named_parameters():
        for kind in ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"):
            for end in (f".{kind}.{name}.weight", f".{kind}.{name}"):
                if key.endswith(end):
                    found[f"{key.removesuffix(end).removeprefix('base_model.model.')}.{kind[-1]}"] = p
    return found


if __name__ == "__main__":
    seed(7)
    g = torch.Generator().manual_seed(7)
    out = {}
    (first, options), *rest = LORAS.items()
    model = get_peft_model(load(), LoraConfig(task_type="CAUSAL_LM", **options), adapter_name=first)
    for name, options in rest:
        model.add_adapter(name, LoraConfig(task_type="CAUSAL_LM", **options))
    model = model.eval()
    randomize(model, "lora_", g)
    x = ids(2, 8, model.config.vocab_size, g)
    out["input_ids"] = x
    for name in LORAS:
        out |= {f"in.{name}.{k}": v for k, v in factors(model, name).items()}
    for case, (adapters, weights, arguments) in CASES.items():
        name = case.replace("-", "_")
        model.base_model.add_weighted_adapter(adapters, weights, name, **arguments)
        for k, v in factors(model, name).items():
            out[f"{case}.{k}"] = v
        model.set_adapter(name)
        with torch.no_grad():
            out[f"{case}.logits"] = model(x).logits[:, -1]
    # another method as a LoRA
    other = get_peft_model(load(), LoHaConfig(task_type="CAUSAL_LM", r=2, alpha=3, target_modules=["q_proj", "down_proj"]))
    randomize(other, "hada_", g)
    with torch.no_grad():
        for key, module in other.named_modules():
            if hasattr(module, "hada_w1_a"):
                out[f"loha.{key.removeprefix('base_model.model.')}"] = module.get_delta_weight("default")
    for label, rank in (("rank", 3), ("variance", 0.9)):
        config, state = convert_to_lora(other, rank)
        out |= {f"loha-{label}.{k.removeprefix('base_model.model.')}": v for k, v in state.items()}
    write(
        FIXTURES / "operations" / "peft.safetensors",
        out,
        made_by="tools/reference/adapters_operations.py",
        base=BASE,
        **versions("peft"),
    )
    print(sum(v.numel() * v.element_size() for v in out.values()) / 1e3, "kB", len(out), "tensors")
