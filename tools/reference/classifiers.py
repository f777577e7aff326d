"""Decoders with a label head: tiny models, their weights, and the logits that transformers gives."""

import shutil

import common
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification, LlamaForTokenClassification

SIZE = dict(
    vocab_size=24, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=32, pad_token_id=0, bos_token_id=1, eos_token_id=2, num_labels=3,
)


def main() -> None:
    for name, kind, more in (
        ("sequence", LlamaForSequenceClassification, {}),
        ("sequence-uncausal", LlamaForSequenceClassification, {"is_causal": False}),
        ("token", LlamaForTokenClassification, {"is_causal": False}),
    ):
        common.seed(7)
        generator = torch.Generator().manual_seed(7)
        config = LlamaConfig(**SIZE, **more)
        config._attn_implementation = "eager"
        model = kind(config).eval()
        common.perturb(model, generator)
        folder = common.FIXTURES / "classifiers" / name
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        ids = common.ids(3, 8, 24, generator)
        mask = torch.ones_like(ids)
        for row, length in ((1, 5), (2, 3)):
            ids[row, length:] = 0
            mask[row, length:] = 0
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask).logits
            later = ids.clone()
            later[0, 6] = 5 if ids[0, 6] != 5 else 6
            changed = model(input_ids=later, attention_mask=mask).logits
        common.write(folder / "reference.safetensors",
                     {"input_ids": ids.int(), "attention_mask": mask.int(), "logits": logits, "changed": changed})
        print(name, logits.shape, sum(f.stat().st_size for f in folder.iterdir()))


main()
