"""The tiny models: one row per family, options in the spelling of published config.json files."""

from transformers import (
    BertConfig,
    GemmaConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    RobertaConfig,
    ViTConfig,
)

TOKENS = dict(bos_token_id=None, eos_token_id=None, pad_token_id=0)
SMALL = dict(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    initializer_range=0.2,
    tie_word_embeddings=False,
    **TOKENS,
)
ENCODER = dict(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=40,
    initializer_range=0.2,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    pad_token_id=1,
)
LLAMA3_ROPE = dict(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)
MOE = dict(router_aux_loss_coef=0.1)
SLIDE, FULL = "sliding_attention", "full_attention"

DECODERS = {
    "llama": (LlamaConfig, {**SMALL, "num_key_value_heads": 4}),
    "llama3": (
        LlamaConfig,
        {
            **SMALL,
            "hidden_size": 48,
            "intermediate_size": 64,
            "tie_word_embeddings": True,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0,
            "rope_scaling": LLAMA3_ROPE,
        },
    ),
    "llama-linear-rope": (LlamaConfig, {**SMALL, "rope_scaling": {"rope_type": "linear", "factor": 2.5}}),
    "llama-dynamic-rope": (
        LlamaConfig,
        {**SMALL, "max_position_embeddings": 8, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
    ),
    "llama-yarn-rope": (
        LlamaConfig,
        {
            **SMALL,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        },
    ),
    "llama-biased": (LlamaConfig, {**SMALL, "attention_bias": True, "mlp_bias": True, "head_dim": 16}),
    "smollm2": (
        LlamaConfig,
        {**SMALL, "hidden_size": 36, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 4,
         "tie_word_embeddings": True, "rms_norm_eps": 1e-5, "rope_theta": 100000.0},
    ),
    "qwen2": (Qwen2Config, {**SMALL, "tie_word_embeddings": True, "rope_theta": 1000000.0, "use_sliding_window": False}),
    "qwen3": (Qwen3Config, {**SMALL, "head_dim": 16, "rope_theta": 1000000.0}),
    "mistral": (MistralConfig, {**SMALL, "sliding_window": 5}),
    "gemma": (GemmaConfig, {**SMALL, "head_dim": 16, "tie_word_embeddings": True, "num_key_value_heads": 1}),
    "gemma2": (
        Gemma2Config,
        {
            **SMALL,
            "head_dim": 16,
            "tie_word_embeddings": True,
            "sliding_window": 5,
            "query_pre_attn_scalar": 24,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 6.0,
        },
    ),
    "gemma3_text": (
        Gemma3TextConfig,
        {
            **SMALL,
            "num_hidden_layers": 4,
            "head_dim": 16,
            "tie_word_embeddings": True,
            "sliding_window": 5,
            "query_pre_attn_scalar": 24,
            "rope_theta": 1000000.0,
            "rope_local_base_freq": 10000.0,
            "layer_types": [SLIDE, SLIDE, FULL, SLIDE],
        },
    ),
    # four experts, all of them taken by some of the 28 tokens
    "mixtral": (MixtralConfig, {**SMALL, **MOE, "num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 24}),
    "qwen3_moe": (
        Qwen3MoeConfig,
        {**SMALL, **MOE, "head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12,
         "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [0]},
    ),
    "qwen2_moe": (
        Qwen2MoeConfig,
        {**SMALL, **MOE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12,
         "shared_expert_intermediate_size": 20, "norm_topk_prob": False, "decoder_sparse_step": 1},
    ),
    "gpt2": (
        GPT2Config,
        dict(
            vocab_size=96,
            n_positions=64,
            n_embd=32,
            n_layer=2,
            n_head=4,
            initializer_range=0.2,
            attn_pdrop=0.0,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
            **TOKENS,
        ),
    ),
}

ENCODERS = {
    "bert": (BertConfig, "BertForMaskedLM", ENCODER),
    "bert-model": (BertConfig, "BertModel", ENCODER),
    "roberta": (RobertaConfig, "RobertaForMaskedLM", {**ENCODER, "type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "vit": (
        ViTConfig,
        "ViTForImageClassification",
        dict(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
            num_labels=10,
            initializer_range=0.2,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
    ),
}
