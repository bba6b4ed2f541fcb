"""The `file` channel: a partition log on local disk. A row that put() answered for survives SIGKILL and a power cut.

Towards its sources it is a sink (committed), towards its sink a source: its batches have positions of its own,
and the segments below what the sink has committed are deleted.
"""

import json
import os
import re
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from tailrace.broker.log.config import LogConfig
from tailrace.broker.log.files import DirectoryLock
from tailrace.broker.log.log import open_log
from tailrace.broker.log.recovery import Start
from tailrace.broker.wire.batch import HEADER_SIZE, check_batch, read_header
from tailrace.channels import stored
from tailrace.component import ChannelSettings, Context
from tailrace.errors import Corrupt, Halt, Retry
from tailrace.event import EventBatch, Partition, Record, Span
from tailrace.failpoint import failpoint
from tailrace.fs import make_directories, write_atomically
from tailrace.units import Size, show_size

_STREAM_FILE = "stream.json"
_STREAM_VERSION = 1
_UNBOUNDED = 2**31 - 1


class FileChannelSettings(ChannelSettings):
    """Keeps batches on disk, fsynced before a source is answered; what the sink has committed is deleted."""

    durable: ClassVar[bool] = True

    type: Literal["file"]
    path: str | None = Field(
        default=None,
        description="Directory of the channel's log; by default <state_dir>/<agent>/channels/<name>.",
    )
    capacity: Size = Field(default=2**30, ge=1, description="Bytes on disk that the sink has not committed.")
    events: int = Field(default=100_000_000, ge=1, description="Rows that the sink has not committed.")
    segment: Size = Field(
        default=64 * 2**20, ge=2**16, le=2**30, description="Bytes of one file; deleted as a whole."
    )
    min_free: Size = Field(
        default=64 * 2**20,
        description="Bytes that must stay free on the disk; below it nothing more is taken.",
    )
    compression: Literal["none", "lz4", "zstd"] = Field(
        default="none", description="Codec of the rows on disk."
    )
    take: Size = Field(
        default=2**20, ge=1, description="Bytes that the sink gets at once; one put at the least."
    )

    def directory(self, state_dir: Path, name: str) -> str:
        return os.path.abspath(self.path or os.path.join(str(state_dir), "channels", name))


class FileChannel:
    """A durable channel. put() may be called by several threads, which share an fsync; the rest by the sink's."""

    Settings = FileChannelSettings

    def __init__(self, settings: FileChannelSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._fs = context.fs
        self._directory = settings.directory(context.state_dir, context.name)
        self._appending = threading.Lock()
        self._changed = threading.Condition()
        self._lock: DirectoryLock | None = None
        self._appended: dict[Partition, Record] = {}
        self._durable: dict[Partition, Record] = {}
        self._next = 0
        self._released = 0
        self._kept_bytes = 0
        self._coming_bytes = self._coming_events = 0
        self.partition = Partition("stream", "", 0, context.name)

    def open(self) -> None:
        """Locked when another process has the directory, Corrupt when durable rows are damaged, OSError."""
        make_directories(self._fs, self._directory)
        self._lock = DirectoryLock(self._directory, self._fs)
        try:
            self._open()
        except BaseException:
            self._lock.release()
            self._lock = None
            raise

    def _open(self) -> None:
        self.partition = Partition("stream", self._stream(), 0, self._context.name)
        config = LogConfig(segment_bytes=_UNBOUNDED, segment_ms=2**62, segment_index_bytes=_UNBOUNDED)
        start = Start(closed_sound=True, before_cut=_judge)
        self._log = open_log(
            self._directory, fs=self._fs, clock=self._context.clock, config=config, start=start
        )
        self._appended = self._sources()
        self._begin_segment()
        self._log.flush()
        self._durable = dict(self._appended)
        self._next = self._released = self._log.log_start
        self._kept_bytes = self._log.size

    def _stream(self) -> str:
        """The stream's id, made with the directory; a wiped channel is another stream."""
        path = os.path.join(self._directory, _STREAM_FILE)
        try:
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
            if found["version"] > _STREAM_VERSION:
                raise Halt(f"{path}: this channel was made by a newer version; run that one")
            return uuid.UUID(found["stream"]).hex
        except FileNotFoundError:
            if any(re.fullmatch(r"[0-9]{20}\.log", name) for name in os.listdir(self._directory)):
                raise Corrupt(
                    f"{path} is missing beside the rows of a channel: restore it, or move the directory away"
                ) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Corrupt(f"{path} is damaged: restore it, or move the directory away") from None
        stream = uuid.uuid4().hex
        text = json.dumps({"version": _STREAM_VERSION, "stream": stream})
        write_atomically(self._fs, path, text.encode())
        failpoint("channel.open_made")
        return stream

    def _sources(self) -> dict[Partition, Record]:
        """What the channel has of its sources: the last segment's snapshot and every note after it."""
        found: dict[Partition, Record] = {}
        bases = [base for base in self._log.bases if base < self._log.leo]
        offset = bases[-1] if bases else self._log.leo
        while (part := self._log.read(offset, self._settings.take, self._log.leo)) is not None:
            data = part.read()
            at = 0
            while at < len(data):
                header = read_header(data, at)
                note = stored.read_note(data, at)
                if offset == bases[-1] and not note.snapshot:
                    raise Corrupt(f"{part.file.path} does not begin with a snapshot of the sources")
                found |= note.sources
                offset = header.next_offset
                at += header.size
        return found

    def put(self, batch: EventBatch, timeout: float) -> bool:
        """Raises Retry while the disk is too full, Halt after a failed fsync; a batch is on disk or was not taken."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room(batch), timeout):
                return False
            self._coming_bytes += batch.nbytes
            self._coming_events += batch.num_rows
        try:
            self._check_disk(batch)
            self._store(batch)
        finally:
            with self._changed:
                self._coming_bytes -= batch.nbytes
                self._coming_events -= batch.num_rows
                self._changed.notify_all()
        return True

    def _store(self, batch: EventBatch) -> None:
        data = stored.encode(batch, self._log.flushed, self._settings.compression)
        record = Record(batch.span.end, batch.state)
        try:
            with self._appending:
                failpoint("channel.put_before_append")
                self._roll_if_due(len(data))
                self._begin_segment()
                self._append(data)
                self._appended[batch.partition] = record
            failpoint("channel.put_appended")
            self._log.flush()
        except OSError as error:
            if self._log.failed is None:
                raise Retry(f"{self._directory}: {error}") from error
            raise Halt(
                f"{self._directory}: {error}. What was not yet on disk may be lost, and no source was told "
                "that it is safe: check the disk, then start again"
            ) from error
        failpoint("channel.put_flushed")
        with self._changed:
            self._durable[batch.partition] = record

    def _append(self, data: bytearray | memoryview) -> None:
        self._log.append(data)
        with self._changed:
            self._kept_bytes += len(data)

    def _roll_if_due(self, size: int) -> None:
        """Ends the active segment when it has no room and something to release; it is on disk before the next
        begins.
        """
        holds_rows = self._log.leo > self._log.bases[-1] + 1
        if holds_rows and self._log.active_size + size > self._settings.segment:
            failpoint("channel.roll_before")
            self._log.roll(durable=True)
            failpoint("channel.roll_after")

    def _begin_segment(self) -> None:
        """An empty segment gets its snapshot of all sources before any row."""
        if self._log.leo == self._log.bases[-1]:
            self._append(stored.encode_snapshot(self._appended, self._log.flushed))
            failpoint("channel.roll_snapshot")

    def _has_room(self, batch: EventBatch) -> bool:
        """A batch larger than the whole bound is taken when the sink has committed everything else."""
        events = self._log.leo - self._released + self._coming_events
        if not self._coming_events and (events == 0 or self._log.leo == self._log.bases[0] + 1):
            return True
        return (
            self._kept_bytes + self._coming_bytes + batch.nbytes <= self._settings.capacity
            and events + batch.num_rows <= self._settings.events
        )

    def _check_disk(self, batch: EventBatch) -> None:
        free = self._fs.free_bytes(self._directory)
        if free - batch.nbytes < self._settings.min_free:
            raise Retry(
                f"{self._directory}: {show_size(free)} free, {show_size(self._settings.min_free)} must stay so "
                "(min_free): the channel takes nothing more until the disk has room"
            )

    def take(self, timeout: float) -> EventBatch | None:
        """Only rows that are fsynced. Corrupt names the file and the offset of a damaged batch."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._next < self._log.flushed, timeout):
                return None
            start = self._next
        part = self._log.read(start, self._settings.take, self._log.flushed)
        if part is None:
            raise Corrupt(f"{self._directory}: nothing at offset {start}, below {self._log.flushed}")
        data = part.read()
        try:
            rows, end = stored.decode(data, start)
        except Corrupt as error:
            at, offset = _first_bad(data, start)
            raise Corrupt(
                f"{part.file.path}: the batch at byte {part.position + at} (offset {offset}) is damaged: {error}"
            ) from error
        with self._changed:
            self._next = end
        return EventBatch(rows, self.partition, Span(start, end))

    def depth(self) -> tuple[int, int]:
        start = self._next
        return max(0, self._log.flushed - start), self._log.bytes_from(start)

    def clear(self) -> None:
        """Nothing here is forgotten: the sink seeks."""

    def committed(self) -> Mapping[Partition, Record]:
        with self._changed:
            return dict(self._durable)

    def seek(self, record: Record | None) -> None:
        """Corrupt when the sink has committed what this channel never had, or no longer has what the sink needs."""
        position = self._log.log_start if record is None else record.position
        if not self._log.log_start <= position <= self._log.flushed:
            raise Corrupt(
                f"{self._directory}: the sink wants to go on at {position}, the channel has "
                f"[{self._log.log_start}, {self._log.flushed}): it was replaced by an older copy, or damaged"
            )
        with self._changed:
            self._next = position
        if record is not None:
            self.release(position)

    def release(self, position: int) -> None:
        failpoint("channel.release_before")
        with self._changed:
            self._released = max(self._released, position)
        flushed = self._log.flushed
        below = [base for base in self._log.bases if base <= position and base < flushed]
        if below and below[-1] > self._log.log_start:
            self._log.delete_before(below[-1])
            failpoint("channel.release_deleted")
        with self._changed:
            self._kept_bytes = self._log.bytes_from(self._released)
            self._changed.notify_all()

    def close(self) -> None:
        if self._lock is not None:
            self._log.close()
            self._lock.release()
            self._lock = None


def _first_bad(data: bytes, start: int) -> tuple[int, int]:
    """(byte, offset) of the first batch in `data` that is not sound, or does not follow."""
    at, offset = 0, min(start, int.from_bytes(data[:8], "big", signed=True))
    while at + HEADER_SIZE <= len(data):
        try:
            header = check_batch(data, at)
        except Corrupt:
            break
        if at and header.base_offset != offset:
            break
        at, offset = at + header.size, header.next_offset
    return at, offset


def _judge(path: str, position: int, size: int) -> None:
    """Whether bytes that recovery wants to cut are a torn tail. Corrupt when a later batch shows that they were
    durable.
    """
    with open(path, "rb") as file:
        file.seek(position)
        data = file.read(size - position)
    lost = _offset_at(path, position)
    for magic in re.finditer(b"\x02", data):
        at = magic.start() - 16
        if at < 0:
            continue
        try:
            note = stored.read_note(data, at)
        except Corrupt:
            continue
        if note.durable > lost:
            raise Corrupt(
                f"{path}: the batch at byte {position} (offset {lost}) is damaged, and a later one shows that it "
                "was once durable: restore the file from a backup, or move the channel's directory away"
            )


def _offset_at(path: str, position: int) -> int:
    """The offset that the batch at `position` should have: one after what stands before it."""
    offset = int(os.path.basename(path).partition(".")[0])
    with open(path, "rb") as file:
        at = 0
        while at < position:
            file.seek(at)
            header = read_header(file.read(HEADER_SIZE))
            at, offset = at + header.size, header.next_offset
    return offset
