"""Adapters of peft_type LORA whose start or shape differs from plain LoRA, by the real PEFT: adapters_starts.py [NAME...]

Also peft/starts.safetensors: what PEFT's starts make of the tiny Llama on one batch (products B·A, ranks, directions).
"""

import dataclasses
import json
import shutil
import sys
import tempfile
import types
import zlib

from common import FIXTURES, ids, seed, versions, write  # first: it keeps the hub offline

# PEFT's corda.py takes a dataclass from attrs, which it does not ask for
sys.modules.setdefault("attr", types.SimpleNamespace(dataclass=dataclasses.dataclass))

import peft
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.config import CordaConfig, EvaConfig, KasaConfig, LoraGAConfig
from peft.tuners.lora.corda import preprocess_corda
from peft.tuners.lora.eva import initialize_lora_eva_weights
from peft.tuners.lora.loraga import preprocess_loraga
from transformers import AutoModelForCausalLM

SHAPES = dict(target_modules=["q_proj", "k_proj", "up_proj", "down_proj"])  # square, wide, tall
ONE = dict(target_modules=["down_proj"], layers_to_transform=[1])
R = dict(r=4, lora_alpha=6)

# name: (base model, LoraConfig options, how far each trained number is moved, converted to a plain LoRA when saved)
ADAPTERS = {
    "dora": ("llama3", dict(use_dora=True, init_lora_weights=False, **R, **SHAPES), 0.1, False),
    "dora-patterns": (
        "qwen2",
        dict(
            use_dora=True,
            use_rslora=True,
            init_lora_weights=False,
            bias="lora_only",
            rank_pattern={"q_proj": 6, r"layers\.1\.mlp\.up_proj": 1},
            alpha_pattern={"k_proj": 9},
            **R,
            **SHAPES,
        ),
        0.1,
        False,
    ),
    "dora-gpt2": ("gpt2", dict(use_dora=True, init_lora_weights=False, fan_in_fan_out=True, target_modules=["c_attn", "c_proj"], **R), 0.1, False),
    "dora-embedding": ("llama", dict(use_dora=True, init_lora_weights=False, target_modules=["embed_tokens", "v_proj"], **R), 0.1, False),
    "dora-head": ("llama", dict(use_dora=True, init_lora_weights=False, target_modules=["lm_head", "v_proj"], **R), 0.1, False),
    "rslora-patterns": (
        "llama3",
        dict(use_rslora=True, init_lora_weights=False, rank_pattern={"q_proj": 9}, alpha_pattern={"down_proj": 2}, **R, **SHAPES),
        0.1,
        False,
    ),
    "gaussian": ("llama3", dict(init_lora_weights="gaussian", **R, **SHAPES), 0.1, False),
    "orthogonal": ("llama3", dict(init_lora_weights="orthogonal", **R, **SHAPES), 0.1, False),
    "wide": ("llama3", dict(r=30, lora_alpha=30, rank_pattern={"up_proj": 70}, init_lora_weights=False, **SHAPES), 0.03, False),
    "pissa": ("qwen2", dict(init_lora_weights="pissa", **R, **SHAPES), 0.02, False),
    "pissa-gpt2": ("gpt2", dict(init_lora_weights="pissa", fan_in_fan_out=True, target_modules=["c_attn", "c_proj"], **R), 0.05, False),
    "pissa-converted": ("llama3", dict(init_lora_weights="pissa_niter_8", rank_pattern={"q_proj": 5}, alpha_pattern={"k_proj": 3}, **R, **SHAPES), 0.05, True),
    "olora": ("llama3", dict(init_lora_weights="olora", **R, **SHAPES), 0.05, False),
    "olora-converted": ("llama3", dict(init_lora_weights="olora", use_rslora=True, **R, **SHAPES), 0.05, True),
    "corda-converted": ("llama3", dict(init_lora_weights="corda", corda_config=CordaConfig(corda_method="kpm"), **R, **SHAPES), 0.05, True),
    "lora-ga-converted": ("llama3", dict(init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig(), **R, **SHAPES), 0.05, True),
    "eva": ("llama3", dict(init_lora_weights="eva", eva_config=EvaConfig(rho=2.0), **R, **SHAPES), 0.05, False),
    "kasa": ("llama3", dict(kasa_config=KasaConfig(beta=0.01, gamma=0.02), init_lora_weights=False, **R, **SHAPES), 0.1, False),
    # refused: what trained cannot be found from these
    "left-out/pissa-niter": ("llama3", dict(init_lora_weights="pissa_niter_4", **R, **SHAPES), 0.05, False),
    "left-out/corda": ("llama3", dict(init_lora_weights="corda", corda_config=CordaConfig(), **R, **SHAPES), 0.05, False),
    "left-out/lora-ga": ("llama3", dict(init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig(), **R, **SHAPES), 0.05, False),
}


def load(name):
    return AutoModelForCausalLM.from_pretrained(
        FIXTURES / "models" / name, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def started(base, options, x):
    """a PEFT model as training begins, the data having been looked at where the start asks"""
    model = load(base)
    config = LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **options)
    init = options.get("init_lora_weights")
    if init == "corda":
        preprocess_corda(model, config, run_model=lambda: [model(row[None]) for row in x])
    if init == "lora_ga":
        preprocess_loraga(model, config, train_step=lambda: model(x, labels=x).loss.backward())
    model = get_peft_model(model, config)
    if init == "eva":
        data = [dict(input_ids=x, attention_mask=torch.ones_like(x), labels=x)]
        initialize_lora_eva_weights(model, data, show_progress_bar=False)
    return model.eval()


def factors(model):
    """(module, A, B, factor) of each adapted module"""
    for name, m in model.named_modules():
        if "default" in getattr(m, "lora_A", {}):
            yield name.removeprefix("base_model.model."), m.lora_A["default"].weight, m.lora_B["default"].weight, m.scaling["default"]


def make(name):
    base, options, size, convert = ADAPTERS[name]
    start = zlib.crc32(name.encode()) % 100000
    seed(start)
    g = torch.Generator().manual_seed(start)
    vocabulary = load(base).config.vocab_size
    model = started(base, options, ids(4, 24, vocabulary, g))
    folder = FIXTURES / "peft" / name
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as first:
        if convert:
            model.save_pretrained(first)
        with torch.no_grad():
            for key, p in model.named_parameters():
                if p.requires_grad:
                    p.add_(size * torch.randn(p.shape, generator=g))
        x = ids(2, 12, vocabulary, g)
        with torch.no_grad():
            logits = model(x).logits
            plain = load(base)(x).logits
        # the base is found by the tests as a sibling folder
        model.peft_config["default"].base_model_name_or_path = base
        if convert:
            model.save_pretrained(folder, path_initial_model_for_weight_conversion=first)
        else:
            model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    write(folder / "reference.safetensors", {"input_ids": x, "logits": logits}, made_by="tools/reference/adapters_starts.py", base=base, **versions("peft"))
    total = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{name} on {base}: {total / 1e3:.0f} kB, largest change of a logit {(logits - plain).abs().max().item():.2f}")


def starts():
    """starts of one model on one batch: B·A·factor by module, ranks and directions of EVA"""
    seed(5)
    g = torch.Generator().manual_seed(5)
    x = ids(1, 60, load("llama3").config.vocab_size, g)
    tensors = {"input_ids": x}
    about = {}
    cases = {
        "pissa": dict(init_lora_weights="pissa"),
        "olora": dict(init_lora_weights="olora"),
        "corda-ipm": dict(init_lora_weights="corda", corda_config=CordaConfig(corda_method="ipm")),
        "corda-kpm": dict(init_lora_weights="corda", corda_config=CordaConfig(corda_method="kpm")),
        "lora-ga": dict(init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig()),
        "lora-ga-gd": dict(init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig(direction="ArBr", scale="gd_scale")),
        "lora-ga-svd": dict(init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig(direction="A2rBr", scale="weight_svd")),
        "eva": dict(init_lora_weights="eva", eva_config=EvaConfig(rho=2.0, tau=0.999)),
    }
    for name, options in cases.items():
        where = dict(target_modules=["q_proj", "down_proj"]) if name == "eva" else ONE
        model = started("llama3", dict(**options, **R, **where), x)
        for module, a, b, s in factors(model):
            # of EVA, B is zero; LoRA-GA pairs vectors of different triples, whose signs are free: what does not depend on signs
            if name == "eva" or name.startswith("lora-ga"):
                tensors[f"{name}.{module}"] = a.T @ a
            if name.startswith("lora-ga"):
                tensors[f"{name}-b.{module}"] = b @ b.T
            elif name != "eva":
                tensors[f"{name}.{module}"] = s * b @ a
        about[name] = [f"{module}: rank {a.shape[0]}" for module, a, _, _ in factors(model)]
    model = started("llama3", dict(kasa_config=KasaConfig(), **R, **ONE), x)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.copy_(torch.randn(p.shape, generator=g) * 0.3)
    for name, m in model.named_modules():
        if hasattr(m, "lora_diag"):
            module = name.removeprefix("base_model.model.")
            tensors[f"kasa.{module}"] = m.get_base_layer().weight
            for key, t in dict(a=m.lora_A["default"].weight, b=m.lora_B["default"].weight, d=m.lora_diag["default"]).items():
                tensors[f"kasa-{key}.{module}"] = t
    tensors["kasa-loss"] = model.base_model._get_kasa_loss().reshape(1)
    write(FIXTURES / "peft" / "starts.safetensors", tensors, made_by="tools/reference/adapters_starts.py", base="llama3", **versions("peft"))
    print(json.dumps(about["eva"]))


if __name__ == "__main__":
    print("peft", peft.__version__)
    for wanted in sys.argv[1:] or [*ADAPTERS, "starts"]:
        try:
            starts() if wanted == "starts" else make(wanted)
        except Exception as error:  # one that fails leaves the others
            print(wanted, "FAILED", repr(error)[:300])
