"""The first rows of a Parquet file on standard input, as JSON: in a separate process with limited memory and time.

python -m perago.console.parquet_head
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from typing import Any

_MEMORY = 2 * 1024**3
"""Bytes of address space. Loading pyarrow takes about half of them."""
_SECONDS = 15
_ROWS, _COLUMNS, _CELL = 50, 30, 200


def main() -> None:
    """Read and print."""
    for limit, most in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CPU, _SECONDS), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # macOS has no limit of the address space
            resource.setrlimit(limit, (most, most))
    json.dump(head_of(sys.stdin.buffer.read()), sys.stdout)


def head_of(data: bytes) -> dict[str, Any]:
    """Names of columns, the first rows as texts (None: missing), and how many rows and columns there are."""
    import pyarrow as pa
    import pyarrow.parquet

    pa.set_memory_pool(pa.system_memory_pool())
    file = pyarrow.parquet.ParquetFile(pa.BufferReader(data), pre_buffer=False)
    names = file.schema_arrow.names
    shown = names[:_COLUMNS]
    batches = file.iter_batches(batch_size=_ROWS, columns=shown, use_threads=False)
    columns: list[Any] = next((batch.columns[:_COLUMNS] for batch in batches), [])  # by place: two may have one name
    return {
        "columns": [name[:_CELL] for name in names[: _COLUMNS + 1]],
        "rows": [
            [None if value is None else str(value)[:_CELL] for value in row]
            for row in zip(*(column.to_pylist() for column in columns), strict=True)
        ],
        "total": file.metadata.num_rows,
        "width": len(names),
    }


if __name__ == "__main__":
    main()
