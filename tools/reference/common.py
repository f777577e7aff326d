"""What every fixture script shares: where fixtures go, seeded tensors, files with provenance."""

import importlib.metadata
import json
import os
import random
import sys
import warnings
from pathlib import Path

if os.environ.get("PYTHONHASHSEED") != "0":  # PEFT writes sets: fix their order
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import numpy  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "packages" / "testkit" / "fixtures"

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


def seed(value: int) -> None:
    random.seed(value)
    numpy.random.seed(value)
    torch.manual_seed(value)


def versions(*names: str) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in names}


def write(path: Path, tensors: dict[str, torch.Tensor], **metadata: str) -> None:
    """Tensors as one safetensors file whose metadata says which libraries made it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # one key: the library writes several in random order, and the same input shall give the same bytes
    about = json.dumps({**versions("torch", "transformers"), **metadata})
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, path, metadata={"about": about})


def perturb(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Random values for EVERY parameter, so that no norm is 1, no bias 0, and logits are far from uniform."""
    gemma = model.config.model_type.startswith("gemma")
    # a tied head that reads a residual full of the input token would only repeat it:
    # small embeddings, loud blocks and a loud last norm let the blocks decide
    tied = getattr(model.config, "tie_word_embeddings", False) and model.config.model_type not in ("bert", "roberta")
    last = ("model.norm.weight", "transformer.ln_f.weight")
    loud = ("lm_head", "o_proj", "down_proj", "c_proj") if tied else ("lm_head",)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim == 1:
                # norms keep their centre (1, or 0 for Gemma's 1 + w), biases start at 0
                p.copy_(p + 0.2 * noise + (2 if tied and name in last else 0))
            elif "embed" in name or "wte" in name or "wpe" in name:
                p.copy_((0.1 if gemma else 0.2 if tied else 0.4) * noise)
            else:
                # of an expert's matrix the last axis, of a patch all but the first
                fan_in = p.shape[0] if model.config.model_type == "gpt2" else p.shape[-1] if p.ndim == 3 else p[0].numel()
                gain = 2.5 if any(part in name for part in loud) else 1.1
                p.copy_(noise * gain / fan_in**0.5)


def ids(batch: int, length: int, vocab: int, generator: torch.Generator, low: int = 4) -> torch.Tensor:
    return torch.randint(low, vocab, (batch, length), generator=generator)
