"""config.json as transformers 4 writes it, beside the one of version 5, after checking that it gives the same logits.

Run with transformers 4.57.6: published folders are mostly of that time (rope_theta and rope_scaling, torch_dtype).
"""

import json

from common import FIXTURES

import torch
import transformers
from families import DECODERS, ENCODERS
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

for name in [*DECODERS, *ENCODERS]:
    folder = FIXTURES / "models" / name
    want = load_file(folder / "reference.safetensors")
    if name in DECODERS:
        kind, options = DECODERS[name]
        model = AutoModelForCausalLM.from_config(kind(**options), attn_implementation="eager")
    else:
        kind, head, options = ENCODERS[name]
        config = kind(**options)
        config._attn_implementation = "eager"
        model = getattr(transformers, head)(config)
    model.config.architectures = [type(model).__name__]
    model.config.dtype = torch.float32
    result = model.eval().load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    model.tie_weights()
    inputs = {k: want[k] for k in ("input_ids", "attention_mask", "token_type_ids", "pixel_values") if k in want}
    with torch.no_grad():
        out = model(**inputs)
    key = "logits" if "logits" in want else "last_hidden_state"
    difference = (out[key] - want[key]).abs().max().item()
    print(f"{name}: {difference:.1e}", result.missing_keys, result.unexpected_keys)
    assert difference < 1e-5, name
    old = json.loads(model.config.to_json_string(use_diff=False))
    config = json.loads(model.config.to_json_string())
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    for field in ("rope_theta", "rope_scaling"):  # left out of the file where they are the class's default
        if field in old:
            config[field] = old[field]
    (folder / "config.v4.json").write_text(json.dumps(dict(sorted(config.items())), indent=2) + "\n")
