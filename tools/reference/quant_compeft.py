"""ComPEFT's task vectors (Yadav et al., arXiv:2311.13171) re-computed with torch from the formulas of the authors' code.

Their code keeps what is at least as large as the (d − ⌊k·d⌋)-th smallest magnitude, ⌊k·d⌋ + 1 numbers; scale α times the
unbiased standard deviation of all numbers, of all tensors as one vector by sorted names.
"""

from common import FIXTURES, seed, write

import torch

SHAPES = {"b.lora_B": (12, 4), "a.lora_A": (4, 33), "c.scale": (7,), "a.lora_B": (20, 4)}


def main():
    seed(0)
    g = torch.Generator().manual_seed(5)
    params = {n: torch.randn(s, generator=g) * (0.1 + i) for i, (n, s) in enumerate(SHAPES.items())}
    tensors = {f"in.{n}": p for n, p in params.items()}
    names = sorted(params)
    tau = torch.nn.utils.parameters_to_vector([params[n].reshape(-1) for n in names])
    d = len(tau)
    for percent in (5, 10, 20, 50):
        n = d - int(d * percent / 100)
        mask = tau.abs() >= tau.abs().kthvalue(n).values
        for alpha in (1, 3):
            out = alpha * tau.std() * (tau * mask).sign()
            like = [torch.empty(params[n].shape) for n in names]
            torch.nn.utils.vector_to_parameters(out, like)
            tensors |= {f"k{percent}.a{alpha}.{n}": t for n, t in zip(names, like)}
        tensors[f"k{percent}.kept"] = mask.sum().int()
    write(FIXTURES / "quant" / "compeft.safetensors", tensors, made_by="tools/reference/quant_compeft.py")
    print(d, {k: int(v) for k, v in tensors.items() if k.endswith("kept")})


if __name__ == "__main__":
    main()
