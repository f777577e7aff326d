"""The plain codecs by their definitions: torch's casts and roundings for 8 bits, numpy from the papers for the rest."""

import numpy as np
from common import FIXTURES, seed, versions, write

import torch

OUT = FIXTURES / "quant"
ABOUT = dict(made_by="tools/reference/quant_plain.py", **versions("numpy"))
F8 = {"e4m3": (torch.float8_e4m3fn, 448.0), "e5m2": (torch.float8_e5m2, 57344.0)}


def matrices():
    """name -> float32 [out, in]"""
    g = torch.Generator().manual_seed(31)
    normal = torch.randn(24, 96, generator=g)
    odd = torch.randn(6, 64, generator=g)
    odd[0] = 0
    odd[1] = odd[1].abs() + 0.5  # all positive
    odd[2] = -odd[1]
    odd[3] *= 1e-6
    odd[4] = 0.25
    odd[5, 7] = 40.0
    odd[:, 11] *= 12.0  # a column of outliers
    return {"normal": normal, "odd": odd}


def words(data: bytes) -> torch.Tensor:
    """bytes, filled up to int32 words"""
    padded = data + bytes(-len(data) % 4)
    return torch.from_numpy(np.frombuffer(padded, dtype="<i4").copy())


def stream(codes, bits: int) -> torch.Tensor:
    """codes one behind the other, lowest bit first"""
    flat = np.asarray(codes).astype(np.uint32).ravel()
    each = (flat[:, None] >> np.arange(bits)[None]) & 1
    return words(np.packbits(each.ravel().astype(np.uint8), bitorder="little").tobytes())


def casts():
    """What torch's casts make of every float8, what lies halfway between two, and what is next to that."""
    tensors = {}
    for name, (dtype, most) in F8.items():
        every = torch.arange(256, dtype=torch.uint8).view(dtype).float()
        finite = every[every.isfinite()].unique()  # ascending
        middle = (finite[1:] + finite[:-1]) / 2
        x = torch.cat([finite, middle, middle.nextafter(torch.tensor(1e9)), middle.nextafter(torch.tensor(-1e9))])
        x = torch.cat([x, torch.tensor([1e-30, -1e-30, 1e-45, most, -most])])
        x = x[: x.numel() // 4 * 4].reshape(4, -1)
        assert x.abs().max() == most  # so that the scale of all is 1
        tensors |= {f"{name}.input": x, f"{name}.codes": x.to(dtype).view(torch.uint8), f"{name}.decoded": x.to(dtype).float()}
    write(OUT / "fp8-casts.safetensors", tensors, **ABOUT)


def tiles(w, tall, wide):
    """|w|'s largest in each tile, and its place in the matrix"""
    out, width = w.shape
    a, b = -(-out // tall), -(-width // wide)
    most = torch.stack([torch.stack([w[i * tall : (i + 1) * tall, j * wide : (j + 1) * wide].abs().max() for j in range(b)]) for i in range(a)])
    return most, lambda s: s.repeat_interleave(tall, 0)[:out].repeat_interleave(wide, 1)[:, :width]


def fp8():
    tensors = {}
    for name, w in matrices().items():
        out, width = w.shape
        for per, tile in {"tensor": (out, width), "row": (1, width), "block": (5, 20)}.items():
            for kind, (dtype, most) in F8.items():
                largest, spread = tiles(w, *tile)
                scale = largest / most
                s = spread(scale)
                q = torch.where(s > 0, w / s, 0).clamp(-most, most).to(dtype)
                key = f"{name}.{kind}.{per}"
                tensors |= {f"{key}.codes": q.view(torch.uint8), f"{key}.scale": scale, f"{key}.decoded": q.float() * s}
    write(OUT / "fp8.safetensors", tensors, **ABOUT)


def int8():
    tensors = {}
    for name, w in matrices().items():
        for per, n in {"tensor": w.numel(), "row": w.shape[1], "group": 16}.items():
            x = w.reshape(-1, n)
            scale = x.abs().amax(1)
            q = torch.where(scale[:, None] > 0, torch.round(x * (127.0 / scale)[:, None]), 0).clamp(-127, 127)
            key = f"{name}.{per}"
            decoded = q * scale[:, None] * torch.tensor(1 / 127, dtype=torch.float32)
            tensors |= {f"{key}.codes": q.to(torch.int8), f"{key}.scale": scale, f"{key}.decoded": decoded.reshape(w.shape)}
    write(OUT / "int8-plain.safetensors", tensors, **ABOUT)


def affine_of(w, bits: int, group: int, symmetric: bool):
    """numpy float32 all the way -> codes, scales, zeros, decoded"""
    x = w.reshape(-1, w.shape[1] if group == -1 else group)
    most = 2**bits - 1
    low, high = np.minimum(x.min(1), 0), np.maximum(x.max(1), 0)
    if symmetric:
        scale = np.where(-low > high, low, high) / np.float32(-(2 ** (bits - 1)))
        zero = np.full_like(scale, 2 ** (bits - 1))
    else:
        scale = high / np.float32(most) - low / np.float32(most)
        zero = np.where(scale > 0, np.rint(-low / np.where(scale > 0, scale, 1)), 0).astype(np.float32)
    ratio = x / np.where(scale == 0, np.float32(1), scale)[:, None]
    q = np.clip(np.where(scale[:, None] == 0, 0, np.rint(ratio)) + zero[:, None], 0, most)
    assert scale.dtype == zero.dtype == ratio.dtype == np.float32
    decoded = (q.astype(np.float32) - zero[:, None]) * scale[:, None]
    return q, scale, zero, decoded.reshape(w.shape)


def affine():
    tensors = {}
    for name, w in matrices().items():
        for bits in (8, 4, 3, 2):
            for group in (32, -1):
                for symmetric in (False, True):
                    q, scale, zero, decoded = affine_of(w.numpy(), bits, group, symmetric)
                    key = f"{name}.{bits}.{group}.{'symmetric' if symmetric else 'zero'}"
                    tensors |= {f"{key}.q": stream(q, bits), f"{key}.scale": torch.from_numpy(scale)}
                    if not symmetric:
                        tensors[f"{key}.zero"] = stream(zero, bits)
                    if group == 32 and bits in (2, 3):
                        tensors[f"{key}.decoded"] = torch.from_numpy(decoded)
    write(OUT / "affine.safetensors", tensors, **ABOUT)


def few():
    """ternary and binary"""
    tensors = {}
    for name, w in matrices().items():
        for per, n in {"tensor": w.numel(), "row": w.shape[1], "group": 32}.items():
            x = w.numpy().reshape(-1, n)
            mean = np.abs(x).astype(np.float64).mean(1).astype(np.float32)
            safe = np.where(mean > 0, mean, np.float32(1))[:, None]
            t = np.clip(np.rint(x / safe), -1, 1)
            large = np.where(t != 0, np.abs(x), 0).astype(np.float64).sum(1)
            fit = np.where((t != 0).any(1), large / np.maximum((t != 0).sum(1), 1), 0).astype(np.float32)
            digits = (t + 1).astype(np.uint8).ravel()
            five = np.concatenate([digits, np.zeros(-digits.size % 5, np.uint8)]).reshape(-1, 5)
            key = f"{name}.{per}"
            tensors |= {
                f"{key}.ternary": stream(digits, 2),
                f"{key}.base3": words((five * np.array([1, 3, 9, 27, 81])).sum(1).astype(np.uint8).tobytes()),
                f"{key}.mean": torch.from_numpy(mean),
                f"{key}.fit": torch.from_numpy(fit),
                f"{key}.binary": stream(x >= 0, 1),
            }
    write(OUT / "few.safetensors", tensors, **ABOUT)


def kept():
    """what LLM.int8() and outliers keep in float16"""
    w = matrices()["odd"]
    out, width = w.shape
    peak = torch.linspace(0, 7, width)[torch.randperm(width, generator=torch.Generator().manual_seed(32))]
    columns = (peak >= 6).nonzero().flatten()
    rest = w.clone()
    rest[:, columns] = 0
    scale = rest.abs().amax(1)
    q = torch.where(scale[:, None] > 0, torch.round(rest * (127.0 / scale)[:, None]), 0).to(torch.int8)
    tensors = {
        "peak": peak, "llm.columns": columns.to(torch.int32), "llm.scale": scale, "llm.codes": q,
        "llm.values": words(w[:, columns].half().numpy().tobytes()),
    }
    k = 9
    x = w.numpy()
    places = np.sort(np.argsort(-np.abs(x).ravel(), kind="stable")[:k])
    without = x.copy().ravel()
    without[places] = 0
    codes, scales, _, decoded = affine_of(without.reshape(x.shape), 4, 32, True)
    more = (x.ravel()[places].astype(np.float64) - decoded.ravel()[places]).astype(np.float16)
    tensors |= {
        "sparse.q": stream(codes, 4), "sparse.scale": torch.from_numpy(scales),
        "sparse.starts": torch.from_numpy(np.searchsorted(places // width, np.arange(out + 1)).astype(np.int32)),
        "sparse.columns": words((places % width).astype("<u2").tobytes()), "sparse.values": words(more.tobytes()),
    }
    final = decoded.ravel().copy()
    final[places] += more.astype(np.float32)
    tensors["sparse.decoded"] = torch.from_numpy(final.reshape(x.shape))
    write(OUT / "kept.safetensors", tensors, **ABOUT)


if __name__ == "__main__":
    seed(0)
    write(OUT / "plain-inputs.safetensors", matrices(), **ABOUT)
    casts()
    fp8()
    int8()
    affine()
    few()
    kept()
