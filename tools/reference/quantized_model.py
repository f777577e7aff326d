"""A tiny Llama as transformers and bitsandbytes store it in 4 bits, double quantized, and the logits it gives."""

import shutil

from common import FIXTURES, versions, write

import bitsandbytes as bnb
import torch
from quant import decode_4bit
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

NAME = "llama3-nf4"
folder = FIXTURES / "models" / NAME
shutil.rmtree(folder, ignore_errors=True)
source = FIXTURES / "models" / "llama3"
options = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32
)
packed = AutoModelForCausalLM.from_pretrained(source, quantization_config=options, dtype=torch.float32, device_map="cpu")
# the logits come from the decoded weights in the plain model: decode_4bit says why
model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, attn_implementation="eager").eval()
ids = load_file(source / "reference.safetensors")["input_ids"]
with torch.no_grad():
    dense = model(ids).logits
    for name, layer in packed.named_modules():
        if isinstance(layer, bnb.nn.Linear4bit):
            model.get_submodule(name).weight.copy_(decode_4bit(layer.weight.data, layer.weight.quant_state))
    out = model(ids, labels=ids)
packed.save_pretrained(folder)
write(folder / "reference.safetensors", {"input_ids": ids, "logits": out.logits, "loss": out.loss},
      made_by="tools/reference/quantized_model.py", model=NAME, **versions("bitsandbytes"))
print("loss", out.loss.item(), "largest change of a logit", (out.logits - dense).abs().max().item())
