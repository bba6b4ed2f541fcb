"""How Kafka names the files and directories of a log, and back from a name to what it stands for."""

import os
import re
import uuid

LOG = ".log"
INDEX = ".index"
TIME_INDEX = ".timeindex"
TXN_INDEX = ".txnindex"
SNAPSHOT = ".snapshot"
SEGMENT_SUFFIXES = (LOG, INDEX, TIME_INDEX, TXN_INDEX)
CLEANED = ".cleaned"
SWAP = ".swap"
DELETED = ".deleted"
PARTIAL = ".new"
CLEAN_SHUTDOWN = ".kafka_cleanshutdown"

_FILE = re.compile(
    r"([0-9]{20})(\.log|\.index|\.timeindex|\.txnindex|\.snapshot)(\.cleaned|\.swap|\.deleted)?"
)
_PARTITION = re.compile(r"([A-Za-z0-9._-]{1,249})-([0-9]{1,10})")
_GOING = re.compile(r"(.+)\.([0-9a-f]{32})-(delete|stray)")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def file_path(directory: str, base: int, suffix: str) -> str:
    """`<directory>/00000000000000000042.log` for base offset 42."""
    return os.path.join(directory, f"{base:020d}{suffix}")


def parse_file(name: str) -> tuple[int, str, str] | None:
    """(base offset, suffix, mark) of a segment's file; mark is `.cleaned`, `.swap`, `.deleted` or empty."""
    match = _FILE.fullmatch(name)
    return (int(match[1]), match[2], match[3] or "") if match else None


def partition_directory(topic: str, partition: int) -> str:
    return f"{topic}-{partition}"


def parse_partition_directory(name: str) -> tuple[str, int] | None:
    match = _PARTITION.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def going_directory(directory: str) -> str:
    """A new name under which a partition's directory waits to be deleted; 255 bytes at the most, as Kafka cuts it."""
    suffix = f".{uuid.uuid4().hex}-delete"
    return directory[: 255 - len(suffix)] + suffix


def is_going(name: str) -> bool:
    match = _GOING.fullmatch(name)
    return match is not None and match[3] == "delete"


def valid_topic(name: str) -> bool:
    """Kafka's rule: 1 to 249 of [A-Za-z0-9._-], and neither `.` nor `..`."""
    return _TOPIC.fullmatch(name) is not None and name not in (".", "..")
