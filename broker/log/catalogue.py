"""Which topics a data directory has: ids, partition counts and configs, in one file that changes atomically.

The file is the truth and directories follow it: what it names is made at start, what it calls going is
deleted at start. So creating and deleting a topic each have one instant at which they happen.
"""

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from tailrace.broker.log.errors import NewerDataDirectory
from tailrace.broker.log.names import valid_topic
from tailrace.errors import Corrupt
from tailrace.fs import FileSystem, write_atomically

FILE = "tailrace-topics.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One topic; config has Kafka's names and only what differs from the defaults."""

    id: uuid.UUID
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Catalogue:
    topics: Mapping[str, Entry] = field(default_factory=dict)
    going: frozenset[uuid.UUID] = frozenset()
    """Ids of deleted topics some of whose directories may still be there."""


def load(data_dir: str) -> Catalogue | None:
    """None when there is none yet: a new directory, or one that Apache Kafka made."""
    path = os.path.join(data_dir, FILE)
    try:
        with open(path, encoding="utf-8") as file:
            stored = json.load(file)
        if stored["version"] > _VERSION:
            raise NewerDataDirectory(
                f"{path}: version {stored['version']}, this version reads up to {_VERSION}: "
                "the data directory was made by a newer version; run that one, or use another data_dir"
            )
        topics = {
            name: Entry(
                uuid.UUID(t["id"]), int(t["partitions"]), {str(k): str(v) for k, v in t["config"].items()}
            )
            for name, t in stored["topics"].items()
        }
        for name, entry in topics.items():
            if not valid_topic(name) or entry.partitions < 1:
                raise ValueError(f"topic {name!r}")
        return Catalogue(topics, frozenset(uuid.UUID(text) for text in stored["going"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(
            f"{path} is damaged ({error}); remove it and the topics are found again by their directories, "
            "with default settings"
        ) from None


def store(fs: FileSystem, data_dir: str, catalogue: Catalogue) -> None:
    """Replaces the catalogue, durably."""
    topics = {
        name: {"id": entry.id.hex, "partitions": entry.partitions, "config": dict(entry.config)}
        for name, entry in sorted(catalogue.topics.items())
    }
    going = sorted(topic_id.hex for topic_id in catalogue.going)
    text = json.dumps({"version": _VERSION, "topics": topics, "going": going}, indent=1)
    write_atomically(fs, os.path.join(data_dir, FILE), text.encode("utf-8"))
