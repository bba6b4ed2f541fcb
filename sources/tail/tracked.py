"""One content that was seen: a partition, how far it was read, and the file it is in now, if any."""

import json
import os
from dataclasses import dataclass, field
from uuid import uuid4

from tailrace.errors import Corrupt
from tailrace.event import Partition, Record
from tailrace.sources.comparison import Recollection
from tailrace.sources.content import Content, GzipContent, PlainContent
from tailrace.sources.progress import HEAD, TAIL, Progress, restarted, skipped
from tailrace.sources.tail.patterns import Key, Seen

_VERSION = 1
_LAST_LINE = 64 * 1024
"""Bytes before the end in which the beginning of the last line is looked for."""
_NO_STAMP = (-1, -1, -1)
RACY = 2.0
"""Seconds after a modification during which another one may leave the same times (the coarsest clock is FAT's)."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading of both clocks: ms since the epoch, and monotonic seconds."""

    ms: int
    monotonic: float

    def since(self, mtime_ns: int) -> float:
        """The monotonic moment of a file's time; now, when that lies in the future."""
        return self.monotonic - max(0.0, self.ms / 1000 - mtime_ns / 1e9)


@dataclass(slots=True, eq=False)
class Tracked:
    """A content under its partition. Its file may be renamed, and may be replaced by a copy.

    born      path when it was first seen; rows carry this one
    path      path now, or the last one known
    key       device and inode now, or the last ones known
    attached  the file `key` is known to hold this content; else nothing can be read of it now
    first_modified, modified  time of modification when it was first seen, and the last one known; ns since the epoch
    skip      an archive that was there at a `start: end`: nothing of it is read
    """

    partition: Partition
    born: str
    path: str
    key: Key
    first_seen: int
    """When, ms since the epoch."""
    progress: Progress = field(default_factory=Progress)
    first_modified: int = 0
    modified: int = 0
    group: int = -1
    skip: bool = False
    at_first_start: bool = False
    """It was there at the very first start, and nothing of it was read since: see `start: end`."""

    attached: bool = False
    was_cut: bool = False
    """Its file was seen to hold something else under the same inode: do not look for it there again."""
    is_outside: bool = False
    """No pattern names its file now (it was renamed or deleted)."""
    is_deleted: bool = False
    is_old_name: bool = False
    """Its name is that of a rotated file (`a.log.1`, where there is an `a.log`). Known only while there is a rest."""
    is_gzip: bool = False
    missing: int = 0
    """Looks in a row that did not find its file."""

    assigned: bool = False
    sought: bool = False
    must_skip: bool = False
    """The span before progress.began has to be sent, without rows, before anything else."""
    committed: int = 0

    stamp: tuple[int, int, int] = _NO_STAMP
    """Size, mtime and ctime when its file was looked at last."""
    is_racy: bool = False
    """It was modified so shortly before the look that a later change may have left the same stamp."""
    still_since: float = 0.0
    """Monotonic s since which size and mtime have not changed."""
    content: Content | None = None
    recollection: Recollection | None = None
    """Of an archive that was opened, while it is decompressed up to the position."""
    is_recalled: bool = False
    """The archive that is open was found to agree up to the position."""
    queued: bool = False
    rest: int = 0
    """Bytes at the end that make no row yet."""
    at_end: bool = False
    is_finished: bool = False
    """An archive that was read to its end."""
    failed_reason: str = ""

    @property
    def size(self) -> int:
        return self.stamp[0]

    @property
    def unread(self) -> int:
        """Bytes as far as known; those of an archive while it is compressed."""
        if self.is_gzip:
            return 0 if self.at_end else self.size
        return max(0, self.size - self.progress.position)

    @property
    def is_rotated(self) -> bool:
        """Its name went on to another file, or never was the name that is written to."""
        is_renamed = self.is_outside or self.is_deleted or self.path != self.born
        return is_renamed or self.is_old_name or self.is_gzip

    def look_at(self, stamp: tuple[int, int, int], now: "Moment") -> bool:
        """Notes size, mtime and ctime of the file; true when the content may have changed since the last look."""
        may_have_changed = stamp != self.stamp or self.is_racy
        if stamp[:2] != self.stamp[:2]:
            self.still_since = now.since(stamp[1])
        self.stamp, self.modified = stamp, stamp[1]
        self.is_racy = now.ms - max(stamp[1:]) / 1e6 < RACY * 1000
        return may_have_changed

    def state(self, source: str) -> bytes:
        """What a sink stores beside the position."""
        fields = {
            "source": f"tail/{source}",
            "version": _VERSION,
            "device": self.key[0],
            "inode": self.key[1],
            "path": self.path,
            "born": self.born,
            "first_seen": self.first_seen,
            "first_modified": self.first_modified,
            "modified": self.modified,
            "skip": self.skip,
            "at_first_start": self.at_first_start,
            "gzip": self.is_gzip,
        }
        return json.dumps(fields | self.progress.to_json(), separators=(",", ":")).encode()

    def restart(self, progress: Progress | None) -> None:
        """Reading goes on at `progress`, or where this content was begun (None)."""
        if progress is not None:
            self.progress = progress
        elif self.progress.position != self.progress.began:
            self.progress = restarted(self.progress)
        self.must_skip = progress is None and self.progress.began > 0
        self.recollection, self.is_recalled = None, False
        self.rest, self.at_end, self.is_finished = 0, False, False


def new_tracked(seen: Seen, now_ms: int, born: str | None = None) -> Tracked:
    """born: the name it was written under, when that is known to be another one than now."""
    born = born or seen.path
    shown = os.fsencode(born).decode(errors="backslashreplace")
    return Tracked(
        partition=Partition("file", uuid4().hex, name=shown),
        born=born,
        path=seen.path,
        key=seen.key,
        first_seen=now_ms,
        first_modified=seen.mtime_ns,
        modified=seen.mtime_ns,
        group=seen.group,
    )


def first_start_marker(source: str, now_ms: int) -> Tracked:
    """A partition without a file. Once it is stored, the pipeline's very first start is over (`start: end`)."""
    return Tracked(
        partition=Partition("file", uuid4().hex, name=f"{source}: the first start"),
        born="",
        path="",
        key=(0, 0),
        first_seen=now_ms,
        progress=Progress(position=1, began=1),
        skip=True,
        must_skip=True,
    )


def begin_at_end(tracked: Tracked, seen: Seen, content: Content, *, is_known: bool = False) -> None:
    """Lets a new file be read from its present end on, or from where a half-written last line begins.

    is_known: every byte of it was read elsewhere, a half-written line as well.
    """
    raw = PlainContent(content.fd)
    end = seen.size
    if isinstance(content, GzipContent):
        # What it holds was written before: none of it is read. It is known by its compressed bytes.
        tracked.skip = True
    elif not is_known:
        block = bytearray(min(_LAST_LINE, seen.size))
        before = seen.size - len(block)
        filled = raw.read_at(before, memoryview(block))
        end = before + (block.rfind(b"\n", 0, filled) + 1 or filled)
    head, tail = bytearray(min(HEAD, end)), bytearray(min(TAIL, end))
    raw.read_at(0, memoryview(head))
    raw.read_at(end - len(tail), memoryview(tail))
    tracked.progress = skipped(end, bytes(head), bytes(tail))
    tracked.must_skip = end > 0


def from_record(source: str, partition: Partition, record: Record) -> Tracked | None:
    """None for the record of another source. Raises Corrupt for a state that this source cannot have made."""
    if partition.kind != "file" or record.state is None:
        return None
    try:
        fields = json.loads(record.state)
    except ValueError:
        return None
    if not isinstance(fields, dict) or fields.get("source") != f"tail/{source}":
        return None
    try:
        if fields["version"] != _VERSION:
            raise Corrupt(f"{partition.key}: stored by another version of Tailrace; run that version")
        progress = Progress.from_json(fields)
        if progress.position != record.position:
            raise ValueError(f"the state is of position {progress.position}")
        return Tracked(
            partition=partition,
            born=str(fields["born"]),
            path=str(fields["path"]),
            key=(int(fields["device"]), int(fields["inode"])),
            first_seen=int(fields["first_seen"]),
            progress=progress,
            first_modified=int(fields["first_modified"]),
            modified=int(fields["modified"]),
            skip=bool(fields["skip"]),
            at_first_start=bool(fields["at_first_start"]),
            is_gzip=bool(fields["gzip"]),
            committed=record.position,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(
            f"{partition.key} ({partition.name}): what the sink stored at {record.position} cannot be right ({error});"
            " `tailrace positions reset` forgets it, and the file is read again from its start"
        ) from error
