"""GGUF's blocks by ggml itself and by the gguf package, byte for byte.

ggml comes as libggml-base of npm's @node-llama-cpp/linux-x64 (3.22.1): `npm pack` it, unpack it, and name the file.

    python tools/reference/quant_gguf.py LIBGGML_BASE
"""

import ctypes
import sys

from common import FIXTURES, versions, write

import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from gguf import dequantize, quantize
from gguf.constants import GGML_QUANT_SIZES

ggml = ctypes.CDLL(sys.argv[1])
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
FLOATS = ctypes.POINTER(ctypes.c_float)


def by_ggml(x, kind, importance=None):
    size, width = GGML_QUANT_SIZES[kind]
    out = np.zeros(x.size // size * width, np.uint8)
    n = ggml.ggml_quantize_chunk(
        ctypes.c_int(int(kind)),
        x.ctypes.data_as(FLOATS),
        out.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_int64(0),
        ctypes.c_int64(x.shape[0]),
        ctypes.c_int64(x.shape[1]),
        importance.ctypes.data_as(FLOATS) if importance is not None else None,
    )
    assert n == out.size, (kind, n, out.size)
    return out


def decoded_by_ggml(data, kind, n):
    out = np.zeros(n, np.float32)
    f = getattr(ggml, f"dequantize_row_{kind.name if kind.name[-1] == 'K' and kind.name[0] == 'Q' else kind.name.lower()}".replace("_Q", "_q"))
    f(data.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(FLOATS), ctypes.c_int64(n))
    return out


rng = np.random.default_rng(5)
i = np.arange(512)
golden = (((37 * i) % 101) - 50) * (1 + i // 32) / 512
rows = [
    golden,
    rng.standard_normal(512) * 0.02,
    rng.standard_t(2, 512),
    np.abs(rng.standard_normal(512)) + 0.5,
    np.where(i < 256, 0, rng.standard_normal(512)),
    np.where(i < 256, 0.37, -2),
    rng.standard_normal(512) * 10.0 ** rng.integers(-6, 4, 512),
    np.round(rng.standard_normal(512)) / 4,
]
x = np.stack(rows).astype(np.float32)
importance = (rng.standard_normal(512) ** 2 * 3 + 1e-4).astype(np.float32)
found = {"x": x, "importance": importance}

PLAIN = [T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL, T.IQ4_XS]
for kind in PLAIN + [T.TQ1_0, T.TQ2_0, T.MXFP4, T.F16, T.BF16]:
    if kind in (T.F16, T.BF16):
        found[kind.name] = quantize(x, kind).view(np.uint8).reshape(-1)
        continue
    found[kind.name] = by_ggml(x, kind)
    if kind in PLAIN and kind != T.Q8_0:
        found[f"{kind.name}.importance"] = by_ggml(x, kind, importance)
    try:
        same = quantize(x, kind).reshape(-1)
        odd = np.flatnonzero(same != found[kind.name])
        print(kind.name, "the gguf package differs in", odd.size, "bytes")
    except NotImplementedError:
        pass

# any bytes are a block, but scales have to be finite
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108]}
HALVES |= {"Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "TQ1_0": [52], "TQ2_0": [64]}
HALVES |= {"MXFP4": [], "NVFP4": [], "Q1_0": [0]}
for name, places in HALVES.items():
    kind = T[name]
    size, width = GGML_QUANT_SIZES[kind]
    data = rng.integers(0, 256, (max(2, 256 // size), width), dtype=np.uint8)
    for place in places:
        data[:, place : place + 2] = rng.standard_normal((len(data), 1)).astype(np.float16).view(np.uint8)
    n = size * len(data)
    if name == "Q1_0":
        values = decoded_by_ggml(data, kind, n)
    else:
        values = dequantize(data, kind).reshape(-1).astype(np.float32)
        assert np.array_equal(values, decoded_by_ggml(data, kind, n)), name
    found[f"{name}.bytes"] = data.reshape(-1)
    found[f"{name}.values"] = values

write(
    FIXTURES / "quant" / "gguf.safetensors",
    {name: torch.from_numpy(values) for name, values in found.items()},
    made_by="tools/reference/quant_gguf.py",
    ggml="npm @node-llama-cpp/linux-x64 3.22.1",
    **versions("gguf", "numpy"),
)
