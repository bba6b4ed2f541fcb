"""The contracts between the parts: sources, channels, sinks, and the settings that declare them.

Threads: an agent has one thread a source and one a sink. Each docstring says who calls; a verb without a
word on it is called only by the component's own thread. Retries and back-off are around the verbs (the
runner's, by tenacity), never inside a component.
"""

import enum
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from tailrace.clock import Clock, SystemClock
from tailrace.event import EventBatch, Partition, Record
from tailrace.fs import FileSystem, LocalFileSystem

Guarantee = Literal["exactly-once", "at-least-once", "at-most-once"]


class Settings(BaseModel):
    """Base of every settings model: nothing unknown, nothing changed after parsing.

    A component's model has `type: Literal["its name"]`, and a Field(description=...) with the unit for each field.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class SourceSettings(Settings):
    channels: list[str] = Field(min_length=1, description="Names of the channels that take every row.")

    pushes: ClassVar[bool] = False
    """True when rows come unasked and cannot be read again (syslog, HTTP): no seek."""

    def needs_bootstrap(self) -> bool:
        """True when Context.bootstrap must name a cluster: the file then needs a `broker:` or `kafka:` section."""
        return False

    def topics_read(self) -> Sequence[str]:
        """Topics of the pipeline's own cluster that it reads; they order the agents under `--once`."""
        return ()

    def cluster(self) -> str | None:
        """Bootstrap of the Kafka cluster whose offsets are its positions; empty: the pipeline's own."""
        return None

    def weakness(self) -> str | None:
        """Why a row may be read that is taken back and comes again, as a clause for `explain`; None when none is."""
        return None


class ChannelSettings(Settings):
    durable: ClassVar[bool] = False
    """True when a row that put() answered for survives SIGKILL and a power cut."""

    def directory(self, state_dir: Path, name: str) -> str | None:
        """Absolute path of where a channel of this name keeps rows, and how far its sources are; None in memory.

        state_dir  the agent's own (Context.state_dir)
        """
        return None


class SinkSettings(Settings):
    channel: str = Field(description="Name of the one channel this sink takes rows from.")
    delivery: Guarantee | None = Field(
        default=None,
        description="A guarantee this sink's routes must keep; the pipeline does not start without it.",
    )

    def keeps_origins(self) -> bool:
        """True when acquire() answers from the sink's own store; else the runner keeps origins beside it and
        never asks.
        """
        return False

    def needs_bootstrap(self) -> bool:
        """True when Context.bootstrap must name a cluster: the file then needs a `broker:` or `kafka:` section."""
        return False

    def topics_written(self) -> Sequence[str]:
        """Topics of the pipeline's own cluster that it writes; they order the agents under `--once`."""
        return ()

    def weakness(self) -> str | None:
        """Why rows and origins are not one commit, as a clause for `explain`; None when they are."""
        return "this sink cannot store origins with the rows"

    def weakness_from(self, source: SourceSettings) -> str | None:
        """weakness() of a route from this source, where that makes a difference."""
        return self.weakness()

    def notes(self) -> Sequence[str]:
        """Conditions of the guarantee that `explain` must tell (`dfs.datanode.synconclose`, SQLite on one host)."""
        return ()


@dataclass(frozen=True, slots=True)
class Context:
    """What a component is given beside its settings. Paths exist; the agent holds the lock on `state_dir`."""

    pipeline: str
    agent: str
    name: str
    """The component's name in the YAML file."""
    instance: str
    """Stable id of this agent's instance: 32 hex digits, made once, kept in state_dir, new on a cloned host."""
    state_dir: Path
    """<pipeline state_dir>/<agent>/"""
    bootstrap: str = ""
    """`host:port,...` of the broker or Kafka cluster; empty when the file names none."""
    once: bool = False
    clock: Clock = field(default_factory=SystemClock)
    fs: FileSystem = field(default_factory=LocalFileSystem)


class Scope(enum.Enum):
    ALL = "all"


ALL = Scope.ALL


class Membership(Protocol):
    """A Kafka source's place in its group, as sinks need it. Called by sink threads; locks inside."""

    @property
    def group(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def member_id(self) -> str: ...
    @property
    def instance_id(self) -> str | None: ...

    def heartbeat(self) -> None:
        """Raises Fenced when this generation or member is no longer the group's."""
        ...

    def offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, tuple[int, str]]:
        """The group's committed (offset, metadata) where there is one; metadata is what committed() was stamped
        with.
        """
        ...


@dataclass(frozen=True, slots=True)
class Assigned:
    """read() answers this for partitions that are new; the runner acquires them from the sinks and calls seek."""

    partitions: tuple[Partition, ...]
    membership: Membership | None = None


@dataclass(frozen=True, slots=True)
class Revoked:
    """read() answers this for partitions it will read no more; the sinks commit what they hold of them, unless lost.

    The source does not give them up to anyone before the next call of read().
    """

    partitions: tuple[Partition, ...]
    lost: bool = False


_NUMBERS = re.compile(r"\.?[0-9a-f]*[0-9][0-9a-f]*")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something a person should see in the summary. `failed` makes `--once` end with status 1."""

    place: str
    text: str
    failed: bool = False

    @property
    def gist(self) -> str:
        """The text without its numbers: the same trouble at every try, whatever the try's path or the room left."""
        return _NUMBERS.sub("", self.text)


class Source(Protocol):
    """Makes EventBatches of partitions and remembers nothing itself."""

    def open(self, records: Sequence[Mapping[Partition, Record]]) -> None:
        """Once, before all else: what each sink has for ALL partitions (one mapping a sink); merges as it must.

        Raises Retry when what it reads from is not there yet, ConfigError for settings that cannot work here.
        """
        ...

    def read(self, timeout: float) -> EventBatch | Assigned | Revoked | None:
        """The next batch, or a change of partitions; None when nothing came within `timeout` seconds.

        A partition gives batches only after it was answered in Assigned and sought. Raises Retry, Corrupt,
        and Finished when there will never be more (under `once`: all that was there at open is read).
        """
        ...

    def seek(self, partition: Partition, record: Record | None) -> None:
        """Reads on from record.position, or from where it starts (None), whatever was read before. Also after
        Finished.
        """
        ...

    def committed(self, positions: Mapping[Partition, int], stamp: str) -> None:
        """After each commit, the least over all sinks. Advisory (group offsets, renaming spooled files).

        `stamp` is the sink's (a ledger's uuid); empty when it has none. Called by the source's thread.
        """
        ...

    def lag(self) -> int | None:
        """Bytes (files) or rows (Kafka) that are there and not yet read; None when unknown. Any thread."""
        ...

    def problems(self) -> Sequence[Problem]:
        """What is wrong now (a pattern that matches nothing, an unreadable file). Any thread, also after close()."""
        ...

    def close(self) -> None: ...


class Channel(Protocol):
    """Stands between one source thread or several, and one sink thread. Bounded in bytes and in events.

    A channel that is not durable lets origins through unchanged. A durable one is a sink towards its
    sources (committed) and a source towards its sink: its batches have a partition of kind "stream".
    """

    def open(self) -> None: ...

    def put(self, batch: EventBatch, timeout: float) -> bool:
        """True when the channel answers for the batch; False when still full after `timeout` s (nothing is taken).

        A single batch larger than the whole bound is taken when the channel is empty. Source threads call it.
        """
        ...

    def take(self, timeout: float) -> EventBatch | None:
        """The oldest batch not yet taken; None when there is none within `timeout` seconds. The sink's thread."""
        ...

    def depth(self) -> tuple[int, int]:
        """(events, bytes) put and not yet taken. Any thread."""
        ...

    def clear(self) -> None:
        """Forgets what is not durable (before a rewind). A durable channel does nothing."""
        ...

    def close(self) -> None: ...


class DurableChannel(Channel, Protocol):
    """What a durable channel has beside the verbs of Channel."""

    partition: Partition

    def committed(self) -> Mapping[Partition, Record]:
        """What it has of its sources, as Sink.acquire(ALL)."""
        ...

    def seek(self, record: Record | None) -> None:
        """take() goes on at record.position (its own log offset). The sink's thread."""
        ...

    def release(self, position: int) -> None:
        """The sink has committed everything below `position`: whole segments below it may go."""
        ...


@dataclass(slots=True)
class Totals:
    """What a sink has committed since it was opened; the summary adds it up."""

    rows: int = 0
    dead_letters: int = 0
    bytes: int = 0
    files: int = 0


class Sink(Protocol):
    """Stores rows and origins. All verbs are called by the sink's own thread."""

    totals: Totals
    stamp: str
    """Passed on to Source.committed; a ledger's uuid, or empty."""

    def open(self) -> None:
        """Raises Retry while what it writes to is not there, Halt when only a person can decide."""
        ...

    def acquire(
        self, partitions: Collection[Partition] | Scope, membership: Membership | None = None
    ) -> Mapping[Partition, Record]:
        """Becomes the owner, finishes what a dead predecessor left, and answers what is stored. Drops what is
        uncommitted of them.

        ALL: every partition this sink has ever stored for this agent (file and stream origins). The only way
        to ask. A partition without a record is new. Sinks without a store are never asked.
        """
        ...

    def write(self, batch: EventBatch) -> None:
        """Takes the whole batch or raises (Retry: the same batch comes again). Nothing is visible before commit."""
        ...

    def due(self) -> bool:
        """True when the sink's own trigger (linger, size, age, idle) asks for commit() now. Cheap; called often."""
        ...

    def commit(self) -> Mapping[Partition, int]:
        """Stores all that was written, rows and {partition: span.end, state} at once; answers the next positions.

        Raises Retry: call again. Rewind or Fenced: what was uncommitted is dropped. With nothing written: {}.
        """
        ...

    def abort(self) -> None:
        """Drops what is uncommitted. After it, acquire."""
        ...

    def revoke(self, partitions: Collection[Partition], lost: bool) -> None:
        """Gives partitions up: uncommitted rows of them are dropped (the runner has called commit unless lost)."""
        ...

    def problems(self) -> Sequence[Problem]:
        """What keeps it from committing now (disk full, namenode in safe mode), once each. Any thread."""
        ...

    def close(self) -> None:
        """Lets go of everything without committing."""
        ...
