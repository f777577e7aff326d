"""Logits that the real PEFT gives with adapters that Weft wrote (from-weft.ts): from_weft.py [NAME...]"""

import json
import sys
import zlib

from common import FIXTURES, ids, seed, versions, write  # first: it keeps the hub offline

import peft
import torch
from peft import PeftConfig, PeftModel
from peft.utils.save_and_load import get_peft_model_state_dict
from safetensors import safe_open
from transformers import AutoModelForCausalLM


def check(folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    base = config["base_model_name_or_path"]
    start = zlib.crc32(folder.name.encode()) % 100000
    seed(start)
    g = torch.Generator().manual_seed(start)
    load = lambda: AutoModelForCausalLM.from_pretrained(
        FIXTURES / "models" / base, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    plain, given = load(), {}
    if config["peft_type"] == "XLORA":  # PEFT opens its LoRAs under the paths in the config, and reads a text twice
        plain.config.use_cache = False
        given = {"config": PeftConfig.from_pretrained(folder)}
        given["config"].adapters = {name: str(folder / at) for name, at in given["config"].adapters.items()}
    model = PeftModel.from_pretrained(plain, folder, **given).eval()
    x = ids(2, 12, model.config.vocab_size, g)
    tasks = {"task": torch.tensor([2, 0], dtype=torch.int32)} if config["peft_type"] == "POLY" else {}
    with torch.no_grad():
        logits = model(x, **{"task_ids": t.long() for t in tasks.values()}).logits
        change = (logits - load()(x).logits).abs().max().item()
    with safe_open(folder / "adapter_model.safetensors", "pt") as f:
        ours = set(f.keys())
    theirs = set(get_peft_model_state_dict(model))
    if given:  # and leaves layers of the gate out when it saves
        theirs = {k for k in model.state_dict() if "internal_xlora_classifier" in k}
    write(folder / "reference.safetensors", {"input_ids": x, **tasks, "logits": logits}, made_by="tools/reference/from_weft.py", base=base, **versions("peft"))
    odd = ours ^ theirs
    print(f"{folder.name} on {base}: largest change of a logit {change:.2f}; keys that only one writes: {sorted(odd) or 'none'}")


if __name__ == "__main__":
    print("peft", peft.__version__)
    names = sys.argv[1:] or sorted(p.name for p in (FIXTURES / "peft").glob("from-weft-*"))
    for wanted in names:
        check(FIXTURES / "peft" / wanted)
