"""One Parquet file in the making: rows gathered in memory, row groups in staging, the footer at the end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tailrace.sinks.parquet.columns import Layout, Origin, row_group
from tailrace.sinks.stores.store import Sealed, Spoiled, Staging

_OVERHEAD = 4096
"""Bytes that a chunk costs beside its columns: many tiny ones must not slip under the memory budget."""


@dataclass(frozen=True, slots=True)
class Format:
    layout: Layout
    codec: str
    level: int | None


class Part:
    """A file of a batch. Only `flush` and what comes after it touch the store.

    directory  below the root; with `dead` it says which bucket of the batch this is
    """

    def __init__(self, directory: str, dead: bool, form: Format, stage: Callable[[], Staging]) -> None:
        self.directory = directory
        self.dead = dead
        self.rows = 0
        self.first = np.iinfo(np.int64).max
        self.last = -1
        self.pending = 0
        """Bytes gathered and not yet in a row group."""
        self.used = 0
        """When rows came last, as a count of all such moments."""
        self.sealed: Sealed | None = None
        self._form = form
        self._stage = stage
        self._chunks: list[tuple[pa.RecordBatch, Origin]] = []
        self._staging: Staging | None = None
        self._output: _Output | None = None
        self._writer: pq.ParquetWriter | None = None
        self._flushed = 0

    @property
    def is_open(self) -> bool:
        """True while it holds a descriptor."""
        return self._staging is not None and self.sealed is None

    @property
    def written(self) -> int:
        """Bytes in the file so far."""
        return self._staging.size if self._staging is not None else 0

    @property
    def ratio(self) -> float | None:
        """Bytes in the file a byte of rows; None while there is no row group."""
        return self.written / self._flushed if self._flushed else None

    def add(self, rows: pa.RecordBatch, origin: Origin) -> None:
        """Gathers rows; they stay in the caller's buffers until a flush."""
        positions = rows.column("position").to_numpy()
        self._chunks.append((rows, origin))
        self.pending += rows.nbytes + _OVERHEAD
        self.rows += rows.num_rows
        self.first = min(self.first, int(positions.min()))
        self.last = max(self.last, int(positions.max()))

    def flush(self) -> None:
        """What was gathered becomes a row group.

        Raises OSError when no file could be opened (nothing has happened), Spoiled when this file is lost.
        """
        if not self._chunks:
            return
        writer = self._open()
        self._guarded(lambda: writer.write_table(row_group(self._form.layout, self._chunks)))
        self._flushed += self.pending
        self.pending = 0
        self._chunks = []

    def finish(self, footer: Mapping[str, str]) -> None:
        """The last row group and the footer, once; after that comes `seal`. Raises as `flush`."""
        self.flush()
        writer = self._writer
        if writer is not None:
            writer.add_key_value_metadata(dict(footer))
            self._guarded(writer.close)
            self._writer = None

    def seal(self) -> Sealed:
        """After `finish`: makes the file durable where it is staged. Raises as `Staging.seal`."""
        if self.sealed is None:
            assert self._staging is not None
            self.sealed = self._staging.seal()
        return self.sealed

    def discard(self) -> None:
        """Forgets everything, and removes the file where that is possible."""
        self._chunks = []
        self.pending = 0
        if self._output is not None:
            self._output.abandoned = True
        self._writer = None
        if self._staging is not None:
            self._staging.discard()

    def _open(self) -> pq.ParquetWriter:
        if self._writer is None:
            self._staging = self._stage()
            self._output = _Output(self._staging)
            layout = self._form.layout
            self._writer = pq.ParquetWriter(
                pa.PythonFile(self._output, mode="w"),
                layout.schema,
                version="2.6",
                compression=self._form.codec,
                compression_level=self._form.level,
                use_dictionary=layout.dictionary,
                column_encoding=layout.encodings,
                write_statistics=layout.statistics,
                store_schema=False,
            )
        return self._writer

    def _guarded(self, write: Callable[[], None]) -> None:
        """A write that fails half-way leaves a file that no footer can end."""
        assert self._output is not None
        try:
            write()
        except (OSError, pa.ArrowException) as error:
            if self._output.failure is None:
                raise
            raise self._output.failure from error


class _Output:
    """The staged file as pyarrow wants it. Once abandoned it swallows what a writer's end still writes."""

    closed = False

    def __init__(self, staging: Staging) -> None:
        self.failure: Spoiled | None = None
        self.abandoned = False
        self._staging = staging

    def write(self, data: bytes) -> int:
        if not self.abandoned:
            try:
                self._staging.write(memoryview(data))
            except Spoiled as error:
                self.failure = error
                raise
        return len(data)

    def tell(self) -> int:
        return self._staging.size

    def flush(self) -> None:
        """The staging file is not buffered."""

    def close(self) -> None:
        """The staging file is ended by `seal`."""

    def seekable(self) -> bool:
        return False

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True
