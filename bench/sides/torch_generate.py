"""Greedy answers of transformers, without an end token."""
import common

o = common.options()

import torch  # noqa: E402

facts = common.torch_facts(o["threads"])
model = common.llama(o["config"]).eval()
model.generation_config.eos_token_id = None
model.generation_config.pad_token_id = 0
ids = common.ids_of(o["config"]["vocab_size"], o["prompt"], o["batch"])


def unit():
    with torch.inference_mode():
        n = o["tokens"]
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, min_new_tokens=n, do_sample=False)
    return {"check": float(out[:, ids.shape[1] : ids.shape[1] + 8].double().mean())}


common.serve(unit, facts, unit()["check"])
