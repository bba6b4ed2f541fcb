"""The files being written, over all batches of a sink: one memory budget, and a bound on open descriptors."""

from collections.abc import Callable

import pyarrow as pa

from tailrace.sinks.parquet.columns import Origin
from tailrace.sinks.parquet.part import Part

Retire = Callable[[Part], None]


class OpenFiles:
    """memory     bytes of rows gathered over all parts; the largest part is flushed when they do not suffice
    row_group  bytes of rows at which a part is flushed anyway
    most       parts with an open file; the least recently used one is retired by its batch
    """

    def __init__(self, memory: int, row_group: int, most: int) -> None:
        self._memory = memory
        self._row_group = row_group
        self._most = most
        self._parts: dict[Part, Retire] = {}
        self._used = 0

    @property
    def pending(self) -> int:
        """Bytes gathered and not yet written, over all parts."""
        return sum(part.pending for part in self._parts)

    def register(self, part: Part, retire: Retire) -> None:
        """`retire` ends the part's file; more rows for its directory will be another part."""
        self._parts[part] = retire

    def forget(self, part: Part) -> None:
        """It ended, or was dropped."""
        self._parts.pop(part, None)

    def add(self, part: Part, rows: pa.RecordBatch, origin: Origin) -> None:
        """Gathers rows; never touches the store."""
        part.add(rows, origin)
        self._used += 1
        part.used = self._used

    def make_room(self, incoming: int, may_write: Callable[[int], None]) -> None:
        """Before `incoming` bytes are added: writes out until they fit.

        `may_write` is asked before each row group, with its size in memory. Raises what that, `Part.flush`
        and the retiring raise; it may be called again after that.
        """
        for part in [part for part in self._parts if part.pending >= self._row_group]:
            self._flush(part, may_write)
        while (pending := self.pending) and pending + incoming > self._memory:
            self._flush(max(self._parts, key=lambda part: part.pending), may_write)

    def make_way(self) -> None:
        """Before a file is opened: retires until there is a place for it."""
        while True:
            open_parts = [part for part in self._parts if part.is_open]
            if len(open_parts) < self._most:
                return
            part = min(open_parts, key=lambda one: one.used)
            self._parts[part](part)
            self.forget(part)

    def _flush(self, part: Part, may_write: Callable[[int], None]) -> None:
        may_write(part.pending)
        if not part.is_open:
            self.make_way()
        part.flush()
