"""Opens a checkpoint with from_pretrained and runs a first forward pass."""
import gc
import time

import common

o = common.options()

import torch  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402
from transformers.utils import logging  # noqa: E402

logging.set_verbosity_error()
logging.disable_progress_bar()
facts = common.torch_facts(o["threads"])
ids = common.ids_of(o["vocabulary"], o["length"])


def unit():
    begun = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(o["path"], dtype=torch.float32)
    opened = time.perf_counter()
    with torch.inference_mode():
        logits = model(input_ids=ids).logits
    check = float(logits[0, -1].max())
    ms = (time.perf_counter() - begun) * 1000
    del model, logits
    gc.collect()
    return {"ms": ms, "openMs": (opened - begun) * 1000, "check": check}


common.serve(unit, facts)
