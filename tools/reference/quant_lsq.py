"""Learned steps (arXiv:1902.08153) by torch: the rounded matrix, and the gradients of matrix and steps that autograd gives.

The paper's definition is written with a straight-through round. torch's own kernel is held against it: it counts what is
rounded into the grid as within, where the paper goes by w/s before it is rounded, so the ends are compared without that half step.
"""

from common import FIXTURES, seed, versions, write

import torch


class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g


def lsq(w, s, bits, group):
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    rows = w.reshape(-1, group)
    factor = 1 / (group * most) ** 0.5
    scaled = s.detach() * (1 - factor) + s * factor  # the step, with its gradient made smaller
    codes = Round.apply((rows / scaled[:, None]).clamp(least, most))
    return (codes * scaled[:, None]).reshape(w.shape)


seed(3)
tensors = {}
for bits, group in ((2, 4), (3, 16), (4, 8), (8, 16)):
    w = torch.randn(6, 16)
    s = (2 * w.reshape(-1, group).abs().mean(1) / (2 ** (bits - 1) - 1) ** 0.5) * (0.4 + torch.rand(96 // group))
    g = torch.randn(6, 16)
    w.requires_grad_(), s.requires_grad_()
    out = lsq(w, s, bits, group)
    out.backward(g)
    name = f"{bits}.{group}"
    tensors |= {f"{name}.w": w, f"{name}.s": s, f"{name}.g": g, f"{name}.out": out}
    tensors |= {f"{name}.gw": w.grad, f"{name}.gs": s.grad, f"{name}.start": 2 * w.reshape(-1, group).abs().mean(1) / (2 ** (bits - 1) - 1) ** 0.5}

    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    u = (w / s.repeat_interleave(group).reshape(6, 16)).detach()
    clear = ~(((u > most) & (u < most + 0.5)) | ((u < least) & (u > least - 0.5)))
    a, b = w.detach().reshape(-1, group).clone().requires_grad_(), s.detach().clone().requires_grad_()
    theirs = torch._fake_quantize_learnable_per_channel_affine(a, b, torch.zeros_like(b), 0, least, most, 1 / (group * most) ** 0.5)
    theirs.backward((g * clear).reshape(-1, group))
    c, d = w.detach().clone().requires_grad_(), s.detach().clone().requires_grad_()
    lsq(c, d, bits, group).backward(g * clear)
    far = [(x - y).abs().max().item() for x, y in ((theirs.reshape(6, 16), out), (a.grad.reshape(6, 16), c.grad), (b.grad, d.grad))]
    print(name, "beyond the ends", (u.abs() > most).sum().item(), "torch's kernel is off by", far)
    assert max(far) < 1e-5
write(FIXTURES / "quant" / "lsq.safetensors", tensors, made_by="tools/reference/quant_lsq.py", **versions())
