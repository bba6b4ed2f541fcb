"""All rows of a lake in topic order, by pyarrow alone: what was landed and what went to the dead letters."""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PART_HEADER = "tailrace.part"


def landed_lines(lake: Path) -> list[bytes]:
    """The lines that a topic of one partition gave, in offset order; parts of a split line are joined."""
    tables = []
    for path in _shown(lake):
        table = pq.read_table(path, columns=["body", "headers", "offset"], partitioning=None)
        tables.append(table.set_column(0, "body", table.column("body").cast(pa.large_binary())))
    if not tables:
        return []
    rows = pa.concat_tables(tables).sort_by("offset")
    bodies = rows.column("body").to_pylist()
    with_headers = pc.indices_nonzero(pc.is_valid(rows.column("headers"))).to_pylist()
    numbers = {at: dict(rows.column("headers")[at].as_py()).get(PART_HEADER) for at in with_headers}
    for at in sorted((at for at, number in numbers.items() if number not in (None, b"0")), reverse=True):
        bodies[at - 1 : at + 1] = [bodies[at - 1] + bodies[at]]
    return bodies


def _shown(lake: Path) -> Iterator[Path]:
    """Files outside of staging, which may vanish while one looks."""
    for place, directories, names in os.walk(lake):
        directories[:] = [name for name in directories if name != "_staging"]
        yield from (Path(place, name) for name in names if name.endswith(".parquet"))
