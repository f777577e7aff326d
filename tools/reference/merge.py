"""Tiny Llama checkpoints merged by mergekit's own command line, one YAML file each: merge.py [NAME...]"""

import shutil
import subprocess
import sys
from pathlib import Path

from common import FIXTURES, perturb, seed

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

OUT = FIXTURES / "merge"
WIDTH = dict(
    vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, max_position_embeddings=32, bos_token_id=None, eos_token_id=None, tie_word_embeddings=False,
)

MODELS = """models:
  - model: a
    parameters: { %s }
  - model: b
    parameters: { %s }
"""
CONFIGS = {
    "linear": "merge_method: linear\n" + MODELS % ("weight: 0.6", "weight: 0.9"),
    "linear-raw": "merge_method: linear\n" + MODELS % ("weight: 0.6", "weight: 0.9") + "parameters: { normalize: false }\n",
    "linear-three": "merge_method: linear\n" + MODELS % ("weight: 1", "weight: 2") + "  - model: c\n    parameters: { weight: 0.5 }\n",
    "task-arithmetic": "merge_method: task_arithmetic\nbase_model: base\n" + MODELS % ("weight: 0.6", "weight: 0.4"),
    "task-arithmetic-lambda": "merge_method: task_arithmetic\nbase_model: base\n"
    + MODELS % ("weight: 0.6", "weight: 0.9")
    + "parameters: { lambda: 0.7, normalize: true }\n",
    "ties": "merge_method: ties\nbase_model: base\n" + MODELS % ("weight: 0.6, density: 0.5", "weight: 0.4, density: 0.5"),
    "ties-raw": "merge_method: ties\nbase_model: base\n"
    + MODELS % ("weight: 0.6, density: 0.5", "weight: 0.4, density: 0.5")
    + "parameters: { normalize: false, lambda: 0.7 }\n",
    "ties-three": "merge_method: ties\nbase_model: base\n"
    + MODELS % ("weight: 0.5, density: 0.3", "weight: 0.3, density: 0.7")
    + "  - model: c\n    parameters: { weight: 0.8, density: 0.2 }\nparameters: { lambda: 1.3 }\n",
    # values by layer (a gradient) and by name (a filter), as published recipes have them
    "ties-gradient": """merge_method: ties
base_model: base
models:
  - model: a
    parameters:
      density: [1, 0.2]
      weight:
        - filter: mlp
          value: [0.25, 1]
        - filter: self_attn
          value: 0.7
        - value: 0.5
  - model: b
    parameters: { density: 0.4, weight: [0, 0.5, 1] }
parameters: { normalize: true }
""",
    "slices": """merge_method: linear
slices:
  - sources:
      - { model: a, layer_range: [0, 1], parameters: { weight: 0.3 } }
      - { model: b, layer_range: [0, 1], parameters: { weight: 0.7 } }
  - sources:
      - { model: a, layer_range: [1, 2], parameters: { weight: 0.9 } }
      - { model: b, layer_range: [1, 2], parameters: { weight: 0.1 } }
""",
}


def inputs():
    base = None
    for i, name in enumerate(["base", "a", "b", "c"]):
        seed(100 + i)
        g = torch.Generator().manual_seed(100 + i)
        model = LlamaForCausalLM(LlamaConfig(**WIDTH))
        if base is None:
            perturb(model, g)
            base = {k: v.clone() for k, v in model.state_dict().items()}
        else:  # the base and a change, as fine-tuning makes it; some tensors left alone
            model.load_state_dict(base)
            with torch.no_grad():
                for key, p in model.named_parameters():
                    if not (name == "b" and "norm" in key):
                        p.add_(0.1 * torch.randn(p.shape, generator=g))
        model.save_pretrained(OUT / name)
        (OUT / name / "generation_config.json").unlink(missing_ok=True)


def run(name):
    (OUT / f"{name}.yaml").write_text(CONFIGS[name] + "dtype: float32\n")
    result = OUT / "result"
    tool = Path(sys.executable).parent / "mergekit-yaml"
    command = [tool, f"{name}.yaml", "result", "--no-copy-tokenizer", "--no-write-model-card"]
    subprocess.run(command, cwd=OUT, check=True, capture_output=True, text=True)
    tensors = {}
    for file in sorted(result.glob("*.safetensors")):
        tensors |= load_file(file)
    save_file({k: v.contiguous() for k, v in tensors.items()}, OUT / f"{name}.safetensors", metadata={"format": "pt"})
    shutil.rmtree(result)
    start = load_file(OUT / "base" / "model.safetensors")
    moved = max((tensors[k] - v).abs().max().item() for k, v in start.items())
    print(f"{name}: {len(tensors)} tensors, {set(str(v.dtype) for v in tensors.values())}, at most {moved:.3f} from the base")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        shutil.rmtree(OUT, ignore_errors=True)
        inputs()
    for wanted in sys.argv[1:] or CONFIGS:
        try:
            run(wanted)
        except subprocess.CalledProcessError as error:
            print(wanted, "failed:", error.stderr[-300:])
