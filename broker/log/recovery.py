"""From a directory to a sound log: leftovers swept, torn tails cut, indexes and producer state made again.

After a clean stop nothing is scanned. After an unclean one every batch from the recovery point's segment on is
checked, the log ends before the first bad one, and all that is kept is durable before anyone may read it.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from tailrace.broker.log import scan, snapshot, txn_index
from tailrace.broker.log.files import OpenFile, open_to_read
from tailrace.broker.log.incoming import read_marker
from tailrace.broker.log.index import OffsetIndex, TimeIndex
from tailrace.broker.log.names import (
    CLEANED,
    DELETED,
    LOG,
    PARTIAL,
    SEGMENT_SUFFIXES,
    SNAPSHOT,
    SWAP,
    TXN_INDEX,
    file_path,
    parse_file,
)
from tailrace.broker.log.producers import Producers
from tailrace.broker.log.segment import Segment, View, load_indexes
from tailrace.broker.wire.batch import BatchHeader
from tailrace.errors import Corrupt
from tailrace.failpoint import failpoint
from tailrace.fs import FileSystem


@dataclass(frozen=True, slots=True)
class Start:
    """What is known from elsewhere about a log that is opened; offsets.

    clean           the last stop was clean: nothing is scanned
    recovery_point  everything below was fsynced; so were the indexes of segments that end before it
    log_start       everything below was deleted by request or retention
    cleaned         compaction may have left holes between segments below it
    first           where an empty directory's log begins
    closed_sound    every segment but the last was fsynced whole, indexes too, before the last was begun
    newest_epoch    no batch has a newer leader epoch
    before_cut      called with (path, position, size) before bytes behind `position` are cut off; may raise Corrupt
    """

    clean: bool = False
    recovery_point: int = 0
    log_start: int = 0
    cleaned: int = 0
    first: int = 0
    closed_sound: bool = False
    newest_epoch: int = 2**31 - 1
    before_cut: Callable[[str, int, int], None] | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """Bytes that recovery took off the log's end."""

    path: str
    position: int
    bytes: int


@dataclass(slots=True)
class Recovered:
    segments: list[Segment]
    leo: int
    producers: Producers
    scanned: int = 0
    """Number of segments that were checked batch by batch."""
    cuts: list[Cut] = field(default_factory=list)


def recover(directory: str, fs: FileSystem, start: Start, interval: int, now_ms: int) -> Recovered:
    """Opens what is in a partition's directory. `interval` is the bytes between index entries."""
    bases = _sweep(directory, fs, start)
    if not bases:
        bases = [max(start.first, start.log_start)]
        os.close(fs.open(file_path(directory, bases[0], LOG), os.O_WRONLY | os.O_CREAT))
        failpoint("log.recover_created")
    result = Recovered([Segment(directory, base) for base in bases], bases[-1], Producers())
    first_scanned, trusted = _load_trusted(result, fs, start)
    unclean = first_scanned < len(bases)
    if unclean:
        _scan(result, fs, start, first_scanned, interval)
        trusted = min(trusted, bases[first_scanned])
    _restore_producers(result, fs, min(trusted, result.leo), now_ms)
    if unclean:
        _make_durable(result, fs, first_scanned)
    active = result.segments[-1]
    active.created_ms = min(now_ms, active.max_timestamp) if active.max_timestamp >= 0 else now_ms
    return result


def _sweep(directory: str, fs: FileSystem, start: Start) -> list[int]:
    """Finishes or undoes what a crash interrupted; answers the base offsets of the segments, rising."""
    removed = False
    parsed = []
    for name in sorted(os.listdir(directory)):
        if name.endswith(PARTIAL):
            fs.unlink(os.path.join(directory, name))
            removed = True
        elif (file := parse_file(name)) is not None:
            parsed.append(file)
    for base, suffix, mark in parsed:
        if mark in (CLEANED, DELETED) or (mark == SWAP and suffix != LOG):
            fs.unlink(file_path(directory, base, suffix + mark))
            removed = True
    for base, suffix, mark in parsed:
        if mark == SWAP and suffix == LOG:
            finish_swap(directory, fs, base)
            removed = True
    files = [p for p in (parse_file(name) for name in os.listdir(directory)) if p is not None]
    bases = sorted(base for base, suffix, mark in files if suffix == LOG and not mark)
    below = [base for base, after in pairwise(bases) if after <= start.log_start]
    kept = [base for base in bases if base not in below]
    for base, suffix, mark in files:
        if suffix != SNAPSHOT and not mark and base not in kept:
            fs.unlink(file_path(directory, base, suffix))
            removed = True
    if removed:
        failpoint("log.recover_swept")
    return kept


def finish_swap(directory: str, fs: FileSystem, base: int) -> None:
    """Puts a cleaned, fsynced `.log.swap` in the place of all segments whose offsets it covers.

    Repeating it after a crash at any step ends the same.
    """
    swap = file_path(directory, base, LOG + SWAP)
    fd = os.open(swap, os.O_RDONLY | os.O_CLOEXEC)
    try:
        last = base
        for _, header in scan.headers(fd, 0, os.fstat(fd).st_size):
            last = header.last_offset
    finally:
        os.close(fd)
    for name in sorted(os.listdir(directory)):
        file = parse_file(name)
        if file is None or file[2] or file[1] == SNAPSHOT or not base <= file[0] <= last:
            continue
        if file[:2] != (base, LOG):
            fs.unlink(os.path.join(directory, name))
            failpoint("log.swap_unlinked")
    fs.rename(swap, file_path(directory, base, LOG))
    failpoint("log.swap_renamed")


def _load_trusted(result: Recovered, fs: FileSystem, start: Start) -> tuple[int, int]:
    """Takes over segments that need no scan.

    Answers the index of the first one that does, and the offset up to which snapshots and aborted lists hold.
    """
    segments = result.segments
    trusted = 2**63 - 1
    for segment in segments:
        segment.size = os.path.getsize(segment.path(LOG))
    for i, segment in enumerate(segments):
        active = i == len(segments) - 1
        fsynced = start.closed_sound or (not active and segments[i + 1].base < start.recovery_point)
        if not start.clean and (active or not fsynced):
            return i, trusted
        if not _load_aborted(segment):
            trusted = min(trusted, segment.base)
        loaded = load_indexes(segment)
        if loaded is not None:
            segment.max_timestamp, segment.max_timestamp_offset = loaded[1].last()
        if active and (loaded is None or not _open_active(result, fs, segment, loaded)):
            return i, trusted
    return len(segments), trusted


def _load_aborted(segment: Segment) -> bool:
    path = segment.path(TXN_INDEX)
    try:
        with open(path, "rb") as file:
            segment.aborted = txn_index.decode(file.read(), path)
    except FileNotFoundError:
        pass
    except Corrupt:
        return False
    return True


def _open_active(
    result: Recovered, fs: FileSystem, segment: Segment, loaded: tuple[OffsetIndex, TimeIndex]
) -> bool:
    """Finds the log's end behind the last index entry; False when there is something else than whole batches."""
    segment.view = View(open_to_append(segment, fs), *loaded)
    position = segment.view.offsets.boundary(segment.size)
    since, end, leo = 0, position, segment.base
    for at, header in scan.headers(segment.view.file.fd, position, segment.size):
        end = at + header.size
        since += header.size
        leo = header.next_offset
    segment.since_index = since
    result.leo = leo
    return end == segment.size


def open_to_append(segment: Segment, fs: FileSystem) -> OpenFile:
    """The segment's log file, made if it is not there; its name needs fsync_dir then."""
    path = segment.path(LOG)
    return OpenFile(path, fs.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT))


def _scan(result: Recovered, fs: FileSystem, start: Start, first: int, interval: int) -> None:
    """Checks each batch from segment `first` on and cuts the log at the first that is bad, or does not follow."""
    segments = result.segments
    expected = segments[first].base
    epoch = -1
    for i in range(first, len(segments)):
        segment = segments[i]
        if i > first and segment.base != expected and not _hole_is_right(segment.base, expected, start):
            if start.before_cut is not None:
                start.before_cut(segment.path(LOG), 0, segment.size)
            _drop(result, fs, i)
            break
        whole = segment.size
        segment.view = View(open_to_append(segment, fs), OffsetIndex(segment.base), TimeIndex(segment.base))
        segment.size = segment.since_index = 0
        segment.max_timestamp = segment.max_timestamp_offset = -1
        limit = segments[i + 1].base if i + 1 < len(segments) else segment.base + 2**31
        expected = max(segment.base, expected)
        for position, header, _ in scan.checked(segment.view.file.fd, 0, whole):
            if not _follows(header, expected, epoch, limit, start):
                break
            segment.note(header, position, interval)
            expected, epoch = header.next_offset, header.leader_epoch
        result.scanned += 1
        if segment.size < whole:
            if start.before_cut is not None:
                start.before_cut(segment.path(LOG), segment.size, whole)
            failpoint("log.recover_before_cut")
            result.cuts.append(Cut(segment.path(LOG), segment.size, whole - segment.size))
            fs.truncate(segment.path(LOG), segment.size)
            failpoint("log.recover_after_cut")
            _drop(result, fs, i + 1)
            break
    result.leo = expected


def _follows(header: BatchHeader, expected: int, epoch: int, limit: int, start: Start) -> bool:
    """Whether a batch may stand where it does. Offset and leader epoch lie outside the CRC, so they are checked
    here.
    """
    in_order = header.base_offset == expected or _hole_is_right(header.base_offset, expected, start)
    return in_order and header.last_offset < limit and epoch <= header.leader_epoch <= start.newest_epoch


def _hole_is_right(base: int, expected: int, start: Start) -> bool:
    """Whether offsets may be missing before a segment: only compaction, or a fsynced past, explains that."""
    return base > expected and base <= max(start.cleaned, start.recovery_point)


def _drop(result: Recovered, fs: FileSystem, first: int) -> None:
    """Removes the segments from index `first` on: they lie behind the place where the log was cut."""
    for segment in reversed(result.segments[first:]):
        result.cuts.append(Cut(segment.path(LOG), 0, segment.size))
        for suffix in reversed(SEGMENT_SUFFIXES):
            if os.path.exists(segment.path(suffix)):
                fs.unlink(segment.path(suffix))
    del result.segments[first:]
    failpoint("log.recover_dropped")


def _restore_producers(result: Recovered, fs: FileSystem, trusted: int, now_ms: int) -> None:
    """The newest snapshot at or before `trusted`, then the batches since; aborted lists are made again on the way."""
    segments = result.segments
    directory = segments[0].directory
    since = segments[0].base
    found = snapshot.load_latest(directory, trusted)
    if found is not None and found[0] >= since:
        since = found[0]
        result.producers.restore(found[1], now_ms)
    for segment, end in zip(segments, [*(s.base for s in segments[1:]), result.leo], strict=True):
        if end > since:
            segment.aborted = [entry for entry in segment.aborted if entry.last_offset < since]
            _replay(result.producers, segment, since, now_ms)
    for offset in snapshot.offsets(directory):
        if not segments[0].base <= offset <= trusted:
            fs.unlink(file_path(directory, offset, SNAPSHOT))


def _replay(producers: Producers, segment: Segment, since: int, now_ms: int) -> None:
    file = segment.view.file if segment.view is not None else open_to_read(segment.path(LOG))
    for position, header in scan.headers(file.fd, 0, segment.size):
        if header.base_offset < since:
            continue
        if not header.is_control:
            producers.add(header, now_ms)
        elif header.count:
            aborted = producers.end(read_marker(file.read_at(position, header.size), header), now_ms)
            if aborted is not None:
                segment.aborted.append(aborted)


def _make_durable(result: Recovered, fs: FileSystem, first: int) -> None:
    """fsyncs what a scan kept, so that `flushed` is true.

    The names follow with the new leader epoch, which is noted in the same directory before anything is appended.
    """
    for segment in result.segments[first:]:
        fs.fsync(segment.path(LOG))
        if segment is not result.segments[-1]:
            segment.write_indexes(fs)
            segment.view = None
            for path in segment.index_files():
                fs.fsync(path)
    failpoint("log.recover_synced")


def epochs_in(recovered: Recovered) -> list[tuple[int, int]]:
    """(leader epoch, first offset) of each epoch that the batches carry: for a log whose checkpoint is lost."""
    found: list[tuple[int, int]] = []
    for segment in recovered.segments:
        file = segment.view.file if segment.view is not None else open_to_read(segment.path(LOG))
        for _, header in scan.headers(file.fd, 0, segment.size):
            if header.leader_epoch >= 0 and (not found or header.leader_epoch > found[-1][0]):
                found.append((header.leader_epoch, header.base_offset))
    return found
