"""One partition's log: append, read, fsync, and what an append means for producers and transactions.

Offsets, in Kafka's words: log start <= flushed <= LEO (log end), HW (high watermark; LEO while there is one
replica), LSO (last stable offset). An append is one write of bytes nobody decodes; a row that `flush` answered
for survives a power cut.
"""

import errno
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise

import structlog

from tailrace.broker.log import snapshot
from tailrace.broker.log.compaction import Pass, by_producer, rewrite, survey
from tailrace.broker.log.config import LogConfig
from tailrace.broker.log.epochs import LeaderEpochs
from tailrace.broker.log.errors import OffsetOutOfRange
from tailrace.broker.log.files import FileRange
from tailrace.broker.log.incoming import check, note_all, stamp_all, written_before
from tailrace.broker.log.index import OffsetIndex, TimeIndex
from tailrace.broker.log.names import SNAPSHOT, file_path
from tailrace.broker.log.producers import Producer
from tailrace.broker.log.reader import Reader
from tailrace.broker.log.recovery import (
    Cut,
    Recovered,
    Start,
    epochs_in,
    open_to_append,
    recover,
)
from tailrace.broker.log.retention import groups, outlived, settled, worth_compacting
from tailrace.broker.log.segment import Segment, View, Views
from tailrace.broker.log.segments import Segments
from tailrace.broker.wire.batch import AbortedTxn
from tailrace.clock import Clock
from tailrace.failpoint import failpoint
from tailrace.fs import FileSystem, make_directories

_log = structlog.get_logger("tailrace.broker.log")
_MAX_RELATIVE = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Appended:
    """What was appended; for a duplicate, the offsets of the original append.

    log_append_time is in ms, or -1 when the topic keeps its producers' timestamps.
    """

    first_offset: int
    last_offset: int
    log_append_time: int
    log_start: int
    duplicate: bool = False


class PartitionLog:
    """All verbs may be called from any thread. Made by LogStore, or by open_log for a log without a store.

    directory      `<data_dir>/<topic>-<partition>`
    leader_epoch   what appends are stamped with; an unclean start made it one higher
    cuts           what recovery took off the end when it was opened
    """

    def __init__(
        self,
        directory: str,
        *,
        fs: FileSystem,
        clock: Clock,
        config: LogConfig,
        views: Views,
        start: Start,
        marked: Callable[[], None] | None = None,
    ) -> None:
        """Opens and, if need be, recovers. `marked` makes log_start and cleaned durable; called before files go.

        The directory must exist. Raises Corrupt, and OSError as the system gave it.
        """
        self.directory = directory
        self.config = config
        self._fs = fs
        self._clock = clock
        self._views = views
        self._marked = marked
        self._lock = threading.RLock()
        self._flush_lock = threading.Lock()
        self._admin_lock = threading.RLock()
        self._failed: OSError | None = None
        self._closed = False
        self._epochs = LeaderEpochs(directory, fs)
        if self._epochs.found:
            start = replace(start, newest_epoch=self._epochs.latest)
        recovered = recover(directory, fs, start, config.index_interval_bytes, clock.now_ms())
        self._take(recovered, start)
        self._start_epoch(recovered, start)

    def _take(self, recovered: Recovered, start: Start) -> None:
        self._segments = Segments(self.directory, recovered.segments, self._fs, self._views, self._lock)
        self._reader = Reader(self._segments, self._view)
        self._unflushed: list[Segment] = []
        self._names_flushed = True
        self._producers = recovered.producers
        self._leo = self._hw = self._flushed = recovered.leo
        self._log_start = min(max(start.log_start, self._segments.all[0].base), self._leo)
        self.cleaned = min(start.cleaned, self._leo)
        self.cuts: Sequence[Cut] = recovered.cuts
        for cut in recovered.cuts:
            _log.warning("cut a torn tail", path=cut.path, position=cut.position, bytes=cut.bytes)

    def _start_epoch(self, recovered: Recovered, start: Start) -> None:
        """An unclean start is a new epoch, noted in one step: a crash in between must not forget the old ones."""
        if not self._epochs.found:
            for epoch, offset in epochs_in(recovered):
                self._epochs.assign(epoch, offset)
        newest = self._epochs.latest
        if (start.clean and not recovered.cuts) or newest < 0:
            self.leader_epoch = max(newest, 0)
        else:
            self.leader_epoch = newest + 1
        self._epochs.assign(self.leader_epoch, self._leo)

    @property
    def log_start(self) -> int:
        return self._log_start

    @property
    def leo(self) -> int:
        return self._leo

    @property
    def hw(self) -> int:
        return self._hw

    @property
    def flushed(self) -> int:
        """Everything below it is fsynced."""
        return self._flushed

    @property
    def recovery_point(self) -> int:
        """A start after a crash need scan nothing below it: rows and indexes are fsynced."""
        with self._lock:
            return min([self._flushed, *(segment.base for segment in self._unflushed)])

    @property
    def lso(self) -> int:
        """First offset of the oldest open transaction, else HW; never past what is fsynced."""
        with self._lock:
            unstable = self._producers.first_unstable()
            stable = self._hw if unstable is None else min(self._hw, max(unstable, self._log_start))
            return min(stable, self._flushed)

    @property
    def size(self) -> int:
        """Bytes in all segments."""
        return self._segments.size

    @property
    def active_size(self) -> int:
        """Bytes in the segment that is being appended to."""
        return self._segments.active.size

    @property
    def bases(self) -> Sequence[int]:
        """First offsets of the segments, rising; the last one is being appended to."""
        with self._lock:
            return self._segments.bases

    def producers(self) -> Mapping[int, Producer]:
        """A copy of the state of every producer id."""
        with self._lock:
            return self._producers.copy()

    def append(
        self, batches: bytearray | memoryview, *, leader_epoch: int | None = None, control: bool = False
    ) -> Appended:
        """Appends one or several v2 record batches in one write; offsets and epoch are stamped in place.

        batches   writable; whole batches and nothing else
        control   the batches are transaction markers; without it a marker is refused

        A repeat of one of its producer's last five batches is not written, and answers with the original
        offsets. Raises Corrupt, OutOfOrderSequence, InvalidProducerEpoch, InvalidTransactionState or
        CoordinatorFenced before anything is written; OSError when the disk refused, and then nothing is left.
        """
        view = memoryview(batches)
        found = check(view, control)
        with self._lock:
            self._usable()
            now = self._clock.now_ms()
            original = None if control else written_before(found, self._producers)
            if original is not None:
                time = original[0].timestamp if self.config.log_append_time else -1
                ends = original[0].first_offset, original[1].last_offset
                return Appended(*ends, time, self._log_start, duplicate=True)
            epoch = self.leader_epoch if leader_epoch is None else leader_epoch
            if epoch > self._epochs.latest:
                self._epochs.assign(epoch, self._leo)
                self.leader_epoch = epoch
            append_time = now if self.config.log_append_time and not control else -1
            stamped = stamp_all(view, found, self._leo, epoch, append_time, self._producers)
            self._roll_if_due(view.nbytes, stamped[-1].last_offset, now)
            self._write(view)
            first = self._leo
            note_all(
                view, stamped, self._segments.active, self._producers, self.config.index_interval_bytes, now
            )
            self._segments.size += view.nbytes
            self._leo = self._hw = stamped[-1].next_offset
            return Appended(first, self._leo - 1, append_time, self._log_start)

    def _write(self, view: memoryview) -> None:
        active = self._segments.active
        assert active.view is not None
        failpoint("log.append_before_write")
        try:
            self._fs.write(active.view.file.fd, view)
            failpoint("log.append_after_write")
        except OSError:
            self._undo_write(active)
            raise

    def _undo_write(self, active: Segment) -> None:
        """Takes a half-written append off again; a log that cannot even do that takes no more."""
        assert active.view is not None
        try:
            self._fs.truncate(active.view.file.fd, active.size)
        except OSError as error:
            self._failed = error
            _log.error("cannot take a failed append off the log", path=self.directory, error=str(error))

    def _roll_if_due(self, nbytes: int, last_offset: int, now: int) -> None:
        active = self._segments.active
        if not active.size:
            active.created_ms = now
            return
        assert active.view is not None
        if (
            active.size + nbytes > self.config.segment_bytes
            or now - active.created_ms >= self.config.segment_ms
            or last_offset - active.base > _MAX_RELATIVE
            or len(active.view.offsets.data) + 8 > self.config.segment_index_bytes
        ):
            self.roll()

    def roll(self, *, durable: bool = False) -> None:
        """Closes the active segment and begins a new one at LEO, unless the active one is empty.

        durable  the closed one is fsynced, indexes too, before there is a new one; else the next flush() does it
        """
        with self._lock:
            self._usable()
            active = self._segments.active
            if not active.size:
                return
            failpoint("log.roll_before_indexes")
            active.write_indexes(self._fs)
            snapshot.write(self._fs, self.directory, self._leo, snapshot.encode(self._producers.states()))
            for stray in set(snapshot.offsets(self.directory)) - {*self._segments.bases, self._leo}:
                self._fs.unlink(file_path(self.directory, stray, SNAPSHOT))
            if durable:
                self._sync_closed([active])
            failpoint("log.roll_before_create")
            fresh = Segment(self.directory, self._leo, created_ms=self._clock.now_ms())
            fresh.view = View(open_to_append(fresh, self._fs), OffsetIndex(fresh.base), TimeIndex(fresh.base))
            failpoint("log.roll_after_create")
            self._names_flushed = False
            self._unflushed.append(active)
            self._segments.add(fresh)

    def flush(self) -> int:
        """Everything appended before this call is on disk when it returns; answers `flushed`.

        Callers at the same time share one fsync. When an fsync fails the system may have dropped what it
        should have written, so the log takes nothing more until it is opened again.
        """
        wanted = self._leo
        with self._flush_lock:
            if self._flushed >= wanted and self._names_flushed:
                return self._flushed
            with self._lock:
                self._usable()
                wanted = self._leo
                active, rolled = self._segments.active, list(self._unflushed)
                names_flushed = self._names_flushed
                self._names_flushed = True
            self._sync_closed(rolled)
            self._sync_active(active, names_flushed)
            with self._lock:
                self._unflushed = [segment for segment in self._unflushed if segment not in rolled]
                for segment in rolled:
                    segment.view = None
                self._flushed = max(self._flushed, wanted)
                return self._flushed

    def _sync_closed(self, segments: Sequence[Segment]) -> None:
        with self._stops_on_failure():
            for segment in segments:
                failpoint("log.flush_before_closed")
                assert segment.view is not None
                self._fs.fsync(segment.view.file.fd)
                for path in segment.index_files():
                    with suppress(FileNotFoundError):  # deleted meanwhile
                        self._fs.fsync(path)

    def _sync_active(self, active: Segment, names_flushed: bool) -> None:
        with self._stops_on_failure():
            failpoint("log.flush_before_sync")
            assert active.view is not None
            self._fs.fsync(active.view.file.fd)
            if not names_flushed:
                failpoint("log.flush_before_names")
                self._fs.fsync_dir(self.directory)
            failpoint("log.flush_after_sync")

    @contextmanager
    def _stops_on_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed = error
            raise

    def read(self, offset: int, max_bytes: int, upto: int) -> FileRange | None:
        """Whole batches from the one that holds `offset`, all of them below `upto`, of one segment.

        At most `max_bytes`, but for the first batch, which comes whatever its size (KIP-74). None when
        nothing is in [offset, upto). OffsetOutOfRange below log_start or beyond LEO.
        """
        with self._lock:
            if not self._log_start <= offset <= self._leo:
                raise OffsetOutOfRange(
                    f"{self.directory}: offset {offset} is not in [{self._log_start}, {self._leo}]"
                )
            upto = min(upto, self._leo)
        return self._reader.range(offset, max_bytes, upto)

    def _view(self, segment: Segment) -> View:
        return self._segments.view(segment, self.config.index_interval_bytes)

    def bytes_from(self, offset: int) -> int:
        """Bytes of the batches that hold `offset` or come after it."""
        return self._reader.bytes_from(offset)

    def aborted(self, start: int, end: int) -> Sequence[AbortedTxn]:
        """Aborted transactions that have a batch or their marker in [start, end)."""
        return self._reader.aborted(start, end)

    def offset_for_time(self, timestamp: int) -> tuple[int, int] | None:
        """(timestamp, offset) of the first record at or after `timestamp` (ms); None when there is none."""
        return self._reader.at_time(timestamp, self._log_start)

    def max_timestamp(self) -> tuple[int, int] | None:
        """(timestamp, offset) of the record with the largest timestamp (KIP-734); None when there is none."""
        with self._lock:
            largest = max((segment.max_timestamp for segment in self._segments.all), default=-1)
        return self.offset_for_time(largest) if largest >= 0 else None

    def epoch_end(self, epoch: int) -> tuple[int, int]:
        """(largest epoch <= `epoch`, the offset where it ended); (-1, -1) when it is not known (KIP-279)."""
        with self._lock:
            return self._epochs.end_of(epoch, self._leo)

    def delete_before(self, offset: int) -> int:
        """Moves the log start to `offset` (-1: HW), durably, and deletes segments that lie below; the new log start."""
        with self._admin_lock:
            offset = self._hw if offset == -1 else offset
            if not 0 <= offset <= self._hw:
                raise OffsetOutOfRange(f"{self.directory}: cannot delete before {offset}, HW is {self._hw}")
            with self._lock:
                self._usable()
                moved = offset > self._log_start
                self._log_start = max(self._log_start, offset)
                if moved:
                    self._epochs.cut_start(offset)
                going = [s for s, after in pairwise(self._segments.all) if after.base <= offset]
            if moved:
                self._mark()
            failpoint("log.delete_before_unlink")
            if going:
                with self._lock:
                    self._unflushed = [segment for segment in self._unflushed if segment not in going]
                self._segments.unlink(going)
            return self._log_start

    def retain(self, now_ms: int) -> int:
        """Deletes old segments by age and size; answers how many. Topics that are only compacted keep theirs."""
        with self._admin_lock:
            if not self.config.delete:
                return 0
            with self._lock:
                going = outlived(self._segments.all, self._segments.size, self.config, now_ms)
                if going and going[-1] is self._segments.active:
                    self.roll()
                after = self._segments.bases[len(going)]
            if going:
                self.delete_before(after)
            return len(going)

    def compact(self, now_ms: int) -> bool:
        """One pass of compaction over closed segments, if the topic is compacted and it is worth it; whether it was."""
        with self._admin_lock:
            with self._lock:
                if not self.config.compact or self._failed is not None or self._closed:
                    return False
                unstable = self._producers.first_unstable()
                upto = self.recovery_point if unstable is None else min(self.recovery_point, unstable)
                candidates = settled(self._segments.all, upto, self.config, now_ms)
                aborted = by_producer(entry for segment in self._segments.all for entry in segment.aborted)
                producers = self._producers.copy()
            if not worth_compacting(candidates, self.cleaned, self.config):
                return False
            self._mark()  # holes are right only below a durable recovery point
            files = {segment: self._view(segment).file for segment in candidates}
            since = max(self.cleaned, self._log_start)
            latest, end = survey([(files[s], s.size) for s in candidates], aborted, since)
            what = Pass(now_ms, self.config.delete_retention_ms, latest, aborted, producers)
            for group in groups([s for s in candidates if s.base < end], self.config.segment_bytes):
                named = [(s, files[s]) for s in group]
                fresh = rewrite(named, self._fs, what, self.config.index_interval_bytes)
                self._segments.swap(group, fresh)
            self.cleaned = end
            self._mark()
            return True

    def _mark(self) -> None:
        if self._marked is not None:
            self._marked()

    def expire_producers(self, now_ms: int) -> int:
        """Forgets producer ids that were idle for config.producer_expiry_ms; answers how many."""
        with self._lock:
            return self._producers.expire(now_ms, self.config.producer_expiry_ms)

    def close(self) -> None:
        """Writes indexes and a producer snapshot and fsyncs everything: the next start need scan nothing."""
        with self._admin_lock:
            if self._closed:
                return
            if self._failed is None:
                self.flush()
                self._close_cleanly()
            self.abandon()

    def _close_cleanly(self) -> None:
        with self._lock:
            active = self._segments.active
            active.write_indexes(self._fs)
            path = snapshot.write(
                self._fs, self.directory, self._leo, snapshot.encode(self._producers.states())
            )
            failpoint("log.close_before_sync")
            for name in (*active.index_files(), path):
                self._fs.fsync(name)
            self._fs.fsync_dir(self.directory)

    def abandon(self) -> None:
        """Lets go of the files without promising anything, as a crash would."""
        with self._flush_lock, self._lock:
            self._closed = True
            self._segments.abandon()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def failed(self) -> OSError | None:
        """Why this log takes nothing more, if so."""
        return self._failed

    def _usable(self) -> None:
        if self._closed:
            raise OSError(errno.EBADF, f"{self.directory} is closed")
        if self._failed is not None:
            raise OSError(
                self._failed.errno or errno.EIO,
                f"{self.directory} takes nothing more after: {self._failed}; check the disk and start again",
            )


def open_log(
    directory: str, *, fs: FileSystem, clock: Clock, config: LogConfig, start: Start | None = None
) -> PartitionLog:
    """A log of its own, without a store; the directory is made if need be."""
    make_directories(fs, directory)
    return PartitionLog(directory, fs=fs, clock=clock, config=config, views=Views(8), start=start or Start())
