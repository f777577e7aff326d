"""Does the real PEFT give the logits that an adapter's writer says?

check_adapter.py BASE ADAPTER LOGITS.safetensors [--ids 1,2,3 | --ids-from FILE.safetensors] [--tolerance 1e-4]

LOGITS holds `logits`, [T, V] or [B, T, V], float32; the ids come from --ids, or from `input_ids` in --ids-from or in LOGITS.
Prints the largest absolute difference; exits with 1 when it is above the tolerance.
"""

import argparse
import sys

from common import FIXTURES  # noqa: F401  first: it keeps the hub offline

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("adapter", help="a PEFT folder, or - for the base alone")
    parser.add_argument("logits")
    parser.add_argument("--ids")
    parser.add_argument("--ids-from")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    options = parser.parse_args()

    given = load_file(options.logits)
    want = given["logits"].float()
    if options.ids:
        ids = torch.tensor([[int(i) for i in options.ids.split(",")]])
    else:
        ids = (load_file(options.ids_from) if options.ids_from else given)["input_ids"].long()
    ids = ids.reshape(-1, ids.shape[-1])

    model = AutoModelForCausalLM.from_pretrained(options.base, dtype=torch.float32, attn_implementation="eager").eval()
    if options.adapter != "-":
        model = PeftModel.from_pretrained(model, options.adapter).eval()
    with torch.no_grad():
        logits = model(ids).logits
        loss = model(ids, labels=ids).loss.item()
    want = want.reshape(logits.shape)
    difference = (logits - want).abs().max().item()
    print(f"loss {loss:.6f}  largest absolute difference of {logits.numel()} logits {difference:.3e}")
    return 0 if difference <= options.tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
