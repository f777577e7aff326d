"""Small tokenizers of the kinds that checkpoints have, and what the tokenizers library says they do to texts.

Run from anywhere: python tools/reference/text.py
"""
import json
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

OUT = Path(__file__).resolve().parents[2] / "packages/testkit/fixtures/tokenizers"

# what they are trained on: our own sentences
CORPUS = [
    "The weaver sets the warp before the weft, and the loom waits for both.",
    "A shuttle runs from left to right; the reed beats, and the cloth grows by a thread.",
    "Nobody counts the threads while the cloth is good, and everybody counts them when it is not.",
    "She wove a blue border, then a white one, then the blue again, and she sang while she wove.",
    "If the thread breaks, knot it; if the knot shows, call it a pattern.",
    "Colours: red, blue, green, ochre. Numbers: 12, 40, 365. It isn't late, we'll finish, they've begun.",
    "Über die Brücke, à côté du métier à tisser, naïve café.",
] * 4

TEXTS = [
    "The weaver wove a thread.",
    "the cloth, and the loom",
    " leading  and   inner spaces ",
    "na\u00efve caf\u00e9 \u2014 \u6771\u4eac \U0001f642",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308",
    "one\ntwo\n\n\tthree",
    "isn't we'll they've 365 40.12",
    "a",
    "",
    "<s>The<|user|> loom</s> grows",
    'Quoted: "weft" (warp), knot; pattern!',
    "e\u0301 is not \u00e9",
    "\ufffd is a character too",
]

SPECIAL = ["<s>", "</s>", "<pad>", "<|user|>", "<|assistant|>"]
CHAT = """{{ bos_token }}{% for message in messages %}
{% if message['role'] not in ['user', 'assistant', 'system'] %}
{{ raise_exception('no such role: ' + message['role']) }}
{% endif %}
<|{{ message['role'] }}|>{{ message['content'] | trim }}{{ eos_token }}
{% endfor %}
{% if add_generation_prompt %}
<|assistant|>
{% endif %}"""
MESSAGES = [
    {"role": "user", "content": "  Which thread comes first?\n"},
    {"role": "assistant", "content": "The warp."},
    {"role": "user", "content": "And then {{ this }}?"},
]


def template(bos, eos=None):
    single = f"{bos} $A" + (f" {eos}" if eos else "")
    return lambda t: processors.TemplateProcessing(
        single=single,
        pair=f"{single} $B:1" + (f" {eos}:1" if eos else ""),
        special_tokens=[(s, t.token_to_id(s)) for s in (bos, eos) if s],
    )


def byte_level():
    """as Llama 3 and GPT-2 have it, with BOS"""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=384, special_tokens=SPECIAL, initial_alphabet=alphabet))
    t.post_processor = template("<s>")(t)
    return t, {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "chat_template": CHAT}


def metaspace():
    """as Llama 1 and 2 and Mistral have it: bytes as tokens where a character has none"""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    words.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=200))
    learned = json.loads(words.to_str())["model"]
    names = ["<unk>", "<s>", "</s>", *bytes_, *sorted(learned["vocab"], key=learned["vocab"].get)]
    t.model = models.BPE(
        vocab={n: i for i, n in enumerate(names)}, merges=[tuple(m) for m in learned["merges"]],
        unk_token="<unk>", fuse_unk=True, byte_fallback=True,
    )
    t.add_special_tokens(["<unk>", "<s>", "</s>", "<|user|>"])
    t.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    t.post_processor = template("<s>")(t)
    special = {"content": "</s>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return t, {"bos_token": "<s>", "eos_token": special, "unk_token": "<unk>", "add_bos_token": True, "add_eos_token": False}


def word_piece():
    """as BERT has it"""
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=240, special_tokens=special))
    t.post_processor = template("[CLS]", "[SEP]")(t)
    return t, {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}


def unigram():
    """as SentencePiece's unigram model comes out of a conversion"""
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.NFKC()
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.decoder = decoders.Metaspace()
    t.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=180, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False)
    )
    return t, {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def raise_exception(message):
    raise ValueError(message)


def chat(config, generation):
    # the settings that transformers renders with
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    env.globals["raise_exception"] = raise_exception
    return env.from_string(CHAT).render(messages=MESSAGES, add_generation_prompt=generation, **config)


for name, make in {"byte-level": byte_level, "metaspace": metaspace, "wordpiece": word_piece, "unigram": unigram}.items():
    t, config = make()
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(t.to_str(pretty=False), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    rows = []
    for text in TEXTS:
        ids = t.encode(text).ids
        rows.append({
            "text": text, "ids": ids, "plain": t.encode(text, add_special_tokens=False).ids,
            "decoded": t.decode(ids, skip_special_tokens=False), "skipped": t.decode(ids, skip_special_tokens=True),
        })
    said = {"vocabulary": t.get_vocab_size(), "texts": rows}
    if "chat_template" in config:
        said["chat"] = {"messages": MESSAGES, "text": chat(config, False), "prompt": chat(config, True)}
    (folder / "expected.json").write_text(json.dumps(said, indent=1), encoding="utf-8")
    print(name, t.get_vocab_size())
