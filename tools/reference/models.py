"""Tiny random models as Hugging Face folders, with logits, gradients and greedy text beside: models.py [NAME...]"""

import shutil
import sys
import zlib

from common import FIXTURES, ids, perturb, seed, write  # first: it keeps the hub offline

import torch
import transformers
from families import DECODERS, ENCODERS
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

LENGTH, PROMPT, NEW = 14, 6, 16


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    found = {}
    for name, p in model.named_parameters():
        if p.grad is not None:
            found |= {f"grad.{one}": g for one, g in apart(model, name, p.grad)}
    return found


def apart(model, name, tensor):
    """A tensor of all experts as those of each, under the names of a file that has them apart."""
    mixtral = model.config.model_type == "mixtral"
    head, _, last = name.rpartition(".")
    if not head.endswith(".experts"):
        return [(name.replace(".mlp.gate.", ".block_sparse_moe.gate.") if mixtral else name, tensor)]
    if mixtral:
        head = head.replace(".mlp.", ".block_sparse_moe.")
    parts = {
        "gate_up_proj": ("w1", "w3") if mixtral else ("gate_proj", "up_proj"),
        "down_proj": ("w2",) if mixtral else ("down_proj",),
    }[last]
    return [
        (f"{head}.{e}.{part}.weight", piece)
        for e in range(len(tensor))
        for part, piece in zip(parts, tensor[e].chunk(len(parts)))
    ]


def greedy(model, prompt, mask=None, **options):
    """Greedy ids, prompt included, and the smallest gap between the best and the second best score."""
    mask = torch.ones_like(prompt) if mask is None else mask
    out = model.generate(
        prompt, attention_mask=mask, max_new_tokens=NEW, do_sample=False,
        return_dict_in_generate=True, output_scores=True, **options,
    )
    gaps = [s.topk(2, -1).values for s in out.scores]
    return out.sequences, min((g[:, 0] - g[:, 1]).min().item() for g in gaps)


def decoder(name, attempt=0):
    kind, options = DECODERS[name]
    start = zlib.crc32(name.encode()) % 100000 + attempt
    seed(start)
    g = torch.Generator().manual_seed(start)
    config = kind(**options)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    perturb(model, g)
    vocab = config.vocab_size
    x = ids(2, LENGTH, vocab, g)
    out = model(x, labels=x, output_hidden_states=True)
    tensors = {
        "input_ids": x,
        "logits": out.logits,
        "last_hidden_state": out.hidden_states[-1],
        "loss": out.loss,
        **gradients(model, out.loss),
    }
    with torch.no_grad():
        # two prompts of 6 and 4 tokens, padded on the left; positions count real tokens only
        padded = x[:, :PROMPT].clone()
        mask = torch.ones_like(padded)
        padded[1, :2], mask[1, :2] = 0, 0
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        plain, gap1 = greedy(model, x[:1, :PROMPT])
        repeated, gap2 = greedy(model, x[:1, :PROMPT], repetition_penalty=1.3)
        batch, gap3 = greedy(model, padded, mask)
        # a stop token that is first produced after some steps, if there is one
        fresh = [t for i, t in enumerate(plain[0, PROMPT:].tolist()) if i >= 3 and t not in plain[0, PROMPT : PROMPT + i]]
        if fresh:
            tensors["eos"] = torch.tensor(fresh[0])
            tensors["generated_eos"] = greedy(model, x[:1, :PROMPT], eos_token_id=fresh[0])[0]
        tensors |= {
            "generated": plain,
            "generated_repetition": repeated,
            "generated_padded": batch,
            "padded_input_ids": padded,
            "padded_mask": mask,
            "padded_positions": positions,
            "padded_logits": model(padded, attention_mask=mask, position_ids=positions).logits,
        }
    if hasattr(config, "router_aux_loss_coef"):
        balanced = model(x, labels=x, output_router_logits=True)
        tensors |= {"balance": balanced.aux_loss, "balanced_loss": balanced.loss}
        found = gradients(model, balanced.loss)
        tensors |= {f"balanced_{key}": g for key, g in found.items() if ".gate.weight" in key}
        # no tie between experts that single precision could turn, and every expert is taken
        probabilities = [r.softmax(-1).topk(config.num_experts_per_tok + 1).values for r in balanced.router_logits]
        margin = min((p[:, -2] - p[:, -1]).min().item() for p in probabilities)
        chosen = [r.topk(config.num_experts_per_tok).indices.unique().numel() for r in balanced.router_logits]
        if (margin < 1e-3 or min(chosen) < balanced.router_logits[0].shape[-1]) and attempt < 200:
            return decoder(name, attempt + 1)
    gap = min(gap1, gap2, gap3)
    variety = len(set(plain[0, PROMPT:].tolist()))
    # too close a call for single precision, or text that any model would get right: other weights
    if (gap < 0.01 or variety < 7 or len(fresh) == 0) and attempt < 200:
        return decoder(name, attempt + 1)
    print(f"attempt {attempt}:", plain[0, PROMPT:].tolist())
    save(name, model, tensors, gap)


def encoder(name):
    kind, head, options = ENCODERS[name]
    start = zlib.crc32(name.encode()) % 100000
    seed(start)
    g = torch.Generator().manual_seed(start)
    config = kind(**options)
    config._attn_implementation = "eager"
    model = getattr(transformers, head)(config).eval()
    perturb(model, g)
    if name == "vit":
        x = torch.randn(2, 3, 32, 32, generator=g)
        labels = torch.tensor([3, 7])
        out = model(x, labels=labels, output_hidden_states=True)
        tensors = {"pixel_values": x, "labels": labels, "logits": out.logits, "loss": out.loss}
        tensors["last_hidden_state"] = model.vit(x).last_hidden_state
        return save(name, model, tensors | gradients(model, out.loss))
    x = ids(2, LENGTH, config.vocab_size, g)
    mask = torch.ones_like(x)
    x[1, -4:], mask[1, -4:] = config.pad_token_id, 0
    types = torch.zeros_like(x)
    if config.type_vocab_size > 1:
        types[:, 6:] = 1
    tensors = {"input_ids": x, "attention_mask": mask, "token_type_ids": types}
    if head == "BertModel":
        out = model(x, attention_mask=mask, token_type_ids=types)
        # a loss that reaches every parameter: mean square of both outputs, real tokens only
        loss = out.pooler_output.square().mean() + (out.last_hidden_state * mask[..., None]).square().mean()
        tensors |= {"last_hidden_state": out.last_hidden_state, "pooler_output": out.pooler_output, "loss": loss}
    else:
        labels = x.masked_fill(mask == 0, -100)
        out = model(x, attention_mask=mask, token_type_ids=types, labels=labels, output_hidden_states=True)
        loss = out.loss
        tensors |= {"labels": labels, "logits": out.logits, "last_hidden_state": out.hidden_states[-1], "loss": loss}
    save(name, model, tensors | gradients(model, loss))


def save(name, model, tensors, gap=None):
    folder = FIXTURES / "models" / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    write(folder / "reference.safetensors", tensors, made_by="tools/reference/models.py", model=name)
    logits = tensors.get("logits", tensors.get("last_hidden_state"))
    missing = [n for n, _ in model.named_parameters() if f"grad.{n}" not in tensors]
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{name}: {size / 1e3:.0f} kB, loss {tensors['loss'].item():.4f}, logits std {logits.std().item():.2f}, "
          f"greedy gap {gap}, parameters without gradient {missing}")


def fused():
    """qwen3_moe and mixtral with the experts of a layer in one tensor, as transformers 5 keeps them in memory."""
    for name in ("qwen3_moe", "mixtral"):
        folder = FIXTURES / "models" / f"{name}-fused"
        shutil.rmtree(folder, ignore_errors=True)
        source = FIXTURES / "models" / name
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, attn_implementation="eager").eval()
        model.save_pretrained(folder, save_original_format=False)
        (folder / "generation_config.json").unlink()
        reference = load_file(source / "reference.safetensors")
        kept = {key: reference[key] for key in ("input_ids", "logits", "loss")}
        with torch.no_grad():
            assert (model(kept["input_ids"]).logits - kept["logits"]).abs().max() < 1e-5
        write(folder / "reference.safetensors", kept, made_by="tools/reference/models.py", model=name)
        print(folder.name, sorted(f.name for f in folder.iterdir()))


def sharded():
    """llama3 in bfloat16, in several files with an index; logits in single precision from the rounded weights."""
    name = "llama-sharded-bf16"
    folder = FIXTURES / "models" / name
    shutil.rmtree(folder, ignore_errors=True)
    source = FIXTURES / "models" / "llama3"
    AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16).save_pretrained(folder, max_shard_size="20KB")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    x = load_file(source / "reference.safetensors")["input_ids"]
    with torch.no_grad():
        out = model(x, labels=x)
    write(folder / "reference.safetensors", {"input_ids": x, "logits": out.logits, "loss": out.loss},
          made_by="tools/reference/models.py", model=name)
    print(name, sorted(f.name for f in folder.iterdir()), out.loss.item())


if __name__ == "__main__":
    for wanted in sys.argv[1:] or [*DECODERS, *ENCODERS, "llama-sharded-bf16", "fused"]:
        if wanted in DECODERS:
            decoder(wanted)
        elif wanted in ENCODERS:
            encoder(wanted)
        elif wanted == "fused":
            fused()
        else:
            sharded()
