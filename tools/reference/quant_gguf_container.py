"""GGUF files that the gguf package writes, and what it reads in ours.

`gguf/theirs.gguf` with `theirs.json`: every type of value and a few tensors. `gguf/pieces.gguf` with `pieces.json`: the
vocabulary of a SentencePiece model, and how that cuts texts. `gguf/ours.json`: what gguf reads in `gguf/ours.gguf`, which
`WEFT_GGUF_FIXTURE=write npx vitest run --project quant gguf-python` writes.
"""

import io
import json

import gguf
import numpy as np
import sentencepiece
from common import FIXTURES, versions

OUT = FIXTURES / "quant" / "gguf"
ABOUT = dict(made_by="tools/reference/quant_gguf_container.py", **versions("gguf", "sentencepiece"))
T = gguf.GGUFValueType


def theirs():
    path = OUT / "theirs.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    scalars = {
        "u8": (200, T.UINT8),
        "i8": (-100, T.INT8),
        "u16": (60_000, T.UINT16),
        "i16": (-30_000, T.INT16),
        "u32": (4_000_000_000, T.UINT32),
        "i32": (-2_000_000_000, T.INT32),
        "f32": (0.15625, T.FLOAT32),
        "bool": (True, T.BOOL),
        "string": ("žluť 🦊\nline", T.STRING),
        "u64": (2**53 + 2, T.UINT64),
        "i64": (-(2**40), T.INT64),
        "f64": (0.1, T.FLOAT64),
    }
    for key, (value, kind) in scalars.items():
        writer.add_key_value(f"a.{key}", value, kind)
    lists = {"numbers": [1, -2, 3], "texts": ["", "a", "ß"], "flags": [True, False], "reals": [0.5, -2.0]}
    for key, value in lists.items():
        writer.add_array(f"l.{key}", value)
    rng = np.random.default_rng(7)
    tensors = {
        "plain.weight": rng.standard_normal((3, 5), dtype=np.float32),
        "half.weight": rng.standard_normal((2, 3, 4)).astype(np.float16),
        "vector": rng.standard_normal(7, dtype=np.float32),
    }
    for name, x in tensors.items():
        writer.add_tensor(name, x)
    packed = {}
    for name, kind in {"q8.weight": "Q8_0", "q4.weight": "Q4_0"}.items():
        x = rng.standard_normal((2, 64), dtype=np.float32)
        blocks = gguf.quantize(x, gguf.GGMLQuantizationType[kind])
        writer.add_tensor(name, blocks, raw_dtype=gguf.GGMLQuantizationType[kind])
        packed[name] = (kind, blocks)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    described = {n: dict(type={"float32": "F32", "float16": "F16"}[str(x.dtype)], shape=x.shape, hex=x.tobytes().hex()) for n, x in tensors.items()}
    described |= {n: dict(type=k, shape=[2, 64], hex=b.tobytes().hex()) for n, (k, b) in packed.items()}
    fields = {f"a.{k}": str(v) if isinstance(v, int) and not isinstance(v, bool) else v for k, (v, _) in scalars.items()}
    dump("theirs.json", dict(fields=fields, lists={f"l.{k}": v for k, v in lists.items()}, tensors=described))


TEXT = """The weaver wove a thread. The loom stood by the window, and the thread ran over the loom.
A thread is thin; a rope is thick. Who weaves the rope? The ropemaker, he weaves it: one, two, three strands.
Numbers like 12, 345 and 6789 are seldom in a loom. Woven cloth, weaving looms, threaded needles, threads and ropes.
In the morning the weaver sang; in the evening he slept, and the window stood open to the wind."""


def pieces():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.split("\n")),
        model_writer=model,
        vocab_size=384,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        user_defined_symbols=["<|user|>"],
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    sp = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    n = sp.vocab_size()
    kind = gguf.TokenType

    def of(i):
        if sp.is_unknown(i):
            return kind.UNKNOWN
        if sp.is_control(i):
            return kind.CONTROL
        if sp.is_byte(i):
            return kind.BYTE
        return kind.USER_DEFINED if sp.id_to_piece(i) == "<|user|>" else kind.NORMAL

    path = OUT / "pieces.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_block_count(0)
    writer.add_feed_forward_length(8)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([sp.id_to_piece(i) for i in range(n)])
    writer.add_token_scores([sp.get_score(i) for i in range(n)])
    writer.add_token_types([of(i) for i in range(n)])
    writer.add_bos_token_id(sp.bos_id())
    writer.add_eos_token_id(sp.eos_id())
    writer.add_unk_token_id(sp.unk_id())
    writer.add_tensor("token_embd.weight", np.zeros((n, 8), np.float16))
    writer.add_tensor("output_norm.weight", np.ones(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    texts = [
        "The weaver wove a thread.",
        "threads and ropes, looms and windows; who weaves 6789 needles?",
        " two  spaces and   three",
        "žluť 🦊 二",
        "ropemaker",
        "a",
        "aaaaaa eeeee thththth",
    ]
    dump("pieces.json", dict(texts=[dict(text=t, ids=sp.encode(t)) for t in texts]))


def ours():
    path = OUT / "ours.gguf"
    if not path.exists():
        return
    reader = gguf.GGUFReader(path)
    fields = {}
    for name, field in reader.fields.items():
        if not name.startswith("GGUF."):
            value = field.contents()
            fields[name] = dict(types=[t.name for t in field.types], value=str(value) if type(value) is int else value)
    tensors = {
        t.name: dict(type=t.tensor_type.name, shape=[int(d) for d in reversed(t.shape)], hex=t.data.tobytes().hex()) for t in reader.tensors
    }
    dump("ours.json", dict(fields=fields, tensors=tensors))


def dump(name, value):
    (OUT / name).write_text(json.dumps(dict(about=ABOUT) | value, ensure_ascii=False, indent=1) + "\n")


OUT.mkdir(parents=True, exist_ok=True)
theirs()
pieces()
ours()
