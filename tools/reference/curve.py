"""Twenty steps of LoRA in PEFT and torch: start, data, losses, gradients' norms, learning rates, end. curve.py [NAME...]"""

import json
import shutil
import sys

from adapters import load
from common import FIXTURES, ids, seed, versions, write

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import get_cosine_schedule_with_warmup

STEPS, WARMUP, RATE, DECAY = 20, 3, 1e-2, 0.01

# name: (clip, learning rate of a constant schedule or None for cosine, weight decay, optimizer)
CURVES = {
    "adamw-cosine": dict(clip=None),
    "adamw-cosine-clip": dict(clip=1.0),
    "adamw-constant-decay": dict(clip=None, constant=True, decay=0.1),
    "sgd-momentum": dict(clip=1.0, constant=True, optimizer="sgd", rate=0.05, decay=0.0),
}


def curve(name, clip, constant=False, decay=DECAY, optimizer="adamw", rate=RATE):
    seed(7)
    g = torch.Generator().manual_seed(7)
    folder = FIXTURES / "peft" / "curve"
    # four batches, five times over, so that there is something to learn
    batches = ids(4 * 2, 16, 96, g).reshape(4, 2, 16).repeat(STEPS // 4, 1, 1)
    if not (folder / "start").exists():
        options = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["q_proj", "v_proj"])
        model = get_peft_model(load("llama3"), options)
        model.peft_config["default"].base_model_name_or_path = "llama3"
        model.save_pretrained(folder / "start")
        (folder / "start" / "README.md").unlink(missing_ok=True)
    model = PeftModel.from_pretrained(load("llama3"), folder / "start", is_trainable=True).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    if optimizer == "adamw":
        step = torch.optim.AdamW(trained, lr=rate, weight_decay=decay)
    else:
        step = torch.optim.SGD(trained, lr=rate, momentum=0.9, weight_decay=decay)
    schedule = None if constant else get_cosine_schedule_with_warmup(step, WARMUP, STEPS)
    losses, rates, norms = [], [], []
    for batch in batches:
        loss = model(batch, labels=batch).loss
        step.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(trained, clip or float("inf")).item())
        rates.append(step.param_groups[0]["lr"])
        losses.append(loss.item())
        step.step()
        if schedule:
            schedule.step()
    end = folder / f"{name}-end"
    shutil.rmtree(end, ignore_errors=True)
    model.peft_config["default"].base_model_name_or_path = "llama3"
    model.save_pretrained(end)
    (end / "README.md").unlink(missing_ok=True)
    settings = dict(
        base="llama3", optimizer=optimizer, betas=[0.9, 0.999], eps=1e-8, momentum=0.9 if optimizer == "sgd" else None,
        rate=rate, weight_decay=decay, schedule="constant" if constant else "cosine", warmup=0 if constant else WARMUP,
        steps=STEPS, clip=clip, start="start", end=end.name,
    )
    (folder / f"{name}.json").write_text(json.dumps({**settings, **versions("torch", "transformers", "peft")}, indent=2) + "\n")
    tensors = {
        "input_ids": batches,
        "losses": torch.tensor(losses, dtype=torch.float64),
        "rates": torch.tensor(rates, dtype=torch.float64),
        "grad_norms": torch.tensor(norms, dtype=torch.float64),
    }
    write(folder / f"{name}.safetensors", tensors, made_by="tools/reference/curve.py", **versions("peft"))
    print(name, "losses", [round(x, 3) for x in losses], "norms", [round(x, 2) for x in norms])
    print("  rates", [round(x, 5) for x in rates])


if __name__ == "__main__":
    if len(sys.argv) == 1:
        shutil.rmtree(FIXTURES / "peft" / "curve", ignore_errors=True)
    for wanted in sys.argv[1:] or CURVES:
        curve(wanted, **CURVES[wanted])
