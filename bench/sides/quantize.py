"""Every matrix of a checkpoint's blocks, read, packed and written to a file, as the library's users do."""
import os
import re
import tempfile
import time

import common

o = common.options()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

torch.set_num_threads(o["threads"])
facts = {"torch": torch.__version__, "threads": torch.get_num_threads()}
out = os.path.join(tempfile.gettempdir(), f"weft-bench-{os.getpid()}")

if o["codec"] == "nf4":
    from bitsandbytes import functional as F

    def quantize(w):
        codes, state = F.quantize_4bit(w, blocksize=64, quant_type="nf4")
        return {"q": codes, "absmax": state.absmax}
else:
    import gguf

    kind = getattr(gguf.GGMLQuantizationType, o["codec"].split(":")[1])

    def quantize(w):
        return {"q": torch.from_numpy(np.ascontiguousarray(gguf.quants.quantize(w.numpy(), kind)))}


def unit():
    begun = time.perf_counter()
    made, size = {}, 0
    for name in sorted(os.listdir(o["path"])):
        if not name.endswith(".safetensors"):
            continue
        with safe_open(os.path.join(o["path"], name), "pt") as f:
            for key in f.keys():
                if not re.search(r"layers\..*_proj\.weight$", key):
                    continue
                w = f.get_tensor(key)
                size += w.numel() * 4
                made.update({f"{key}.{part}": t for part, t in quantize(w).items()})
    save_file(made, out)
    ms = (time.perf_counter() - begun) * 1000
    os.remove(out)
    return {"ms": ms, "gbps": size / ms / 1e6}


common.serve(unit, facts)
