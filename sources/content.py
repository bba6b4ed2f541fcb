"""The bytes of a file as its reader means them: plain ones as they are, gzip'd ones decompressed, by logical offset.

Every read goes to an open descriptor, never to a name, so a rename or a deletion between two reads changes
nothing. Memory is bounded: a gzip'd file keeps what was asked for last and 1 KiB before it.
"""

import os
import stat
import zlib
from typing import Protocol

GZIP_MAGIC = b"\x1f\x8b\x08"
KEPT = 1024
"""Bytes before the last offset asked for that can still be read without starting anew."""

_STEP = 256 * 1024
_OTHER_MAGICS = {
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
}


class BadContentError(Exception):
    """The bytes are no valid archive; what was read before them stands."""


class NotAFileError(OSError):
    """The name leads to something else than a regular file."""


class Content(Protocol):
    fd: int

    def read_at(self, offset: int, into: memoryview) -> int:
        """Bytes put into `into` from `offset` on; fewer than asked for only at the present end."""
        ...

    def is_finished(self) -> bool:
        """True when nothing can follow what was read: a gzip'd file that ended as it should.

        To be asked when fewer bytes came than were asked for. Raises BadContentError when what follows them is broken.
        """
        ...

    def close(self) -> None: ...


class PlainContent:
    """A file as it is. It can always grow."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def read_at(self, offset: int, into: memoryview) -> int:
        filled = os.preadv(self.fd, [into], offset)
        while 0 < filled < len(into):
            more = os.preadv(self.fd, [into[filled:]], offset + filled)
            if more == 0:
                break
            filled += more
        return filled

    def is_finished(self) -> bool:
        return False

    def close(self) -> None:
        os.close(self.fd)


class GzipContent:
    """What a gzip'd file decompresses to (RFC 1952, any number of members). Meant to be read forwards."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._restart()

    def _restart(self) -> None:
        self._decoder = zlib.decompressobj(wbits=31)
        self._compressed_offset = 0
        self._pending = b""
        """Compressed bytes that the decoder has not taken yet."""
        self._start = 0
        """Logical offset of _buffer[0]."""
        self._buffer = bytearray()
        self._between_members = True
        self._members = 0
        self._broken = ""

    def read_at(self, offset: int, into: memoryview) -> int:
        if offset < self._start:
            self._restart()
        while self._start + len(self._buffer) < offset + len(into):
            self._drop_before(min(offset, self._start + len(self._buffer)) - KEPT)
            if not self._decompress_more():
                break
        self._drop_before(offset - KEPT)
        at = offset - self._start
        filled = max(0, min(len(into), len(self._buffer) - at))
        into[:filled] = memoryview(self._buffer)[at : at + filled]
        return filled

    def is_finished(self) -> bool:
        if self._broken:
            raise BadContentError(self._broken)
        return self._between_members and not self._pending and self._members > 0

    def close(self) -> None:
        os.close(self.fd)

    def _drop_before(self, offset: int) -> None:
        count = min(offset - self._start, len(self._buffer))
        if count > 0:
            del self._buffer[:count]
            self._start += count

    def _decompress_more(self) -> bool:
        """False at the present end of the file, or where it is broken."""
        if not self._pending:
            self._pending = os.pread(self.fd, _STEP, self._compressed_offset)
            self._compressed_offset += len(self._pending)
        if self._between_members and self._members:
            # Zero bytes may pad an archive that ended.
            self._pending = self._pending.lstrip(b"\x00")
        if not self._pending or self._broken:
            return False
        self._between_members = False
        try:
            self._buffer += self._decoder.decompress(self._pending, _STEP)
        except zlib.error as error:
            self._broken = f"not valid gzip before byte {self._compressed_offset}: {error}"
            return False
        self._pending = self._decoder.unconsumed_tail
        if self._decoder.eof:
            self._pending = self._decoder.unused_data
            self._decoder = zlib.decompressobj(wbits=31)
            self._between_members = True
            self._members += 1
        return True


def open_content(path: str) -> Content:
    """Opens `path` and looks at its first bytes; never waits (FIFO) and never takes a terminal.

    Raises OSError (NotAFileError for what is no regular file), BadContentError for archives of another kind.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return content_of(fd, path)


def content_of(fd: int, path: str) -> Content:
    """As open_content, of a descriptor that is open already; it is closed when this raises."""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise NotAFileError(f"{path} is no regular file")
        first = os.pread(fd, 8, 0)
        for magic, name in _OTHER_MAGICS.items():
            if first.startswith(magic) and (len(magic) > 3 or first[4:].startswith(b"1AY&")):
                raise BadContentError(f"{name} archives are not read")
        is_gzip = first.startswith(GZIP_MAGIC) or (path.endswith(".gz") and GZIP_MAGIC.startswith(first))
        return GzipContent(fd) if is_gzip else PlainContent(fd)
    except BaseException:
        os.close(fd)
        raise
