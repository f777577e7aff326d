"""A QA-LoRA as PEFT writes it, and the logits it gives: adapters_qa_lora.py

PEFT puts its variant of a LoRA over GPTQModel's layers only, which multiply in 16 bits; here the same variant is put over
plain ones too, for logits in float32. What is written is what PEFT writes either way.
"""

import shutil

from common import FIXTURES, ids, seed, versions, write  # first: it keeps the hub offline

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Linear
from peft.tuners.lora.variants import QALoraLinearVariant
from transformers import AutoModelForCausalLM

plain = Linear.resolve_lora_variant
Linear.resolve_lora_variant = lambda self, *, config, **more: (
    QALoraLinearVariant() if config.use_qalora else plain(self, config=config, **more)
)

BASE, NAME = "llama", "lora-qalora"
seed(8)
g = torch.Generator().manual_seed(8)
base = AutoModelForCausalLM.from_pretrained(FIXTURES / "models" / BASE, dtype=torch.float32, attn_implementation="eager").eval()
x = ids(2, 12, base.config.vocab_size, g)
with torch.no_grad():
    dense = base(x).logits
config = LoraConfig(
    r=3, lora_alpha=6, use_qalora=True, qalora_group_size=4, target_modules=["q_proj", "v_proj", "up_proj"],
    rank_pattern={"v_proj": 2},
)
model = get_peft_model(base, config).eval()
with torch.no_grad():
    for p in model.parameters():
        if p.requires_grad:
            p.add_(0.2 * torch.randn(p.shape, generator=g))
    out = model(x, labels=x)
folder = FIXTURES / "peft" / NAME
shutil.rmtree(folder, ignore_errors=True)
model.peft_config["default"].base_model_name_or_path = BASE
model.save_pretrained(folder)
(folder / "README.md").unlink(missing_ok=True)
write(folder / "reference.safetensors", {"input_ids": x, "logits": out.logits, "loss": out.loss},
      made_by="tools/reference/adapters_qa_lora.py", base=BASE, **versions("peft"))
print("loss", out.loss.item(), "largest change of a logit", (out.logits - dense).abs().max().item())
