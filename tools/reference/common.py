"""What every fixture script shares: where fixtures go, seeded tensors, files with provenance."""

import importlib.metadata
import os
import random
import warnings
from pathlib import Path

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
    info = {**versions("torch", "transformers"), **{k: str(v) for k, v in metadata.items()}}
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, path, metadata=info)


def perturb(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Random values for EVERY parameter, so that no norm is 1, no bias 0, and logits are far from uniform."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim == 1:
                # norms keep their centre (1, or 0 for Gemma's 1 + w), biases start at 0
                p.copy_(p + 0.2 * noise)
            elif "embed" in name or "wte" in name or "wpe" in name:
                p.copy_(0.4 * noise)
            else:
                fan_in = p.shape[0] if model.config.model_type == "gpt2" else p[0].numel()
                p.copy_(noise * (2.5 if "lm_head" in name else 1.1) / fan_in**0.5)


def ids(batch: int, length: int, vocab: int, generator: torch.Generator, low: int = 4) -> torch.Tensor:
    return torch.randint(low, vocab, (batch, length), generator=generator)
