"""Walking the record batches of a segment's file: by headers only, or with every CRC checked.

Files are read in windows, so memory stays bounded whatever a damaged length says.
"""

import os
from collections.abc import Iterator

from tailrace.broker.wire.batch import HEADER_SIZE, BatchHeader, check_batch, read_header
from tailrace.errors import Corrupt

NEAR = 8 << 10
"""Window for look-ups that end within an index interval."""
FAR = 1 << 20
"""Window for walks through a whole segment."""


def headers(fd: int, position: int, end: int, window: int = FAR) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of each whole batch in [position, end); stops before a partial or senseless one."""
    data = memoryview(b"")
    start = position
    while position + HEADER_SIZE <= end:
        at = position - start
        if at < 0 or at + HEADER_SIZE > len(data):
            data = memoryview(os.pread(fd, max(HEADER_SIZE, min(window, end - position)), position))
            start, at = position, 0
            if len(data) < HEADER_SIZE:
                return
        try:
            header = read_header(data, at)
        except Corrupt:
            return
        if header.size < HEADER_SIZE or position + header.size > end:
            return
        yield position, header
        position += header.size


def checked(fd: int, position: int, end: int) -> Iterator[tuple[int, BatchHeader, memoryview]]:
    """(position, header, bytes) of each sound batch in [position, end), CRC checked; stops at the first bad one."""
    data = memoryview(b"")
    start = position
    while position + HEADER_SIZE <= end:
        at = position - start
        if at + HEADER_SIZE > len(data) or at + (12 + _length(data, at)) > len(data):
            need = HEADER_SIZE
            head = os.pread(fd, HEADER_SIZE, position)
            if len(head) < HEADER_SIZE or (need := 12 + _length(memoryview(head), 0)) < HEADER_SIZE:
                return
            if position + need > end:
                return
            data = memoryview(os.pread(fd, min(max(FAR, need), end - position), position))
            start, at = position, 0
        try:
            header = check_batch(data, at)
        except Corrupt:
            return
        yield position, header, data[at : at + header.size]
        position += header.size


def _length(data: memoryview, at: int) -> int:
    return int.from_bytes(data[at + 8 : at + 12], "big", signed=True)
