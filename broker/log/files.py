"""Open files that outlive their deletion, ranges of them for readers, and the lock of a directory."""

import fcntl
import os
from dataclasses import dataclass

from tailrace.errors import Locked
from tailrace.fs import FileSystem


class OpenFile:
    """A descriptor that is closed when nobody refers to it any more.

    A segment may be deleted while a fetch still sends from it: the range keeps this object, and so the bytes.
    """

    __slots__ = ("fd", "path")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd

    def read_at(self, position: int, length: int) -> bytes:
        """Up to `length` bytes from `position`; fewer only at the end of the file."""
        data = os.pread(self.fd, length, position)
        if len(data) == length or not data:
            return data
        parts = [data]
        missing = length - len(data)
        while missing and (data := os.pread(self.fd, missing, position + length - missing)):
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def __del__(self) -> None:
        os.close(self.fd)


def open_to_read(path: str) -> OpenFile:
    return OpenFile(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC))


@dataclass(frozen=True, slots=True)
class FileRange:
    """Whole record batches in a file, to be sent by sendfile or read; valid as long as it is held.

    `more`: batches that were asked for, too, follow it in this file or the next one.
    """

    file: OpenFile
    position: int
    length: int
    more: bool = False

    @property
    def fd(self) -> int:
        return self.file.fd

    def read(self) -> bytes:
        return self.file.read_at(self.position, self.length)


class DirectoryLock:
    """An exclusive lock on `<directory>/.lock`, held until release() or the end of the process."""

    def __init__(self, directory: str, fs: FileSystem) -> None:
        """Raises Locked when another process, or another part of this one, has the directory."""
        self._fd = fs.open(os.path.join(directory, ".lock"), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise Locked(
                f"{directory} is in use by another process: stop it, or give this one a directory of its own"
            ) from error

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
