"""A training step of PyTorch and transformers: LoRA by PEFT, or all parameters."""
import common

o = common.options()

import torch  # noqa: E402

facts = common.torch_facts(o["threads"])
model = common.llama(o["config"])
if o.get("rank"):
    import peft

    facts["peft"] = peft.__version__
    targets = ["q_proj", "v_proj"]
    model = peft.get_peft_model(model, peft.LoraConfig(r=o["rank"], lora_alpha=o["rank"], target_modules=targets))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_A" in name:
                plain = name.replace("base_model.model.", "").replace(".default", "")
                p.copy_(torch.from_numpy(common.values_of(plain, tuple(p.shape))))
if o.get("checkpointing"):
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
model.train()
facts["attention"] = model.config._attn_implementation
trained = [p for p in model.parameters() if p.requires_grad]
facts["trained"] = sum(p.numel() for p in trained)
optimizer = torch.optim.AdamW(trained, lr=1e-3)
ids = common.ids_of(o["config"]["vocab_size"], o["length"], o.get("batch", 1))


def unit():
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return {"check": float(loss.detach())}


common.serve(unit, facts, None if o.get("cold") else unit()["check"])
