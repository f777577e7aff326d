"""Adapters of PEFT's methods on weights other than LoRA, with the logits they give: adapters_weights.py [NAME...]"""

import shutil
import sys
import zlib

from common import FIXTURES, ids, seed, versions, write  # first: it keeps the hub offline

import peft
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM

QV = dict(target_modules=["q_proj", "v_proj"])
SHAPES = dict(target_modules=["q_proj", "k_proj", "up_proj", "down_proj"])  # square, wide, tall
GPT2 = dict(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)

# name: (base model, PEFT's config, options, how far each trained number is moved)
ADAPTERS = {
    "vera": ("llama3", "VeraConfig", dict(r=6, **SHAPES), 0.3),
    "vera-gpt2": ("gpt2", "VeraConfig", dict(r=4, projection_prng_key=7, **GPT2), 0.3),
    "left-out/vera": ("llama3", "VeraConfig", dict(r=5, projection_prng_key=11, save_projection=False, **SHAPES), 0.3),
    "randlora": ("llama3", "RandLoraConfig", dict(r=5, randlora_alpha=10, layers_to_transform=[0], **SHAPES), 0.05),
    "randlora-sparse": ("llama3", "RandLoraConfig", dict(r=8, randlora_alpha=8, sparse=True, **QV), 0.05),
    "randlora-gpt2": ("gpt2", "RandLoraConfig", dict(r=8, randlora_alpha=8, very_sparse=True, target_modules=["c_attn"], layers_to_transform=[1], fan_in_fan_out=True), 0.05),
    "left-out/randlora": ("llama3", "RandLoraConfig", dict(r=6, randlora_alpha=12, save_projection=False, **SHAPES), 0.05),
    "left-out/randlora-sparse": (
        "llama3",
        "RandLoraConfig",
        dict(r=6, randlora_alpha=12, save_projection=False, very_sparse=True, projection_prng_key=3, **SHAPES),
        0.05,
    ),
    "loha": (
        "llama3",
        "LoHaConfig",
        dict(r=2, alpha=4, rank_pattern={"q_proj": 6}, alpha_pattern={r"layers\.1\.mlp\.down_proj": 9}, **SHAPES),
        0.2,
    ),
    "lokr": ("llama3", "LoKrConfig", dict(r=2, alpha=3, rank_pattern={"k_proj": 16}, **SHAPES), 0.3),
    "lokr-both": (
        "llama3",
        "LoKrConfig",
        dict(r=1, alpha=2, decompose_both=True, decompose_factor=4, init_weights="lycoris", **SHAPES),
        0.3,
    ),
    "oft": ("llama3", "OFTConfig", dict(oft_block_size=8, **SHAPES), 0.1),
    "oft-exact": ("llama3", "OFTConfig", dict(oft_block_size=0, r=3, use_cayley_neumann=False, **SHAPES), 0.3),
    "oft-shared": (
        "qwen2",
        "OFTConfig",
        dict(oft_block_size=4, block_share=True, coft=True, eps=0.5, num_cayley_neumann_terms=7, **QV),
        0.3,
    ),
    "oft-embedding": ("llama", "OFTConfig", dict(oft_block_size=8, target_modules=["embed_tokens", "o_proj"]), 0.1),
    "boft": ("qwen2", "BOFTConfig", dict(boft_block_size=4, bias="boft_only", **QV), 0.3),
    "boft-butterfly": ("llama3", "BOFTConfig", dict(boft_block_size=4, boft_n_butterfly_factor=3, **QV), 0.3),
    "hra": ("llama3", "HRAConfig", dict(r=4, **SHAPES), 0.1),
    "hra-orthogonal": ("llama3", "HRAConfig", dict(r=3, apply_GS=True, **QV), 0.3),
    "road": ("qwen2", "RoadConfig", dict(group_size=8, **QV), 0.3),
    "road-2": ("llama3", "RoadConfig", dict(variant="road_2", group_size=4, **SHAPES), 0.3),
    "road-4": ("llama3", "RoadConfig", dict(variant="road_4", group_size=8, **QV), 0.3),
    "gralora": ("llama3", "GraloraConfig", dict(r=4, alpha=6, **SHAPES), 0.2),
    "gralora-hybrid": ("gpt2", "GraloraConfig", dict(r=4, hybrid_r=2, gralora_k=4, **GPT2), 0.2),
    "hira": ("llama", "HiraConfig", dict(r=3, rank_pattern={"q_proj": 5}, target_modules=["q_proj", "embed_tokens"]), 0.3),
    "hira-gpt2": ("gpt2", "HiraConfig", dict(r=2, **GPT2), 0.3),
    "fourierft": (
        "llama3",
        "FourierFTConfig",
        dict(n_frequency=60, scaling=40.0, n_frequency_pattern={"k_proj": 25}, **SHAPES),
        0.3,
    ),
    "fourierft-gpt2": ("gpt2", "FourierFTConfig", dict(n_frequency=50, scaling=20.0, random_loc_seed=5, **GPT2), 0.3),
}


class BlockDiagonal:
    """In place of PEFT's CUDA extension, without which it makes one butterfly factor: [n, blocks, b, b] -> [n, d, d]"""

    @staticmethod
    def apply(blocks):
        return torch.stack([torch.block_diag(*factor) for factor in blocks])


def butterfly():
    from peft.tuners.boft import layer

    layer.get_fbd_cuda = lambda: True
    layer.FastBlockDiag = BlockDiagonal


def load(name):
    return AutoModelForCausalLM.from_pretrained(
        FIXTURES / "models" / name, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def make(name):
    base, config, options, far = ADAPTERS[name]
    start = zlib.crc32(name.encode()) % 100000
    seed(start)
    g = torch.Generator().manual_seed(start)
    if name == "boft-butterfly":
        butterfly()
    config = getattr(peft, config)(task_type="CAUSAL_LM", **options)
    model = get_peft_model(load(base), config).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.requires_grad:
                p.add_(far * torch.randn(p.shape, generator=g))
    x = ids(2, 10, model.config.vocab_size, g)
    folder = FIXTURES / "peft" / name
    shutil.rmtree(folder, ignore_errors=True)
    with torch.no_grad():
        logits = model(x).logits
        with model.disable_adapter():
            plain = model(x).logits
    # the base is found by the tests as a sibling folder
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    write(
        folder / "reference.safetensors",
        {"input_ids": x, "logits": logits},
        made_by="tools/reference/adapters_weights.py",
        base=base,
        **versions("peft"),
    )
    size = sum(f.stat().st_size for f in folder.iterdir())
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", "pt") as f:
        some = [(k, f.get_tensor(k).dtype, list(f.get_tensor(k).shape)) for k in list(f.keys())[:4]]
    change = (logits - plain).abs().max().item()
    print(f"{name} on {base}: {size / 1e3:.0f} kB, largest change of a logit {change:.2f}, {some}")


if __name__ == "__main__":
    print("peft", peft.__version__)
    for wanted in sys.argv[1:] or ADAPTERS:
        make(wanted)
