"""PEFT's LoRA beyond linears: fused experts, activated LoRA, replicated layers, tables, larger vocabularies, names.

adapters_experts.py [NAME...]; adapters_experts.py check [NAME...] for what from-weft-experts.ts has written
"""

import json
import shutil
import sys
import zlib

from common import FIXTURES, ids, seed, versions, write  # first: it keeps the hub offline

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.save_and_load import get_peft_model_state_dict
from safetensors import safe_open
from transformers import AutoModelForCausalLM

ALL = dict(task_type="CAUSAL_LM", init_lora_weights=False, lora_dropout=0.0)
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]

# name: (base model, LoraConfig options, what else)
ADAPTERS = {
    "experts-both": ("qwen3_moe", dict(r=2, lora_alpha=4, target_modules=["q_proj"], target_parameters=EXPERTS), {}),
    "experts-down-router": (
        "mixtral",
        dict(
            r=2,
            lora_alpha=3,
            target_modules=[],
            target_parameters=["experts.down_proj", "mlp.gate.weight"],
            rank_pattern={r".*layers\.1\.mlp\.experts\.down_proj": 3},
            use_rslora=True,
        ),
        {},
    ),
    "alora": (
        "llama3",
        dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], alora_invocation_tokens=[5, 9]),
        {"invocation": [5, 9]},
    ),
    "replicated": (
        "llama3",
        dict(r=2, lora_alpha=4, target_modules=["q_proj", "up_proj"], layer_replication=[[0, 2], [1, 2], [0, 2]]),
        {},
    ),
    "table-saved": ("gpt2", dict(r=2, lora_alpha=4, target_modules=["c_proj"], modules_to_save=["wpe"], fan_in_fan_out=True), {}),
    "vocabulary-lora": ("llama3", dict(r=2, lora_alpha=4, target_modules=["embed_tokens", "q_proj"]), {"rows": 101}),
    "vocabulary-saved": (
        "llama",
        dict(r=2, lora_alpha=4, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"]),
        {"rows": 101},
    ),
    "vocabulary-frozen": ("llama3", dict(r=2, lora_alpha=4, target_modules=["v_proj"]), {"rows": 99, "embeddings": True}),
    "smaller-vocabulary": ("llama", dict(r=2, lora_alpha=4, target_modules=["v_proj"]), {"rows": 90, "embeddings": True}),
}


def load(name):
    return AutoModelForCausalLM.from_pretrained(
        FIXTURES / "models" / name, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def stir(model, g):
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.requires_grad:
                p.mul_(0.5 if "lora_" in key else 1.0).add_(0.1 * torch.randn(p.shape, generator=g))


def make(name):
    base, options, more = ADAPTERS[name]
    start = zlib.crc32(name.encode()) % 100000
    seed(start)
    g = torch.Generator().manual_seed(start)
    plain = load(base)
    if rows := more.get("rows"):
        plain.resize_token_embeddings(rows, mean_resizing=False)
        with torch.no_grad():
            for table in {plain.get_input_embeddings().weight, plain.get_output_embeddings().weight}:
                table[96:] = 0.3 * torch.randn(table[96:].shape, generator=g)
    model = get_peft_model(plain, LoraConfig(**ALL, **options)).eval()
    stir(model, g)
    x = ids(2, 12, model.config.vocab_size, g)
    if call := more.get("invocation"):
        x[0, 5 : 5 + len(call)] = torch.tensor(call)
    out = model(x, labels=x)
    model.zero_grad()
    out.loss.backward()
    grads = {f"grad.{key}": p.grad for key, p in model.named_parameters() if p.grad is not None}
    folder = FIXTURES / "peft" / name
    shutil.rmtree(folder, ignore_errors=True)
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(folder, save_embedding_layers=more.get("embeddings", "auto"))
    (folder / "README.md").unlink(missing_ok=True)
    tensors = {"input_ids": x, "logits": out.logits, "loss": out.loss}
    if name == "alora":
        with torch.no_grad():
            generated = model.generate(
                input_ids=x[:1, :8], attention_mask=torch.ones_like(x[:1, :8]), max_new_tokens=8, do_sample=False
            )
        tensors |= {"generated": generated, **grads}
    write(folder / "reference.safetensors", tensors, made_by="tools/reference/adapters_experts.py", base=base, **versions("peft"))
    size = sum(f.stat().st_size for f in folder.iterdir())
    config = json.loads((folder / "adapter_config.json").read_text())
    said = {k: config[k] for k in ("target_modules", "target_parameters", "rank_pattern", "alpha_pattern")}
    print(f"{name} on {base}: {size / 1e3:.0f} kB, {len(grads)} trained tensors, {said}")


def named():
    """Two adapters of one model, in folders of their names."""
    folder = FIXTURES / "peft" / "named"
    seed(7)
    g = torch.Generator().manual_seed(7)
    model = get_peft_model(load("llama"), LoraConfig(**ALL, r=2, target_modules=["q_proj"]), adapter_name="first")
    model.add_adapter("second", LoraConfig(**ALL, r=3, lora_alpha=5, target_modules=["v_proj"]))
    x = ids(1, 8, model.config.vocab_size, g)
    tensors = {"input_ids": x}
    for name in ("first", "second"):
        model.set_adapter(name)
        stir(model, g)
        with torch.no_grad():
            tensors[f"logits.{name}"] = model(x).logits
        model.peft_config[name].base_model_name_or_path = "llama"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    write(folder / "reference.safetensors", tensors, made_by="tools/reference/adapters_experts.py", **versions("peft"))
    print("named", sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()))


CHECKED = [
    "experts", "experts-router", "experts-apart", "alora", "replicated", "positions", "vocabulary", "vocabulary-embedding",
]


def check(name):
    """Logits of the real PEFT with an adapter that Weft wrote."""
    folder = FIXTURES / "peft" / f"from-weft-{name}"
    base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    seed(11)
    g = torch.Generator().manual_seed(zlib.crc32(name.encode()) % 100000)
    model = load(base)
    x = ids(2, 12, model.config.vocab_size, g)
    x[0, 5:7] = torch.tensor([7, 9])
    with torch.no_grad():
        plain = model(x).logits
    if name.startswith("vocabulary"):
        model.resize_token_embeddings(100, mean_resizing=False)
        x[1, 3] = 98
    model = PeftModel.from_pretrained(model, folder).eval()
    with torch.no_grad():
        logits = model(x).logits
    change = (logits[..., : plain.shape[-1]] - plain).abs()[0].max().item()
    write(folder / "reference.safetensors", {"input_ids": x, "logits": logits}, made_by="tools/reference/adapters_experts.py", base=base, **versions("peft"))
    with safe_open(folder / "adapter_model.safetensors", "pt") as f:
        odd = set(f.keys()) ^ set(get_peft_model_state_dict(model))
    print(f"from-weft-{name} on {base}: largest change of a logit {change:.2f}; keys that only one writes: {sorted(odd)[:6] or 'none'}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        for wanted in sys.argv[2:] or CHECKED:
            check(wanted)
        sys.exit()
    for wanted in sys.argv[1:] or [*ADAPTERS, "named"]:
        named() if wanted == "named" else make(wanted)
