"""What the Python sides share: the protocol's part of a child, and the weights that every side computes alike."""
import json
import math
import os
import resource
import sys
import time


def say(**said):
    print("@weft " + json.dumps(said), flush=True)


def options():
    return json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}


def cpu():
    t = os.times()
    return (t.user + t.system) * 1000


def serve(unit, facts, check=None):
    """unit() does one unit of work and returns its metrics; `ms` unless it says so itself."""
    say(event="ready", facts=facts, **({} if check is None else {"check": check}))
    for line in sys.stdin:
        word = line.strip()
        if word == "go":
            before, begun = cpu(), time.perf_counter()
            metrics = unit() or {}
            ms = (time.perf_counter() - begun) * 1000
            check = metrics.pop("check", None)
            said = {"ms": ms, **metrics}  # a side may time itself
            say(event="unit", unit=said, cpu=cpu() - before, **({} if check is None else {"check": check}))
        elif word == "end":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            say(event="end", peak=peak if sys.platform == "darwin" else peak * 1024, cpu=cpu())
            return


def values_of(name, shape):
    """As valuesOf of shape.ts."""
    import numpy as np

    n = math.prod(shape)
    if len(shape) == 1:
        return np.ones(n, np.float32)
    seed = 0x811C9DC5
    for c in name.encode():
        seed = ((seed ^ c) * 0x01000193) & 0xFFFFFFFF
    deviation = 0.08 if "embed" in name else 1 / math.sqrt(shape[1])
    factor = 2 * math.sqrt(3) * deviation / 2**32
    values = np.empty(n, np.float32)
    for start in range(0, n, 2**18):  # in pieces, so that the peak of memory is the model's
        h = np.arange(start, min(n, start + 2**18), dtype=np.uint32)
        h *= np.uint32(0x9E3779B1)
        h += np.uint32(seed)
        h ^= h >> np.uint32(15)
        h *= np.uint32(0x85EBCA6B)
        h ^= h >> np.uint32(13)
        values[start : start + len(h)] = (h.astype(np.float64) - 2**31) * factor
    return values.reshape(shape)


def torch_facts(threads):
    import torch
    import transformers

    torch.set_num_threads(threads)
    return {"torch": torch.__version__, "transformers": transformers.__version__, "threads": torch.get_num_threads()}


def llama(config, **more):
    """LlamaForCausalLM of a config.json, with those weights; made empty first, so that no time or memory goes to others."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**config, **more))
    model = model.to_empty(device="cpu")
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)  # its buffers are no parameters
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(values_of(name, tuple(p.shape))))
    model.tie_weights()
    return model


def ids_of(vocabulary, length, batch=1):
    import torch

    return ((torch.arange(batch * length) * 7919 + 13) % vocabulary).reshape(batch, length)
