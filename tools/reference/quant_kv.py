"""A group-wise cache of keys and values as KIVI's (arXiv:2402.02750), re-computed with torch: its kernels need CUDA.

Keys by channel over g tokens, values by token over g channels; scale (max − min)/(2^b − 1) and min in float16, codes rounded
to what these are in float32.
"""

from common import FIXTURES, seed, write

import torch

B, G, T, S, GROUP = 2, 2, 8, 12, 4


def there_and_back(x, axis, bits):
    least, most = x.amin(axis, keepdim=True), x.amax(axis, keepdim=True)
    step = ((most - least) / (2**bits - 1)).half().float()
    least = least.half().float()
    codes = torch.where(step > 0, ((x - least) / step).round().clamp(0, 2**bits - 1), torch.zeros(()))
    return codes * step + least


def main():
    seed(0)
    g = torch.Generator().manual_seed(3)
    x = torch.randn(B, G, T, S, generator=g)
    x[..., 5] *= 20  # a channel of large values, as keys have
    x[0, 1, 2] = 0.3  # a token of one value
    tensors = {"x": x}
    for bits in (2, 4, 8):
        tensors[f"keys.{bits}"] = there_and_back(x.reshape(B, G, T // GROUP, GROUP, S), 3, bits).reshape(x.shape)
        tensors[f"values.{bits}"] = there_and_back(x.reshape(B, G, T, S // GROUP, GROUP), 4, bits).reshape(x.shape)
    write(FIXTURES / "quant" / "kv.safetensors", tensors, made_by="tools/reference/quant_kv.py")


if __name__ == "__main__":
    main()
