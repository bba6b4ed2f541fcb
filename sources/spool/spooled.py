"""One file of the spool directory, from when it is found until it is put away."""

import enum
import json
import os
from dataclasses import dataclass, field
from uuid import uuid4

from tailrace.errors import Corrupt
from tailrace.event import Partition, Record
from tailrace.sources.comparison import Recollection
from tailrace.sources.content import Content
from tailrace.sources.progress import Progress
from tailrace.sources.spool.listing import Listed

_VERSION = 1


class Stage(enum.Enum):
    WAITING = "not read to its end yet"
    READ = "read to its end: to be put away when all of it is committed"
    FAILED = "not to be read on: to be moved aside when what was read is committed"


@dataclass(slots=True, eq=False)
class Spooled:
    partition: Partition
    listed: Listed
    """As it was when it was taken up; a finished file does not change."""
    progress: Progress = field(default_factory=Progress)
    stage: Stage = Stage.WAITING
    reason: str = ""
    """Why it failed."""
    sought: bool = False
    queued: bool = False
    committed: int = 0
    content: Content | None = None
    recollection: Recollection | None = None
    """Of an archive that is read on: decompresses up to the position."""

    def state(self, source: str) -> bytes:
        """What a sink stores beside the position."""
        fields = {
            "source": f"spool/{source}",
            "version": _VERSION,
            "device": self.listed.key[0],
            "inode": self.listed.key[1],
            "path": self.listed.name,
            "size": self.listed.size,
            "modified": self.listed.mtime_ns,
        }
        return json.dumps(fields | self.progress.to_json(), separators=(",", ":")).encode()

    def restart(self, progress: Progress) -> None:
        """Reading goes on at `progress`."""
        if progress.position != self.progress.position:
            self.stage = Stage.WAITING
        self.progress = progress
        self.close()

    def fail(self, reason: str) -> None:
        self.stage, self.reason = Stage.FAILED, reason

    def close(self) -> None:
        if self.content is not None:
            self.content.close()
            self.content, self.recollection = None, None


def new_spooled(listed: Listed, directory: str) -> Spooled:
    shown = os.fsencode(os.path.join(directory, listed.name)).decode(errors="backslashreplace")
    return Spooled(Partition("file", uuid4().hex, name=shown), listed)


def from_record(source: str, partition: Partition, record: Record) -> Spooled | None:
    """None for the record of another source. Raises Corrupt for a state that this source cannot have made."""
    if partition.kind != "file" or record.state is None:
        return None
    try:
        fields = json.loads(record.state)
    except ValueError:
        return None
    if not isinstance(fields, dict) or fields.get("source") != f"spool/{source}":
        return None
    try:
        if fields["version"] != _VERSION:
            raise Corrupt(f"{partition.key}: stored by another version of Tailrace; run that version")
        progress = Progress.from_json(fields)
        if progress.position != record.position:
            raise ValueError(f"the state is of position {progress.position}")
        key = (int(fields["device"]), int(fields["inode"]))
        listed = Listed(str(fields["path"]), key, int(fields["size"]), int(fields["modified"]))
        return Spooled(partition, listed, progress, committed=record.position)
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(
            f"{partition.key} ({partition.name}): what the sink stored at {record.position} cannot be right ({error});"
            " `tailrace positions reset` forgets it, and the file is read again from its start"
        ) from error
