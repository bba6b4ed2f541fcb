"""meta.properties of a data directory (cluster, node, format version) and partition.metadata (topic id)."""

import base64
import binascii
import os
import uuid
from dataclasses import dataclass

from tailrace.broker.log.errors import NewerDataDirectory
from tailrace.errors import Corrupt
from tailrace.fs import FileSystem, write_atomically

FILE = "meta.properties"
PARTITION_FILE = "partition.metadata"
KAFKA_VERSION = 1
FORMAT = 1
"""Version of what is ours in the directory (tailrace.format); goes up when an older broker could not read it."""


@dataclass(frozen=True, slots=True)
class Meta:
    cluster_id: str
    node_id: int
    directory_id: str


def random_id() -> uuid.UUID:
    """A random UUID whose Kafka text does not begin with `-`, which command lines would take for an option."""
    while True:
        candidate = uuid.uuid4()
        if not to_text(candidate).startswith("-"):
            return candidate


def to_text(value: uuid.UUID) -> str:
    """Kafka's text of a UUID: URL-safe base64 without padding, 22 characters."""
    return base64.urlsafe_b64encode(value.bytes).rstrip(b"=").decode("ascii")


def from_text(text: str) -> uuid.UUID:
    """ValueError when it is no Kafka UUID."""
    try:
        return uuid.UUID(bytes=base64.urlsafe_b64decode(text + "=="))
    except (binascii.Error, ValueError):
        raise ValueError(f"{text!r} is no Kafka UUID") from None


def load_or_make(data_dir: str, fs: FileSystem) -> Meta:
    """The directory's identity, made at first use. NewerDataDirectory, or Corrupt with the remedy."""
    path = os.path.join(data_dir, FILE)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return _parse(file.read(), path)
    except FileNotFoundError:
        meta = Meta(to_text(random_id()), 1, to_text(random_id()))
    lines = [
        f"cluster.id={meta.cluster_id}",
        f"directory.id={meta.directory_id}",
        f"node.id={meta.node_id}",
        f"tailrace.format={FORMAT}",
        f"version={KAFKA_VERSION}",
    ]
    write_atomically(fs, path, ("\n".join(lines) + "\n").encode("utf-8"))
    return meta


def _parse(text: str, path: str) -> Meta:
    pairs = dict(
        line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith(("#", "!"))
    )
    values = {name.strip(): value.strip() for name, value in pairs.items()}
    for name, ours in (("version", KAFKA_VERSION), ("tailrace.format", FORMAT)):
        found = values.get(name, "1")
        if found.isdecimal() and int(found) > ours:
            raise NewerDataDirectory(
                f"{path}: {name}={found}, this version reads up to {ours}: "
                "the data directory was made by a newer version; run that one, or use another data_dir"
            )
    try:
        node_id = int(values.get("node.id", values.get("broker.id", "1")))
        return Meta(values["cluster.id"], node_id, values.get("directory.id", ""))
    except (KeyError, ValueError):
        raise Corrupt(
            f"{path} is damaged (no cluster.id, or no number for node.id): restore the file from a backup"
        ) from None


def write_partition(fs: FileSystem, directory: str, topic_id: uuid.UUID) -> None:
    """Stores a partition's topic id, durably."""
    text = f"version: 0\ntopic_id: {to_text(topic_id)}"
    write_atomically(fs, os.path.join(directory, PARTITION_FILE), text.encode("ascii"))


def read_partition(directory: str) -> uuid.UUID | None:
    """The topic id a partition was made under; None when nobody stored one. Corrupt when it is damaged."""
    path = os.path.join(directory, PARTITION_FILE)
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            pairs = dict(line.split(":", 1) for line in file.read().splitlines() if ":" in line)
        return from_text(pairs["topic_id"].strip())
    except FileNotFoundError:
        return None
    except (KeyError, ValueError) as error:
        raise Corrupt(f"{path} is damaged: {error}; restore it from another partition of the topic") from None
