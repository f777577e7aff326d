"""Writes packages/data/test/fixtures/rows.parquet: twelve rows of our own in three row groups, one compression per column.

Needs pyarrow only (made with pyarrow 26.0.1). Run: python tools/reference/parquet.py
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

OUT = Path(__file__).resolve().parents[2] / "packages" / "data" / "test" / "fixtures" / "rows.parquet"

rows = [
    {
        "prompt": f"What is {n} plus {n}?",
        "completion": f" It is {2 * n}. Größe: {'ü' * (n % 3)} 🧵",
        "input_ids": list(range(n, n + 3)),
        "labels": [-100] + list(range(n + 1, n + 3)),
        "messages": [
            {"role": "user", "content": f"Say {n}."},
            {"role": "assistant", "content": f"{n}!"},
        ],
        "score": n / 4,
        "remark": None if n % 2 else f"even {n}",
    }
    for n in range(12)
]
schema = pa.schema(
    [
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("input_ids", pa.list_(pa.int64())),
        ("labels", pa.list_(pa.int32())),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("score", pa.float64()),
        ("remark", pa.string()),
    ]
)
OUT.parent.mkdir(parents=True, exist_ok=True)
pq.write_table(
    pa.Table.from_pylist(rows, schema),
    OUT,
    row_group_size=5,
    compression={
        "prompt": "snappy",
        "completion": "zstd",
        "input_ids.list.element": "gzip",
        "labels.list.element": "none",
        "messages.list.element.role": "brotli",
        "messages.list.element.content": "lz4",
        "score": "snappy",
        "remark": "zstd",
    },
    store_schema=False,
)
print(OUT.name, OUT.stat().st_size, "bytes")
