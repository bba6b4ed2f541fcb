"""One segment: a log file named by its first offset, with its indexes, and look-ups in it by offset and time."""

import os
from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock

from tailrace.broker.log import scan, txn_index
from tailrace.broker.log.files import OpenFile, open_to_read
from tailrace.broker.log.index import OffsetIndex, TimeIndex
from tailrace.broker.log.names import INDEX, LOG, TIME_INDEX, TXN_INDEX, file_path
from tailrace.broker.log.txn_index import Aborted
from tailrace.broker.wire.batch import BatchHeader
from tailrace.fs import FileSystem


@dataclass(slots=True)
class View:
    """What a look-up needs of a segment: its open file and its indexes."""

    file: OpenFile
    offsets: OffsetIndex
    times: TimeIndex


@dataclass(slots=True, eq=False)
class Segment:
    """A segment as the log knows it. `view` is there while it is active or not yet flushed."""

    directory: str
    base: int
    size: int = 0
    created_ms: int = 0
    max_timestamp: int = -1
    max_timestamp_offset: int = -1
    aborted: list[Aborted] = field(default_factory=list)
    view: View | None = None
    since_index: int = 0
    """Bytes appended since the last index entry."""

    def path(self, suffix: str) -> str:
        return file_path(self.directory, self.base, suffix)

    def note(self, header: BatchHeader, position: int, interval: int) -> None:
        """Takes a batch that was written at `position` into the indexes; `view` must be there."""
        assert self.view is not None
        if header.max_timestamp > self.max_timestamp:
            self.max_timestamp = header.max_timestamp
            self.max_timestamp_offset = header.last_offset
        if self.since_index > interval:
            self.view.offsets.append(header.last_offset, position)
            self.view.times.offer(self.max_timestamp, self.max_timestamp_offset)
            self.since_index = 0
        self.since_index += header.size
        self.size = position + header.size

    def write_indexes(self, fs: FileSystem) -> None:
        """Writes .index, .timeindex and, if a transaction was aborted here, .txnindex; not yet durable."""
        assert self.view is not None
        self.view.times.offer(self.max_timestamp, self.max_timestamp_offset)
        write_file(fs, self.path(INDEX), self.view.offsets.data)
        write_file(fs, self.path(TIME_INDEX), self.view.times.data)
        if self.aborted or os.path.exists(self.path(TXN_INDEX)):
            write_file(fs, self.path(TXN_INDEX), txn_index.encode(self.aborted))

    def index_files(self) -> list[str]:
        paths = [self.path(suffix) for suffix in (INDEX, TIME_INDEX, TXN_INDEX)]
        return [path for path in paths if os.path.exists(path)]


def write_file(fs: FileSystem, path: str, data: bytes | bytearray) -> None:
    """The file at `path` holds `data` and nothing else; not yet durable."""
    fd = fs.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        fs.write(fd, data)
    finally:
        os.close(fd)


def build_indexes(
    file: OpenFile, base: int, size: int, interval: int
) -> tuple[OffsetIndex, TimeIndex, tuple[int, int]]:
    """Both indexes of a sound segment from its batch headers, and (largest timestamp, its offset)."""
    segment = Segment("", base, view=View(file, OffsetIndex(base), TimeIndex(base)))
    for position, header in scan.headers(file.fd, 0, size):
        segment.note(header, position, interval)
    view = segment.view
    assert view is not None
    view.times.offer(segment.max_timestamp, segment.max_timestamp_offset)
    return view.offsets, view.times, (segment.max_timestamp, segment.max_timestamp_offset)


class Views:
    """Views of closed segments, the least recently used let go: bounds the descriptors and the memory of all logs."""

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self._lock = Lock()
        self._views: OrderedDict[Segment, View] = OrderedDict()

    def get(self, segment: Segment, interval: int) -> View:
        """The segment's view, opened if need be; a missing or damaged index is made again from the log."""
        if segment.view is not None:
            return segment.view
        with self._lock:
            view = self._views.get(segment)
            if view is not None:
                self._views.move_to_end(segment)
                return view
        view = _load(segment, interval)
        with self._lock:
            self._views[segment] = view
            while len(self._views) > self._limit:
                self._views.popitem(last=False)
        return view

    def drop(self, segment: Segment) -> None:
        """The segment is no longer part of its log."""
        with self._lock:
            self._views.pop(segment, None)


def _load(segment: Segment, interval: int) -> View:
    file = open_to_read(segment.path(LOG))
    loaded = load_indexes(segment)
    if loaded is None:
        offsets, times, _ = build_indexes(file, segment.base, segment.size, interval)
    else:
        offsets, times = loaded
    return View(file, offsets, times)


def load_indexes(segment: Segment) -> tuple[OffsetIndex, TimeIndex] | None:
    """Both indexes as they are on disk; None when one is missing or does not fit the log file."""
    try:
        with open(segment.path(INDEX), "rb") as file:
            offsets = OffsetIndex(segment.base, bytearray(file.read()))
        with open(segment.path(TIME_INDEX), "rb") as file:
            times = TimeIndex(segment.base, bytearray(file.read()))
    except (FileNotFoundError, ValueError):
        return None
    if len(offsets) and offsets.entry(len(offsets) - 1)[1] >= segment.size:
        return None
    if not len(times) and segment.size:
        return None
    return offsets, times
