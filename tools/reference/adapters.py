"""Adapters written by the real PEFT on the tiny models, with the logits they give: adapters.py [NAME...]"""

import shutil
import sys
import zlib

from common import FIXTURES, ids, seed, versions, write  # first: it keeps the hub offline

import peft
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

ALL = dict(task_type="CAUSAL_LM", init_lora_weights=False, lora_dropout=0.0)

# name: (base model, LoraConfig options)
ADAPTERS = {
    "lora-qv": ("llama3", dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])),
    "lora-all-linear-rslora": ("llama3", dict(r=4, lora_alpha=6, target_modules="all-linear", use_rslora=True)),
    "lora-patterns": (
        "llama3",
        dict(
            r=2,
            lora_alpha=4,
            target_modules=["q_proj", "k_proj", "v_proj", "down_proj"],
            rank_pattern={"v_proj": 3, r"layers\.1\.self_attn\.q_proj": 5, r"^model\.layers\.0\.mlp\.down_proj": 1},
            alpha_pattern={"v_proj": 9, r".*\.1\.mlp\.down_proj": 7},
        ),
    ),
    "lora-regex": (
        "llama3",
        dict(r=3, lora_alpha=3, target_modules=r".*\.layers\.[1-9]\.(self_attn\.(q|o)_proj|mlp\.up_proj)"),
    ),
    "lora-layers": (
        "llama3",
        dict(r=2, lora_alpha=4, target_modules=["k_proj", "gate_proj"], layers_to_transform=[1], layers_pattern="layers"),
    ),
    "lora-exclude": (
        "llama3",
        dict(r=2, lora_alpha=4, target_modules=["q_proj", "o_proj"], exclude_modules=r".*layers\.0\.self_attn\.o_proj"),
    ),
    "lora-bias-only": ("qwen2", dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], bias="lora_only")),
    "lora-bias-all": ("qwen2", dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], bias="all")),
    "lora-biased-lora": ("llama-biased", dict(r=2, lora_alpha=4, target_modules=["q_proj", "up_proj"], lora_bias=True)),
    "lora-modules-to-save": (
        "llama",
        dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head", "norm"]),
    ),
    "lora-embedding": ("llama", dict(r=4, lora_alpha=8, target_modules=["embed_tokens", "q_proj"])),
    "lora-embedding-tied": ("llama3", dict(r=4, lora_alpha=8, target_modules=["embed_tokens", "v_proj"])),
    "lora-head": ("llama", dict(r=4, lora_alpha=8, target_modules=["lm_head", "v_proj"])),
    "lora-gpt2": ("gpt2", dict(r=4, lora_alpha=8, target_modules=["c_attn"], fan_in_fan_out=True)),
    "lora-gpt2-all-linear": ("gpt2", dict(r=2, lora_alpha=4, target_modules="all-linear", fan_in_fan_out=True)),
}


def load(name):
    return AutoModelForCausalLM.from_pretrained(
        FIXTURES / "models" / name, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def make(name):
    base, options = ADAPTERS[name]
    start = zlib.crc32(name.encode()) % 100000
    seed(start)
    g = torch.Generator().manual_seed(start)
    model = get_peft_model(load(base), LoraConfig(**ALL, **options)).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.requires_grad:
                p.mul_(0.5 if "lora_" in key else 1.0).add_(0.1 * torch.randn(p.shape, generator=g))
    x = ids(2, 12, model.config.vocab_size, g)
    out = model(x, labels=x)
    model.zero_grad()
    out.loss.backward()
    grads = {f"grad.{key}": p.grad for key, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad(), model.disable_adapter():
        plain = model(x).logits
    folder = FIXTURES / "peft" / name
    shutil.rmtree(folder, ignore_errors=True)
    # the base is found by the tests as a sibling folder
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    tensors = {"input_ids": x, "logits": out.logits, "loss": out.loss, **grads}
    if name == "lora-qv":
        merged = model.merge_and_unload().state_dict()
        tensors |= {f"merged.{k}": v for k, v in merged.items() if "q_proj" in k or "v_proj" in k}
    write(folder / "reference.safetensors", tensors, made_by="tools/reference/adapters.py", base=base, **versions("peft"))
    size = sum(f.stat().st_size for f in folder.iterdir())
    change = (out.logits - plain).abs().max().item()
    print(f"{name} on {base}: {size / 1e3:.0f} kB, {len(grads)} trained tensors, largest change of a logit {change:.2f}")


if __name__ == "__main__":
    print("peft", peft.__version__)
    for wanted in sys.argv[1:] or ADAPTERS:
        make(wanted)
