"""Reads the footer of a Parquet file in any store, without the rest of the file."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from tailrace.sinks.stores.store import Store, StoreError

_TAIL = 1 << 16
"""Bytes read at once at the end: nearly every footer fits."""


def footer_of(store: Store, path: str, size: int) -> pq.FileMetaData:
    """Raises OSError, and pa.ArrowInvalid for what is not a Parquet file. `size` is the file's."""
    return pq.read_metadata(pa.PythonFile(_Tail(store, path, size), mode="r"))


class _Tail(io.RawIOBase):
    """A file of which the end is in memory; what lies before it is fetched when asked for."""

    def __init__(self, store: Store, path: str, size: int) -> None:
        self._store = store
        self._path = path
        self._size = size
        self._at = 0
        self._start = max(0, size - _TAIL)
        self._tail = self._fetch(self._start, size - self._start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        size = max(0, self._size - self._at) if size < 0 else min(size, max(0, self._size - self._at))
        if self._at >= self._start:
            data = self._tail[self._at - self._start :][:size]
        else:
            data = self._fetch(self._at, size)
        self._at += len(data)
        return data

    def _fetch(self, offset: int, length: int) -> bytes:
        data = self._store.read(self._path, length, offset)
        if data is None or len(data) != length:
            raise StoreError(f"{self._store.url(self._path)}: {length} bytes at {offset} are not there")
        return data
