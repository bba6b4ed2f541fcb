"""All partition logs of one data directory: its identity and lock, its topics, and what survives which stop.

The directory is Kafka's: Apache Kafka reads it, and a directory of Apache Kafka is taken over (but for its
metadata log, which only Kafka reads).
"""

import os
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from tailrace.broker.log import catalogue, checkpoints, meta
from tailrace.broker.log.catalogue import Catalogue, Entry
from tailrace.broker.log.config import LogConfig
from tailrace.broker.log.errors import TopicExists
from tailrace.broker.log.files import DirectoryLock
from tailrace.broker.log.log import PartitionLog
from tailrace.broker.log.names import (
    CLEAN_SHUTDOWN,
    PARTIAL,
    going_directory,
    is_going,
    parse_partition_directory,
    partition_directory,
    valid_topic,
)
from tailrace.broker.log.recovery import Start
from tailrace.broker.log.segment import Views
from tailrace.clock import Clock, SystemClock
from tailrace.errors import Corrupt
from tailrace.failpoint import failpoint
from tailrace.fs import FileSystem, LocalFileSystem, make_directories

_log = structlog.get_logger("tailrace.broker.log")
_KAFKA_METADATA = "__cluster_metadata"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is now; config has Kafka's names and only what differs from the defaults."""

    name: str
    id: uuid.UUID
    config: Mapping[str, str]
    partitions: Sequence[PartitionLog] = field(compare=False)


class LogStore:
    """Verbs may be called from any thread. open() comes first, close() last.

    cluster_id  Kafka's text of the cluster's UUID, made with the directory
    node_id     this broker's number, from meta.properties
    unclean     the last stop was not clean: logs were scanned, leader epochs are one higher
    """

    def __init__(
        self,
        data_dir: str,
        *,
        fs: FileSystem | None = None,
        clock: Clock | None = None,
        defaults: LogConfig | None = None,
    ) -> None:
        self.data_dir = os.path.abspath(data_dir)
        self.defaults = defaults or LogConfig()
        self.cluster_id = ""
        self.node_id = 1
        self.unclean = False
        self._fs = fs or LocalFileSystem()
        self._clock = clock or SystemClock()
        self._views = Views()
        self._lock = threading.RLock()
        self._checkpoint_lock = threading.Lock()
        self._checkpointed: dict[str, checkpoints.Offsets] = {}
        self._catalogue = Catalogue()
        self._topics: dict[str, Topic] = {}
        self._by_id: dict[uuid.UUID, Topic] = {}
        self._directory_lock: DirectoryLock | None = None

    def open(self) -> None:
        """Takes the directory and recovers every log in it.

        Raises Locked (in use), NewerDataDirectory, Corrupt with the remedy, or OSError.
        """
        make_directories(self._fs, self.data_dir)
        self._directory_lock = DirectoryLock(self.data_dir, self._fs)
        try:
            self._open()
        except BaseException:
            self.abandon()
            raise

    def _open(self) -> None:
        identity = meta.load_or_make(self.data_dir, self._fs)
        self.cluster_id, self.node_id = identity.cluster_id, identity.node_id
        stored = catalogue.load(self.data_dir)
        self.unclean = not self._take_clean_marker() and stored is not None
        self._catalogue = self._adopt(stored or Catalogue())
        marks = {
            name: checkpoints.read(self.data_dir, name)
            for name in (checkpoints.RECOVERY_POINT, checkpoints.LOG_START, checkpoints.CLEANER)
        }
        clean = self._was_clean
        for name, entry in self._catalogue.topics.items():
            logs = [self._open_log(name, n, entry, clean, marks) for n in range(entry.partitions)]
            self._publish(Topic(name, entry.id, dict(entry.config), tuple(logs)))
        self.checkpoint()  # which syncs the names in data_dir too: partitions made, the marker gone

    def _take_clean_marker(self) -> bool:
        """Whether the last stop was clean; the marker is gone before anything is opened."""
        path = os.path.join(self.data_dir, CLEAN_SHUTDOWN)
        self._was_clean = os.path.exists(path)
        if self._was_clean:
            self._fs.unlink(path)
            failpoint("store.open_marker_gone")
        return self._was_clean

    def _adopt(self, stored: Catalogue) -> Catalogue:
        """Sweeps what deletions left, and takes in directories that the catalogue does not know."""
        self._sweep(stored.going)
        topics = dict(stored.topics)
        for name in sorted(os.listdir(self.data_dir)):
            path = os.path.join(self.data_dir, name)
            if name.endswith(PARTIAL) and os.path.isfile(path):
                self._fs.unlink(path)
            elif (parsed := parse_partition_directory(name)) is not None and os.path.isdir(path):
                topic, partition = parsed
                if topic != _KAFKA_METADATA:
                    self._adopt_directory(topics, topic, partition, path)
        kept = Catalogue(topics)
        if kept != stored or not os.path.exists(os.path.join(self.data_dir, catalogue.FILE)):
            catalogue.store(self._fs, self.data_dir, kept)
        return kept

    def _adopt_directory(self, topics: dict[str, Entry], topic: str, partition: int, path: str) -> None:
        topic_id = meta.read_partition(path)
        entry = topics.get(topic)
        if entry is None:
            entry = Entry(topic_id or meta.random_id(), partition + 1)
            _log.warning("took in a topic that the catalogue did not know", topic=topic, path=path)
        elif topic_id is not None and topic_id != entry.id:
            raise Corrupt(
                f"{path} belongs to another topic id ({meta.to_text(topic_id)}) than topic {topic} "
                f"({meta.to_text(entry.id)}): move the directory away, or restore the right one"
            )
        topics[topic] = replace(entry, partitions=max(entry.partitions, partition + 1))

    def _sweep(self, going: frozenset[uuid.UUID]) -> None:
        """Deletes what is left of topics that are gone. Only what durably has its new name is emptied: that
        tells the topic, when partition.metadata no longer does.
        """
        with self._lock:
            for name in os.listdir(self.data_dir) if going else ():
                path = os.path.join(self.data_dir, name)
                if parse_partition_directory(name) is not None and meta.read_partition(path) in going:
                    self._rename_going(path)
            named = [name for name in os.listdir(self.data_dir) if is_going(name)]
            if named:
                failpoint("store.sweep_renamed")
                self._fs.fsync_dir(self.data_dir)
        for name in named:
            self._remove(os.path.join(self.data_dir, name))

    def _open_log(
        self, topic: str, partition: int, entry: Entry, clean: bool, marks: Mapping[str, checkpoints.Offsets]
    ) -> PartitionLog:
        directory = os.path.join(self.data_dir, partition_directory(topic, partition))
        if meta.read_partition(directory) != entry.id:
            self._fs.mkdir(directory)
            failpoint("store.create_directory")
            meta.write_partition(self._fs, directory, entry.id)
            self._fs.fsync_dir(self.data_dir)
        key = (topic, partition)
        start = Start(
            clean=clean,
            recovery_point=marks[checkpoints.RECOVERY_POINT].get(key, 0),
            log_start=marks[checkpoints.LOG_START].get(key, 0),
            cleaned=marks[checkpoints.CLEANER].get(key, 0),
        )
        return PartitionLog(
            directory,
            fs=self._fs,
            clock=self._clock,
            config=self.defaults.with_topic(entry.config),
            views=self._views,
            start=start,
            marked=self.checkpoint,
        )

    def _publish(self, topic: Topic) -> None:
        self._topics = {**self._topics, topic.name: topic}
        self._by_id = {t.id: t for t in self._topics.values()}

    def topics(self) -> Mapping[str, Topic]:
        """All topics by name; never changes after it was answered."""
        return self._topics

    def topic(self, name: str) -> Topic | None:
        return self._topics.get(name)

    def topic_by_id(self, topic_id: uuid.UUID) -> Topic | None:
        return self._by_id.get(topic_id)

    def log(self, name: str, partition: int) -> PartitionLog | None:
        """The partition's log; None when there is no such topic or partition."""
        topic = self._topics.get(name)
        if topic is None or not 0 <= partition < len(topic.partitions):
            return None
        return topic.partitions[partition]

    def create(self, name: str, partitions: int, config: Mapping[str, str] | None = None) -> Topic:
        """Makes a topic; it is there for good when this returns. TopicExists; ValueError for a bad name or setting."""
        config = dict(config or {})
        if not valid_topic(name):
            raise ValueError(f"{name!r} is no topic name: 1 to 249 of letters, digits, `.`, `_` and `-`")
        if partitions < 1:
            raise ValueError(f"a topic needs a partition at least, not {partitions}")
        self.defaults.with_topic(config)
        with self._lock:
            if name in self._topics:
                raise TopicExists(f"topic {name} is there already")
            return self._make(name, Entry(meta.random_id(), partitions, config), ())

    def add_partitions(self, name: str, total: int) -> Topic:
        """Gives a topic more partitions. KeyError; ValueError when it has that many already."""
        with self._lock:
            topic, entry = self._topics[name], self._catalogue.topics[name]
            if total <= entry.partitions:
                raise ValueError(f"topic {name} has {entry.partitions} partitions already")
            return self._make(name, replace(entry, partitions=total), topic.partitions)

    def _make(self, name: str, entry: Entry, there: Sequence[PartitionLog]) -> Topic:
        marks: dict[str, checkpoints.Offsets] = {
            mark: {} for mark in (checkpoints.RECOVERY_POINT, checkpoints.LOG_START, checkpoints.CLEANER)
        }
        before = self._catalogue
        self._store(replace(before, topics={**before.topics, name: entry}))
        failpoint("store.create_catalogued")
        fresh: list[PartitionLog] = []
        try:
            for n in range(len(there), entry.partitions):
                self._clear_way(os.path.join(self.data_dir, partition_directory(name, n)))
                fresh.append(self._open_log(name, n, entry, True, marks))
        except OSError:
            self._undo_make(before, name, entry, fresh, len(there))
            raise
        topic = Topic(name, entry.id, dict(entry.config), (*there, *fresh))
        self._publish(topic)
        return topic

    def _undo_make(
        self, before: Catalogue, name: str, entry: Entry, fresh: Sequence[PartitionLog], first: int
    ) -> None:
        """Takes back a topic, or partitions, that the disk had no room for."""
        for log in fresh:
            log.abandon()
        going = before.going if name in before.topics else before.going | {entry.id}
        try:
            self._store(replace(before, going=going))
            for n in range(first, entry.partitions):
                path = os.path.join(self.data_dir, partition_directory(name, n))
                if os.path.exists(path):
                    self._rename_going(path)
        except OSError as error:
            _log.error("cannot take back a topic that could not be made", topic=name, error=str(error))

    def alter(self, name: str, config: Mapping[str, str]) -> Topic:
        """Replaces a topic's own settings. KeyError; ValueError for a bad one."""
        merged = self.defaults.with_topic(config)
        with self._lock:
            topic = replace(self._topics[name], config=dict(config))
            entry = replace(self._catalogue.topics[name], config=dict(config))
            self._store(replace(self._catalogue, topics={**self._catalogue.topics, name: entry}))
            for log in topic.partitions:
                log.config = merged
            self._publish(topic)
            return topic

    def delete(self, name: str) -> None:
        """Deletes a topic; it is gone for good when this returns, its files follow in housekeeping. KeyError."""
        with self._lock:
            topic = self._topics[name]
            rest = {other: entry for other, entry in self._catalogue.topics.items() if other != name}
            self._store(Catalogue(rest, self._catalogue.going | {topic.id}))
            self._topics = {other: t for other, t in self._topics.items() if other != name}
            self._by_id = {t.id: t for t in self._topics.values()}
            failpoint("store.delete_catalogued")
            for log in topic.partitions:
                log.abandon()
                self._rename_going(log.directory)
                failpoint("store.delete_renamed")
        self.checkpoint()

    def _store(self, changed: Catalogue) -> None:
        catalogue.store(self._fs, self.data_dir, changed)
        self._catalogue = changed

    def _rename_going(self, path: str) -> str:
        going = os.path.join(self.data_dir, going_directory(os.path.basename(path)))
        self._fs.rename(path, going)
        return going

    def _clear_way(self, path: str) -> None:
        """A directory of an older topic of the same name, which a deletion could not rename, goes now."""
        if os.path.exists(path):
            self._rename_going(path)

    def _remove(self, path: str) -> None:
        for name in os.listdir(path):
            self._fs.unlink(os.path.join(path, name))
            failpoint("store.remove_file")
        self._fs.rmdir(path)

    def _logs(self) -> Iterator[PartitionLog]:
        for topic in self._topics.values():
            yield from topic.partitions

    def flush_dirty(self) -> list[tuple[PartitionLog, OSError]]:
        """fsyncs every log that has something unsynced; answers those that failed and why."""
        failures = []
        for log in self._logs():
            if log.flushed < log.leo and log.failed is None:
                try:
                    log.flush()
                except OSError as error:
                    if not log.closed:
                        failures.append((log, error))
        return failures

    def housekeeping(self) -> None:
        """Retention, compaction, idle producers, files of deleted topics, checkpoints.

        Goes through all of it whatever fails, and raises the first OSError at its end.
        """
        now = self._clock.now_ms()
        failures = []
        for log in self._logs():
            try:
                log.retain(now)
                log.compact(now)
                log.expire_producers(now)
            except OSError as error:
                if not log.closed and log.failed is None:
                    failures.append(error)
        going = self._catalogue.going
        self._sweep(going)
        if going:
            with self._lock:
                self._store(replace(self._catalogue, going=self._catalogue.going - going))
        self.checkpoint()
        if failures:
            raise failures[0]

    def checkpoint(self) -> None:
        """Makes recovery points, log starts and compaction's progress durable."""
        with self._checkpoint_lock:
            logs = {
                (topic.name, n): log
                for topic in self._topics.values()
                for n, log in enumerate(topic.partitions)
            }
            marks = {
                checkpoints.RECOVERY_POINT: {key: log.recovery_point for key, log in logs.items()},
                checkpoints.LOG_START: {key: log.log_start for key, log in logs.items() if log.log_start},
                checkpoints.CLEANER: {key: log.cleaned for key, log in logs.items() if log.cleaned},
                checkpoints.HIGH_WATERMARK: {key: log.hw for key, log in logs.items()},
            }
            for name, offsets in marks.items():
                if self._checkpointed.get(name) == offsets:
                    continue
                self._checkpointed.pop(name, None)
                checkpoints.write(self._fs, self.data_dir, name, offsets)
                self._checkpointed[name] = offsets
                failpoint("store.checkpoint_written")

    def abandon(self) -> None:
        """Lets go of everything without promising anything, as a crash would."""
        for log in self._logs():
            log.abandon()
        if self._directory_lock is not None:
            self._directory_lock.release()
            self._directory_lock = None

    def close(self) -> None:
        """Closes every log; when all are on disk, leaves the marker that spares the next start its scan."""
        if self._directory_lock is None:
            return
        logs = list(self._logs())
        for log in logs:
            log.close()
        if all(log.failed is None for log in logs):
            self.checkpoint()
            failpoint("store.close_before_marker")
            path = os.path.join(self.data_dir, CLEAN_SHUTDOWN)
            os.close(self._fs.open(path, os.O_WRONLY | os.O_CREAT))  # only its name counts
            self._fs.fsync_dir(self.data_dir)
        self._directory_lock.release()
        self._directory_lock = None
