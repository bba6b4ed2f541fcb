"""Landing files on a local filesystem: `link` publishes (it never overwrites), and every name is fsynced.

All changes go through `tailrace.fs`, so the power-cut tests see each promise; checksums are CRC-32C.
"""

import contextlib
import errno
import os
import uuid
from collections.abc import Sequence

import crc32c

from tailrace.errors import Halt
from tailrace.failpoint import failpoint
from tailrace.fs import FileSystem
from tailrace.sinks.stores.store import Entry, Look, Sealed, Spoiled

_READ = 1 << 20
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class LocalStore:
    """See `Store`; `root` is an absolute path once `open` was called."""

    def __init__(self, fs: FileSystem) -> None:
        self._fs = fs
        self._root = "/"
        self._durable: set[str] = set()
        """Directories whose own name is known to be durable."""

    def open(self, root: str) -> None:
        self._root = root
        self._durable.clear()
        self._directory(root)
        self._require_links(root)

    def stage(self, path: str) -> "LocalStaging":
        self._directory(os.path.dirname(path))
        failpoint("store.local.before_stage")
        try:
            return LocalStaging(self._fs, path)
        except FileNotFoundError:
            self._durable.clear()  # somebody removed a directory that we made
            raise

    def look(self, path: str) -> Look | None:
        try:
            with open(path, "rb", buffering=0) as file:
                size, crc = 0, 0
                buffer = bytearray(_READ)
                view = memoryview(buffer)
                while count := file.readinto(buffer):
                    crc = crc32c.crc32c(view[:count], crc)
                    size += count
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Look(size, _checksum(crc))

    def publish(self, staged: str, final: str) -> bool:
        self._directory(os.path.dirname(final))
        failpoint("store.local.before_link")
        try:
            self._fs.link(staged, final)
            failpoint("store.local.after_link")
            return os.path.samestat(os.stat(staged), os.stat(final))
        except FileExistsError:
            return False
        except FileNotFoundError:
            self._durable.clear()
            return False

    def sync(self, finals: Sequence[str]) -> None:
        failpoint("store.local.before_sync")
        for directory in sorted({os.path.dirname(final) for final in finals}):
            self._fs.fsync_dir(directory)
        failpoint("store.local.after_sync")

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._fs.unlink(path)

    def remove_tree(self, path: str) -> None:
        for entry in self.entries(path):
            inner = os.path.join(path, entry.name)
            if entry.is_directory:
                self.remove_tree(inner)
            else:
                self.remove(inner)
        self._durable.discard(path)
        with contextlib.suppress(FileNotFoundError):
            self._fs.rmdir(path)

    def entries(self, path: str) -> list[Entry]:
        try:
            with os.scandir(path) as found:
                return sorted((_entry(item) for item in found), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, path: str, limit: int, offset: int = 0) -> bytes | None:
        try:
            with open(path, "rb") as file:
                file.seek(offset)
                return file.read(limit)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def create(self, path: str, data: bytes) -> bool:
        """Written aside and linked, so that nobody ever sees half of it."""
        self._directory(os.path.dirname(path))
        aside = f"{path}.{uuid.uuid4().hex}"
        staging = LocalStaging(self._fs, aside)
        try:
            staging.write(memoryview(data))
            staging.seal()
            self._fs.link(aside, path)
            self._fs.fsync_dir(os.path.dirname(path))
        except FileExistsError:
            return False
        finally:
            staging.discard()
        return True

    def free_bytes(self) -> int | None:
        return self._fs.free_bytes(self._root)

    def url(self, path: str) -> str:
        return path

    def close(self) -> None:
        return None

    def _directory(self, path: str) -> None:
        """Makes `path`, durably: also where a killed predecessor made it and had no time to fsync.

        Above the root it stops at what this user may not open: that was there before us.
        """
        if path in self._durable:
            return
        parent = os.path.dirname(path)
        if parent == path:
            return
        self._directory(parent)
        self._fs.mkdir(path)
        try:
            self._fs.fsync_dir(parent)
        except PermissionError:
            if path.startswith(self._root + os.sep):
                raise
        self._durable.add(path)

    def _require_links(self, root: str) -> None:
        probe = os.path.join(root, f".tailrace-probe-{uuid.uuid4().hex}")
        os.close(self._fs.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        try:
            self._fs.link(probe, f"{probe}.link")
            self._fs.unlink(f"{probe}.link")
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise Halt(
                    f"{root}: this filesystem has no hard links, so files cannot be published without the "
                    f"risk of overwriting ({error}); land on a POSIX filesystem or on HDFS"
                ) from error
            raise
        finally:
            self._fs.unlink(probe)


class LocalStaging:
    """See `Staging`. The CRC is of the bytes as they are handed over, not of what the disk gives back."""

    def __init__(self, fs: FileSystem, path: str) -> None:
        self._fs = fs
        self._path = path
        self._crc = 0
        self.size = 0
        self._fd = fs.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)

    def write(self, data: memoryview) -> None:
        try:
            failpoint("store.local.write")
            self._fs.write(self._fd, data)
        except OSError as error:
            raise Spoiled(error.errno, f"{self._path}: {error.strerror}") from error
        self._crc = crc32c.crc32c(data, self._crc)
        self.size += data.nbytes

    def seal(self) -> Sealed:
        try:
            failpoint("store.local.before_fsync")
            self._fs.fsync(self._fd)
            self._fs.fsync_dir(os.path.dirname(self._path))
            failpoint("store.local.after_fsync")
        except OSError as error:
            # A second fsync would answer well although the kernel has thrown the pages away.
            raise Spoiled(error.errno, f"{self._path}: fsync: {error.strerror}") from error
        self._let_go()
        return Sealed(self._path, Look(self.size, _checksum(self._crc)))

    def discard(self) -> None:
        self._let_go()
        with contextlib.suppress(OSError):  # what cannot be removed now is collected at the next start
            self._fs.unlink(self._path)

    def _let_go(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _checksum(crc: int) -> str:
    return f"crc32c:{crc:08x}"


def _entry(item: os.DirEntry[str]) -> Entry:
    is_directory = item.is_dir(follow_symlinks=False)
    return Entry(item.name, is_directory, 0 if is_directory else item.stat(follow_symlinks=False).st_size)
