"""Adapters of PEFT's methods on activations, vectors, rows and mixtures, with the logits they give: adapters_others.py [NAME...]"""

import json
import shutil
import sys
import zlib

from common import FIXTURES, ids, seed, versions, write  # first: it keeps the hub offline

import peft
import torch
from peft import LoraConfig, XLoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

QV = dict(target_modules=["q_proj", "v_proj"])
SHAPES = dict(target_modules=["q_proj", "k_proj", "up_proj", "down_proj"])  # square, wide, tall
BANK = dict(r=2, num_vectors=12, vector_length=8, topk=3, init_vector_bank_bound=0.5)

# name: (base model, PEFT's config, options, how far each trained number is moved)
ADAPTERS = {
    "ia3": ("qwen2", "IA3Config", dict(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]), 0.3),
    "ia3-gpt2": (
        "gpt2",
        "IA3Config",
        dict(target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"], fan_in_fan_out=True),
        0.3,
    ),
    "ln-tuning": ("llama3", "LNTuningConfig", dict(target_modules=["input_layernorm", "post_attention_layernorm", "norm"]), 0.3),
    "ln-tuning-gpt2": ("gpt2", "LNTuningConfig", dict(target_modules=["ln_1", "ln_f"]), 0.3),
    "ln-tuning-gemma": ("gemma3_text", "LNTuningConfig", dict(target_modules=r".*layers\.\d\.(input_layernorm|self_attn\.q_norm)"), 0.3),
    "c3a": ("llama3", "C3AConfig", dict(block_size=8, block_size_pattern={"k_proj": 4}, **SHAPES), 1.0),
    "vblora": ("llama3", "VBLoRAConfig", dict(**BANK, **SHAPES), 0.3),
    "vblora-gpt2": ("gpt2", "VBLoRAConfig", dict(**BANK, target_modules=["c_attn"], fan_in_fan_out=True), 0.3),
    "vblora-compact": ("llama3", "VBLoRAConfig", dict(save_only_topk_weights=True, **BANK, **SHAPES), 0.3),
    "shira": ("llama3", "ShiraConfig", dict(r=2, random_seed=3, **QV), 0.3),
    "delora": (
        "llama3",
        "DeloraConfig",
        dict(r=3, delora_lambda=4, rank_pattern={"q_proj": 5}, lambda_pattern={"down_proj": 2}, **SHAPES),
        0.3,
    ),
    "miss": ("llama3", "MissConfig", dict(r=5, **SHAPES), 0.1),
    "miss-mini": ("llama3", "MissConfig", dict(r=4, mini_r=4, init_weights="mini", **SHAPES), 0.2),
    "miss-bat": ("llama3", "MissConfig", dict(r=4, init_weights="bat", **SHAPES), 0.1),
    "trainable-tokens": ("llama", "TrainableTokensConfig", dict(token_indices=[5, 60, 7], target_modules=["embed_tokens"]), 0.5),
    "trainable-tokens-tied": ("llama3", "TrainableTokensConfig", dict(token_indices=[9, 2]), 0.5),
    "lora-tokens": ("llama", "LoraConfig", dict(r=2, lora_alpha=4, trainable_token_indices=[5, 60, 7], **QV), 0.3),
    "lora-tokens-tied": ("llama3", "LoraConfig", dict(r=2, lora_alpha=4, trainable_token_indices={"embed_tokens": [9, 2]}, **QV), 0.3),
    "adalora": ("llama3", "AdaLoraConfig", dict(init_r=4, target_r=2, lora_alpha=16, tinit=1, tfinal=2, total_step=8, **SHAPES), 0.3),
    "adalora-whole": ("llama3", "AdaLoraConfig", dict(init_r=3, target_r=2, lora_alpha=5, total_step=100, **QV), 0.3),
    "poly": ("llama3", "PolyConfig", dict(r=2, n_tasks=3, n_skills=3, **SHAPES), 0.5),
    "poly-heads": ("llama3", "PolyConfig", dict(r=2, n_tasks=4, n_skills=2, n_splits=4, **QV), 0.5),
}


def load(name):
    return AutoModelForCausalLM.from_pretrained(
        FIXTURES / "models" / name, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def stir(model, g, far):
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.requires_grad:
                p.add_(far * torch.randn(p.shape, generator=g))


def budget(model, x, steps, tensors):
    """AdaLoRA's own training, with what goes in and what comes out of its allocator"""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.02)
    losses = []
    for step in range(1, steps + 1):
        model.train()
        optimizer.zero_grad()
        loss = model(x, labels=x).loss
        losses.append(loss.detach())
        loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        for key, p in model.named_parameters():
            if "lora_E" in key:
                tensors[f"step.{step}.{key}"] = p
                tensors[f"step.{step}.{key}"] = p.detach().clone()
    tensors["losses"] = torch.stack(losses)
    model.eval()


def make(name):
    base, config, options, far = ADAPTERS[name]
    start = zlib.crc32(name.encode()) % 100000
    seed(start)
    g = torch.Generator().manual_seed(start)
    config = getattr(peft, config)(task_type="CAUSAL_LM", **options)
    model = get_peft_model(load(base), config).eval()
    stir(model, g, far)
    x = ids(2, 10, model.config.vocab_size, g)
    tensors = {"input_ids": x}
    given = {}
    if name.startswith("poly"):
        given = dict(task_ids=torch.tensor([2, 0]))
        tensors["task"] = given["task_ids"].int()
    if "trainable-tokens" in name or "lora-tokens" in name:
        x[0, :3] = torch.tensor([2, 9, 5])
        x[1, :3] = torch.tensor([60, 7, 9])
    folder = FIXTURES / "peft" / name
    if name == "adalora":
        start_state = {f"start.{k}": p.detach().clone() for k, p in model.named_parameters() if p.requires_grad}
        tensors |= start_state
        budget(model, x, 8, tensors)
    shutil.rmtree(folder, ignore_errors=True)
    with torch.no_grad():
        logits = model(x, **given).logits
        with model.disable_adapter():
            plain = model(x).logits
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    write(folder / "reference.safetensors", {**tensors, "logits": logits}, made_by="tools/reference/adapters_others.py", base=base, **versions("peft"))
    tell(name, base, folder, (logits - plain).abs().max().item())


def tell(name, base, folder, change):
    from safetensors import safe_open

    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    with safe_open(folder / "adapter_model.safetensors", "pt") as f:
        some = [(k, str(f.get_tensor(k).dtype), list(f.get_tensor(k).shape)) for k in list(f.keys())[:6]]
    print(f"{name} on {base}: {size / 1e3:.0f} kB, largest change of a logit {change:.2f}, {some}")


XLORA = {
    "xlora": dict(layerwise_scalings=True, xlora_depth=2, xlora_size=6, softmax_temperature=0.5),
    "xlora-top": dict(top_k_lora=1, enable_softmax_topk=True, global_scaling_weight=1.5),
    "xlora-first": dict(scaling_pass_value=0.4, enable_softmax=False),
}


def xlora(name):
    """A gate, and two LoRAs in folders of its own, as PEFT has several adapters."""
    base = "llama3"
    seed(11)
    g = torch.Generator().manual_seed(zlib.crc32(name.encode()) % 100000)
    folder = FIXTURES / "peft" / name
    shutil.rmtree(folder, ignore_errors=True)
    for i, r in enumerate((2, 3)):
        model = get_peft_model(load(base), LoraConfig(task_type="CAUSAL_LM", r=r, lora_alpha=2 * r + i, target_modules=["q_proj", "down_proj"]))
        stir(model, g, 0.2)
        model.peft_config["default"].base_model_name_or_path = base
        model.save_pretrained(folder / str(i))
        (folder / str(i) / "README.md").unlink(missing_ok=True)
    plain = load(base)
    plain.config.use_cache = False
    options = XLORA[name]
    config = XLoraConfig(task_type="CAUSAL_LM", hidden_size=plain.config.hidden_size, adapters={"0": str(folder / "0"), "1": str(folder / "1")}, **options)
    model = get_peft_model(plain, config).eval()
    stir(model, g, 0.5)
    x = ids(2, 10, model.config.vocab_size, g)
    with torch.no_grad():
        logits = model(x).logits
        gates = model.base_model.internal_xlora_scalings
        base_logits = load(base)(x).logits
    model.peft_config["default"].base_model_name_or_path = base
    model.peft_config["default"].adapters = {"0": "0", "1": "1"}
    config.inference_mode = True
    config.save_pretrained(folder)
    # save_pretrained of PEFT 0.21 takes the numbers in "layers.0" for names of adapters, and leaves these layers out
    gate = {k: v.detach().clone() for k, v in model.state_dict().items() if "internal_xlora_classifier" in k}
    save_file(gate, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    write(folder / "reference.safetensors", {"input_ids": x, "logits": logits, "gates": gates}, made_by="tools/reference/adapters_others.py", base=base, **versions("peft"))
    print(sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()))
    tell(name, base, folder, (logits - base_logits).abs().max().item())


if __name__ == "__main__":
    print("peft", peft.__version__)
    for wanted in sys.argv[1:] or [*ADAPTERS, *XLORA]:
        try:
            (xlora if wanted in XLORA else make)(wanted)
        except Exception as error:
            import traceback

            traceback.print_exc()
            print("FAILED", wanted, error)
