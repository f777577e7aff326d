"""Which modules PEFT adapts and which tensors it trains whole, for many configs on the tiny models: targets.py"""

import json

from adapters import load
from common import FIXTURES, seed, versions

from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer

CASES = {
    "llama3": [
        dict(target_modules=["q_proj"]),
        dict(target_modules=["proj"]),
        dict(target_modules=["self_attn.q_proj", "mlp.up_proj"]),
        dict(target_modules=["model.layers.0.self_attn.q_proj"]),
        dict(target_modules=["layers.1.mlp.down_proj", "lm_head"]),
        dict(target_modules="q_proj"),
        dict(target_modules=r".*q_proj"),
        dict(target_modules=r"model\.layers\.(?P<n>\d)\.self_attn\.[qk]_proj"),
        dict(target_modules=r"(?i).*LAYERS\.0.*_PROJ"),
        dict(target_modules=r".*\.mlp\.(gate|up)_proj|lm_head"),
        dict(target_modules="all-linear"),
        dict(target_modules="ALL-LINEAR"),
        dict(target_modules="all-linear", exclude_modules=["v_proj", "down_proj"]),
        dict(target_modules=["q_proj", "v_proj"], exclude_modules=["layers.1.self_attn.q_proj"]),
        dict(target_modules=["q_proj", "v_proj"], exclude_modules=r".*\.0\..*"),
        dict(target_modules=["q_proj", "up_proj"], layers_to_transform=[1]),
        dict(target_modules=["q_proj", "up_proj"], layers_to_transform=0),
        dict(target_modules=["q_proj", "up_proj"], layers_to_transform=0, layers_pattern="layers"),
        dict(target_modules=["q_proj", "up_proj"], layers_to_transform=[0, 1], layers_pattern=["h", "layers"]),
        dict(target_modules=["model.layers.0.self_attn.q_proj", "v_proj"], layers_to_transform=[1]),
        dict(target_modules=["q_proj", "lm_head"], layers_to_transform=[0]),
        dict(target_modules=["q_proj"], layers_to_transform=[]),
        dict(target_modules=["q_proj", "embed_tokens"], modules_to_save=["norm"]),
        dict(target_modules=["q_proj", "o_proj", "up_proj"], modules_to_save=["mlp"]),
        dict(target_modules=["q_proj", "up_proj"], modules_to_save=["layers.0.self_attn", "post_attention_layernorm"]),
        dict(target_modules=["q_proj", "k_proj"], rank_pattern={"q_proj": 2, ".*": 5}, alpha_pattern={"1.self_attn.k_proj": 3}),
        dict(target_modules=["q_proj", "k_proj"], rank_pattern={"k": 2, "layers.0.self_attn.[qk]_proj": 6, "proj": 7}),
        dict(target_modules=["q_proj", "k_proj"], rank_pattern={"self_attn.q_proj|k_proj": 3}, alpha_pattern={"^model.layers.1.*": 2}),
    ],
    "qwen2": [
        dict(target_modules=["q_proj"], bias="all"),
        dict(target_modules=["q_proj", "o_proj"], bias="lora_only"),
        dict(target_modules=["o_proj"], bias="lora_only"),
    ],
    "gpt2": [
        dict(target_modules=["c_attn"]),
        dict(target_modules=["c_proj"]),
        dict(target_modules=["mlp.c_proj", "wte"]),
        dict(target_modules="all-linear"),
        dict(target_modules=["c_attn"], layers_to_transform=[1], layers_pattern="h"),
        dict(target_modules=["c_attn"], layers_to_transform=[1]),
        dict(target_modules=["c_fc"], bias="all"),
        dict(target_modules=["c_fc"], bias="lora_only", modules_to_save=["ln_f"]),
    ],
    "gemma3_text": [
        dict(target_modules="all-linear"),
        dict(target_modules=["k_proj"], modules_to_save=["k_norm", "pre_feedforward_layernorm"]),
    ],
}


def main():
    out = []
    for base, configs in CASES.items():
        for config in configs:
            seed(0)
            given = {"r": 4, "lora_alpha": 8, **config}
            try:
                model = get_peft_model(load(base), LoraConfig(task_type="CAUSAL_LM", **given))
            except ValueError as error:
                out.append(dict(base=base, config=given, error=type(error).__name__))
                continue
            layers = {}
            for name, module in model.named_modules():
                if isinstance(module, BaseTunerLayer):
                    layers[name.removeprefix("base_model.model.")] = [module.r["default"], module.scaling["default"]]
            whole = sorted(
                n.removeprefix("base_model.model.").replace(".modules_to_save.default", "").replace(".base_layer", "")
                for n, p in model.named_parameters()
                if p.requires_grad and "lora_" not in n and ".original_module" not in n
            )
            out.append(dict(base=base, config=given, layers=dict(sorted(layers.items())), whole=whole))
    path = FIXTURES / "peft" / "targets.json"
    rows = ",\n  ".join(json.dumps(row) for row in out)
    path.write_text(f'{{"made_by": "tools/reference/targets.py", "versions": {json.dumps(versions("peft", "transformers"))}, "cases": [\n  {rows}\n]}}\n')
    print(len(out), "cases", path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
