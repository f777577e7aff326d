"""Fixtures for checkpoint files: what the safetensors library writes, and how numpy and ml_dtypes convert floats.

    python tools/reference/checkpoint.py packages/tensor/test/fixtures

Needs safetensors, numpy and ml_dtypes.
"""

import sys
from pathlib import Path

import ml_dtypes as ml
import numpy as np
from safetensors import TensorSpec, serialize

# name in files, name that the library takes, numpy's type
TYPES = [
    ("BOOL", "bool", np.bool_),
    ("U8", "uint8", np.uint8),
    ("I8", "int8", np.int8),
    ("F8_E5M2", "float8_e5m2", ml.float8_e5m2),
    ("F8_E4M3", "float8_e4m3fn", ml.float8_e4m3fn),
    ("F8_E8M0", "float8_e8m0fnu", ml.float8_e8m0fnu),
    ("F8_E4M3FNUZ", "float8_e4m3fnuz", ml.float8_e4m3fnuz),
    ("F8_E5M2FNUZ", "float8_e5m2fnuz", ml.float8_e5m2fnuz),
    ("I16", "int16", np.int16),
    ("U16", "uint16", np.uint16),
    ("F16", "float16", np.float16),
    ("BF16", "bfloat16", ml.bfloat16),
    ("I32", "int32", np.int32),
    ("U32", "uint32", np.uint32),
    ("F32", "float32", np.float32),
    ("C64", "complex64", np.complex64),
    ("F64", "float64", np.float64),
    ("I64", "int64", np.int64),
    ("U64", "uint64", np.uint64),
]
# decoded and encoded, element by element, one byte each
MINI = {
    "F4": ml.float4_e2m1fn,
    "F6_E2M3": ml.float6_e2m3fn,
    "F6_E3M2": ml.float6_e3m2fn,
    "F8_E5M2": ml.float8_e5m2,
    "F8_E4M3": ml.float8_e4m3fn,
    "F8_E8M0": ml.float8_e8m0fnu,
    "F8_E4M3FNUZ": ml.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml.float8_e5m2fnuz,
}


def spec(name, array, shape=None):
    array = np.ascontiguousarray(array)
    KEEP.append(array)
    return TensorSpec(dtype=name, shape=list(array.shape if shape is None else shape), data_ptr=array.ctypes.data, data_len=array.nbytes)


KEEP = []


def layout():
    """every dtype, names that sort in unlike ways, scalars and empty tensors"""
    tensors = {}
    for dtype, name, kind in TYPES:
        values = (np.arange(6).reshape(2, 3) % 3).astype(np.float32)
        values = values != 0 if kind is np.bool_ else np.maximum(values, 1).astype(kind)
        tensors[f"{dtype.lower()}.b"] = spec(name, values)
        tensors[f"{dtype.lower()}.a"] = spec(name, values[0, 0].reshape(()), [])
        tensors[f"{dtype.lower()}.zero"] = spec(name, values[:, :0])
    tensors["f4"] = spec("float4_e2m1fn_x2", np.array([[0x10, 0x32], [0x54, 0x76]], np.uint8))
    for name in ['"quoted"\n', "\U0001f600", "\uffee", "é", "a/b\\c", "10", "9", "__proto__", "\x01\x7f\u2028"]:
        tensors[name] = spec("uint8", np.array([len(name)], np.uint8))
    return serialize(tensors, metadata={"made by": "safetensors é \"\n"})


def conversions():
    """codes → float32 for all codes, and float32 → codes for hard cases"""
    rng = np.random.default_rng(0)
    wide = rng.standard_normal(200) * 2.0 ** rng.integers(-30, 18, 200)
    tensors = {}
    hard = [0.0, -0.0, 448, 464, 464.1, 480, 57344, 61440, 65504, 65519.9, 65520, 1e30, np.inf, -np.inf, 1e-40, 2.0**-24, 2.0**-25, 2.0**-14, 3.4e38]
    hard = np.concatenate([hard, np.negative(hard), wide]).astype(np.float32)
    tensors["values"] = spec("float32", hard)
    for dtype, kind in MINI.items():
        bits = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}.get(dtype, 8)
        codes = np.arange(2**bits, dtype=np.uint8)
        decoded = codes.view(kind).astype(np.float32)
        tensors[f"{dtype}.decoded"] = spec("float32", decoded)
        # halves between neighbours: ties
        with np.errstate(all="ignore"):
            middle = ((decoded[1:].astype(np.float64) + decoded[:-1]) / 2).astype(np.float32)
        tensors[f"{dtype}.ties"] = spec("float32", middle)
        tensors[f"{dtype}.ties.encoded"] = spec("uint8", middle.astype(kind).view(np.uint8))
        tensors[f"{dtype}.encoded"] = spec("uint8", hard.astype(kind).view(np.uint8))
    with np.errstate(over="ignore"):
        tensors["F16.encoded"] = spec("uint16", hard.astype(np.float16).view(np.uint16))
    tensors["BF16.encoded"] = spec("uint16", hard.astype(ml.bfloat16).view(np.uint16))
    return serialize(tensors)


out = Path(sys.argv[1])
(out / "reference.safetensors").write_bytes(layout())
(out / "conversions.safetensors").write_bytes(conversions())
