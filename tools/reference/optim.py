"""Steps of torch's optimizers and rates of transformers' schedules, for packages/optim: optim.py"""

from common import ROOT, seed, versions, write

import json

import torch
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

OUT = ROOT / "packages" / "optim" / "test" / "fixtures"
STEPS = 6

OPTIMIZERS = {
    "adamw": (torch.optim.AdamW, dict(lr=0.1, weight_decay=0.01)),
    "adamw-betas": (torch.optim.AdamW, dict(lr=0.03, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3)),
    "adamw-no-decay": (torch.optim.AdamW, dict(lr=0.05, weight_decay=0.0)),
    "sgd": (torch.optim.SGD, dict(lr=0.1)),
    "sgd-momentum": (torch.optim.SGD, dict(lr=0.05, momentum=0.9, weight_decay=0.1)),
    "sgd-nesterov": (torch.optim.SGD, dict(lr=0.05, momentum=0.8, nesterov=True)),
}
SCHEDULES = {
    "constant": lambda o: get_constant_schedule_with_warmup(o, 4),
    "linear": lambda o: get_linear_schedule_with_warmup(o, 3, 20),
    "linear-no-warmup": lambda o: get_linear_schedule_with_warmup(o, 0, 20),
    "cosine": lambda o: get_cosine_schedule_with_warmup(o, 5, 20),
    "cosine-no-warmup": lambda o: get_cosine_schedule_with_warmup(o, 0, 20),
}


def main():
    seed(3)
    g = torch.Generator().manual_seed(3)
    starts = {"w": torch.randn(4, 3, generator=g), "v": torch.randn(5, generator=g)}
    grads = [{n: torch.randn(p.shape, generator=g) * 10 ** (1 - i) for n, p in starts.items()} for i in range(STEPS)]
    tensors = {f"start.{n}": p for n, p in starts.items()}
    tensors |= {f"grad.{i}.{n}": t for i, gs in enumerate(grads) for n, t in gs.items()}
    options = {}
    for name, (make, given) in OPTIMIZERS.items():
        params = {n: p.clone().requires_grad_() for n, p in starts.items()}
        optimizer = make(params.values(), **given)
        for i, gs in enumerate(grads):
            for n, p in params.items():
                p.grad = gs[n].clone()
            optimizer.step()
            tensors |= {f"{name}.{i}.{n}": p.detach().clone() for n, p in params.items()}
        options[name] = given
    for limit in (0.5, 100.0):
        for i, gs in enumerate(grads):
            params = [t.clone().requires_grad_() for t in gs.values()]
            for p, t in zip(params, gs.values()):
                p.grad = t.clone()
            norm = torch.nn.utils.clip_grad_norm_(params, limit)
            tensors |= {f"clip.{limit}.{i}.{n}": p.grad for n, p in zip(gs, params)}
            tensors[f"clip.{limit}.{i}.norm"] = norm
    write(OUT / "torch.safetensors", tensors, made_by="tools/reference/optim.py")
    rates = {}
    for name, make in SCHEDULES.items():
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2e-3)
        schedule = make(optimizer)
        rates[name] = []
        for _ in range(24):
            rates[name].append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
    (OUT / "schedules.json").write_text(
        json.dumps({"made_by": "tools/reference/optim.py", **versions("torch", "transformers"), "optimizers": options, "rates": rates}) + "\n"
    )
    print(len(tensors), "tensors", {p.name: p.stat().st_size for p in OUT.iterdir()})


if __name__ == "__main__":
    main()
