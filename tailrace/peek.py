"""`tailrace peek`: the first rows that have landed under a folder of Parquet files, as a table."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.table import Table

_BODY_WIDTH = 72


def first_rows(folder: Path, count: int) -> list[dict[str, object]]:
    """Up to `count` rows of the published files below `folder`, oldest file first; dead letters are left out."""
    files = [
        path
        for path in folder.rglob("*.parquet")
        if not any(part.startswith("_") for part in path.relative_to(folder).parts)
    ]
    rows: list[dict[str, object]] = []
    for path in sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name)):
        with pq.ParquetFile(path) as landed:
            for batch in landed.iter_batches(batch_size=count - len(rows)):
                rows += pa.Table.from_batches([batch]).slice(0, count - len(rows)).to_pylist()
                break
        if len(rows) >= count:
            break
    return rows


def table(rows: list[dict[str, object]]) -> Table:
    """The columns that fit a terminal: the row's origin, its time, and the beginning of its body."""
    shown = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("origin", "time", "body"):
        shown.add_column(name, no_wrap=True, overflow="ellipsis", max_width=_BODY_WIDTH)
    for row in rows:
        if "topic" in row:
            origin = f"{row['topic']}-{row['partition']}@{row['offset']}"
        else:
            origin = f"{row['file']}@{row['position']}"
        shown.add_row(origin, f"{row['timestamp']:%H:%M:%S}", str(row["body"]))
    return shown
