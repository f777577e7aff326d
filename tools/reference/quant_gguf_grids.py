"""The grids of ggml's types of 1 to 3 bits, which are tables of the format, and what the gguf package reads in any bytes.

Writes packages/quant/src/gguf/grids.generated.ts and gguf-grids.safetensors. ggml as in quant_gguf.py:

    python tools/reference/quant_gguf_grids.py LIBGGML_BASE
"""

import ctypes
import hashlib
import sys

from common import FIXTURES, versions, write

import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from gguf import dequantize, quants
from gguf.constants import GGML_QUANT_SIZES

ggml = ctypes.CDLL(sys.argv[1])
ROOT = FIXTURES.parents[2]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
GRIDS = ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S"]
# where the bytes of the scale lie, a float16; IQ1_M has it in the upper halves of odd bytes
SCALES = {"IQ2_XXS": 0, "IQ2_XS": 0, "IQ2_S": 0, "IQ3_XXS": 0, "IQ3_S": 0, "IQ1_S": 0, "IQ1_M": None}


def packed(points, levels):
    """Points ascend as numbers whose digits are places of levels, the first the lowest. A letter a point: how far it is
    from the one before; the last letter is one less than its place and goes on."""
    digits = np.searchsorted(levels, points)
    assert np.array_equal(np.asarray(levels)[digits], points)
    numbers = (digits * len(levels) ** np.arange(points.shape[1])).sum(1)
    assert (np.diff(numbers) > 0).all()
    text = ""
    for gap in np.diff(numbers, prepend=0):
        text += "/" * (gap // 63) + LETTERS[gap % 63]
    return text


found, lines = {}, []
for name in GRIDS:
    kind = getattr(quants, name)
    kind.init_grid()
    points = kind.grid.reshape(kind.grid_shape).astype(np.int64)
    lines.append(f"export const {name} =\n  '{packed(points, list(kind.grid_map))}'\n")
    digest = hashlib.sha256(points.astype(np.int8).tobytes()).digest()
    found[f"{name}.grid"] = np.frombuffer(digest, np.uint8).copy()
(ROOT / "packages/quant/src/gguf/grids.generated.ts").write_text(
    "// Written by tools/reference/quant_gguf_grids.py from the gguf package's tables.\n\n" + "".join(lines)
)

rng = np.random.default_rng(11)
for name, place in SCALES.items():
    size, width = GGML_QUANT_SIZES[T[name]]
    data = rng.integers(0, 256, (3, width), dtype=np.uint8)
    d = rng.standard_normal((len(data), 1)).astype(np.float16).view(np.uint16)
    if place is None:
        words = data[:, 48:].view(np.uint16)
        words[:] = (words & 0xFFF) | ((d >> np.array([[0, 4, 8, 12]], np.uint16)) & 15) << 12
    else:
        data[:, place : place + 2] = d.view(np.uint8)
    values = dequantize(data, T[name]).reshape(-1).astype(np.float32)
    theirs = np.zeros(values.size, np.float32)
    row = getattr(ggml, f"dequantize_row_{name.lower()}")
    row(data.ctypes.data_as(ctypes.c_void_p), theirs.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(values.size))
    print(name, "ggml differs in", np.flatnonzero(values != theirs).size, "numbers")
    found[f"{name}.bytes"] = data.reshape(-1)
    found[f"{name}.values"] = values

write(
    FIXTURES / "quant" / "gguf-grids.safetensors",
    {name: torch.from_numpy(values) for name, values in found.items()},
    made_by="tools/reference/quant_gguf_grids.py",
    ggml="npm @node-llama-cpp/linux-x64 3.22.1",
    **versions("gguf", "numpy"),
)
