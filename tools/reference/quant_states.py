"""Optimizer states in few bits: bitsandbytes' Adam8bit on the CPU, and the same step re-computed with exact nearest levels.

bitsandbytes' search over 256 levels on the CPU is coarse, so the re-computation is what numbers are held to, and its own
result is what the re-computation is held to. The 4-bit states follow Li et al. (arXiv:2309.01507), whose kernels need CUDA:
m by the signed dynamic map of 4 bits, v by k/16 (k = 1 ... 16), scales by blocks or, of v, by rows and columns.
"""

from common import FIXTURES, seed, versions, write

import bitsandbytes as bnb
import torch
from bitsandbytes import functional as F

OUT = FIXTURES / "quant"
STEPS, SHAPE = 6, (12, 80)  # 960 numbers: three blocks of 256 and a short one
LR, B1, B2, EPS, DECAY = 1e-2, 0.9, 0.999, 1e-8, 0.1


def numbers(step):
    """exact in float32, over 4 powers of two in a block and more between them: what the test computes as well"""
    i = torch.arange(SHAPE[0] * SHAPE[1])
    return (((37 * i + 11 * step) % 101 - 50.5) * torch.exp2(((i // 8) % 4 - 3 * (i // 256) - 6).float())).reshape(SHAPE)


def nearest(x, levels):
    """codes of the nearest of sorted levels, a tie to the lower one"""
    return torch.searchsorted((levels[1:] + levels[:-1]) / 2, x)


class Blocks:
    def __init__(self, levels, block):
        self.levels, self.block = levels, block

    def put(self, x):
        self.scale = torch.stack([b.abs().max() for b in x.flatten().split(self.block)])
        each = self.scale.repeat_interleave(self.block)[: x.numel()]
        self.codes = nearest(x.flatten() / each.clamp_min(1e-38), self.levels)

    def get(self):
        each = self.scale.repeat_interleave(self.block)[: self.codes.numel()]
        return (self.levels[self.codes] * each).reshape(SHAPE)


class RankOne(Blocks):
    def put(self, x):
        self.scale = torch.cat([x.abs().amax(1), x.abs().amax(0)])
        self.codes = nearest((x / self.each().clamp_min(1e-38)).flatten(), self.levels)

    def each(self):
        return torch.minimum(self.scale[: SHAPE[0], None], self.scale[None, SHAPE[0] :])

    def get(self):
        return self.levels[self.codes].reshape(SHAPE) * self.each()


def adamw(m, v, steps=STEPS):
    p = numbers(100) / 64
    m.put(torch.zeros(SHAPE))
    v.put(torch.zeros(SHAPE))
    for t in range(1, steps + 1):
        g = numbers(t)
        a, b = m.get() * B1 + g * (1 - B1), v.get() * B2 + g * g * (1 - B2)
        p = p * (1 - LR * DECAY) - LR / (1 - B1**t) * a / (b.sqrt() / (1 - B2**t) ** 0.5 + EPS)
        m.put(a)
        v.put(b)
    return p


def theirs(steps):
    p = torch.nn.Parameter(numbers(100) / 64)
    o = bnb.optim.AdamW8bit([p], lr=LR, betas=(B1, B2), eps=EPS, weight_decay=DECAY, min_8bit_size=1)
    for t in range(1, steps + 1):
        p.grad = numbers(t)
        o.step()
    return p.data, o.state[p]


def main():
    seed(0)
    dynamic, unsigned = F.create_dynamic_map(), F.create_dynamic_map(signed=False)
    four = F.create_dynamic_map(True, 3, 4).unique()  # it fills up to 256 with zeros
    linear = torch.linspace(0, 1, 17)[1:]
    assert len(four) == 16
    tensors = {"dynamic4": four, "linear4": linear}
    m, v = Blocks(dynamic, 256), Blocks(unsigned, 256)
    tensors["adamw8.exact"] = exact = adamw(m, v)
    tensors |= {"adamw8.m": m.codes.byte(), "adamw8.v": v.codes.byte(), "adamw8.m.absmax": m.scale, "adamw8.v.absmax": v.scale}
    for steps in (1, STEPS):
        p, state = theirs(steps)
        tensors[f"adamw8.bnb.{steps}"] = p
    # 32 bits, for how far 8 take it
    wide = torch.nn.Parameter(numbers(100) / 64)
    o = torch.optim.AdamW([wide], lr=LR, betas=(B1, B2), eps=EPS, weight_decay=DECAY)
    for t in range(1, STEPS + 1):
        wide.grad = numbers(t)
        o.step()
    tensors["adamw32"] = wide.data
    print("8 bits from 32:", (exact - wide).abs().max().item(), "bitsandbytes from exact:", (p - exact).abs().max().item())
    codes = (state["state1"].flatten() != m.codes).float().mean().item(), (state["state2"].flatten() != v.codes).float().mean().item()
    print("codes of m and v that its coarse search gives otherwise:", codes)
    for name, second in (("block", Blocks(linear, 128)), ("rank1", RankOne(linear, 128))):
        first = Blocks(four, 128)
        tensors[f"adamw4.{name}"] = p = adamw(first, second)
        tensors |= {f"adamw4.{name}.m": first.codes.byte(), f"adamw4.{name}.v": second.codes.byte(), f"adamw4.{name}.v.absmax": second.scale}
        print("4 bits from 32,", name, (p - wide).abs().max().item())
    write(OUT / "states.safetensors", tensors, made_by="tools/reference/quant_states.py", **versions("bitsandbytes"))


if __name__ == "__main__":
    main()
