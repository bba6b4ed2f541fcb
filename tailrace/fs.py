"""The disk as a parameter: every change to a local file, and every promise that it is durable.

Only what alters or syncs goes through here; reading goes to `os`. The power-cut implementation of the
tests forgets whatever was not synced, so a durability bug is a missing call of `fsync` or `fsync_dir`.
"""

import errno
import os
from typing import Protocol


class FileSystem(Protocol):
    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        """As os.open, close-on-exec; the caller closes with os.close."""
        ...

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> None:
        """All of `data`, at the descriptor's place. OSError (ENOSPC) may leave a part written."""
        ...

    def truncate(self, path_or_fd: str | int, size: int) -> None: ...

    def fsync(self, path_or_fd: str | int) -> None:
        """The file's bytes and size are durable when this returns; its name needs fsync_dir."""
        ...

    def fsync_dir(self, path: str) -> None:
        """The names in directory `path` (created, linked, renamed, unlinked) are durable when this returns."""
        ...

    def rename(self, source: str, target: str) -> None:
        """As os.replace: overwrites the target."""
        ...

    def link(self, source: str, target: str) -> None:
        """FileExistsError when the target is there: publish without clobbering."""
        ...

    def unlink(self, path: str) -> None: ...

    def mkdir(self, path: str) -> None:
        """Makes `path` and its parents; those that are there already are fine."""
        ...

    def rmdir(self, path: str) -> None: ...

    def free_bytes(self, path: str) -> int:
        """Bytes an unprivileged process may still write on the filesystem of `path`."""
        ...


class LocalFileSystem:
    """The operating system's own calls."""

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data).cast("B")
        while view.nbytes:
            written = os.write(fd, view)
            if written == 0:
                raise OSError(errno.EIO, "write took no bytes")
            view = view[written:]

    def truncate(self, path_or_fd: str | int, size: int) -> None:
        os.truncate(path_or_fd, size)

    def fsync(self, path_or_fd: str | int) -> None:
        if isinstance(path_or_fd, int):
            os.fsync(path_or_fd)
            return
        fd = os.open(path_or_fd, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def fsync_dir(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def link(self, source: str, target: str) -> None:
        os.link(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def mkdir(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def free_bytes(self, path: str) -> int:
        stat = os.statvfs(path)
        return stat.f_bavail * stat.f_frsize


def make_directories(fs: FileSystem, path: str) -> None:
    """Makes `path` and what is missing above it, durably."""
    missing = []
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for made in reversed(missing):
        fs.mkdir(made)
        fs.fsync_dir(os.path.dirname(made))


def write_atomically(fs: FileSystem, path: str, data: bytes) -> None:
    """Replaces the file at `path` by `data`: after a power cut there is the old one or the new one, whole."""
    partial = f"{path}.new"
    fd = fs.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        fs.write(fd, data)
        fs.fsync(fd)
    finally:
        os.close(fd)
    fs.rename(partial, path)
    fs.fsync_dir(os.path.dirname(path) or ".")
