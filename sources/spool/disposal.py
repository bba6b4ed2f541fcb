"""What becomes of a file that was read: renamed, moved or deleted; and of one that cannot be: moved to `failed`.

Nothing is ever overwritten: a name is taken by a hard link, which fails when it is taken already, and the old one
is dropped after that. A crash in between leaves both, and doing it again does the rest.
"""

import errno
import os

from tailrace.failpoint import failpoint
from tailrace.fs import FileSystem, make_directories

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class NameTakenError(Exception):
    """Another file has the name that this one should get."""


class Disposal:
    """Does it through the given filesystem. Every verb may be repeated; OSError leaves the file where it is."""

    def __init__(self, fs: FileSystem) -> None:
        self._fs = fs

    def delete(self, path: str) -> None:
        self._fs.unlink(path)
        failpoint("spool.deleted")
        self._fs.fsync_dir(os.path.dirname(path))

    def move(self, path: str, target: str) -> None:
        """Gives the file at `path` the name `target`. Raises NameTakenError."""
        make_directories(self._fs, os.path.dirname(target))
        try:
            self._fs.link(path, target)
            failpoint("spool.linked")
        except FileExistsError as error:
            if not os.path.samestat(os.lstat(path), os.lstat(target)):
                raise NameTakenError(target) from error
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._rename(path, target)
            return
        self._fs.fsync_dir(os.path.dirname(target))
        self._fs.unlink(path)
        failpoint("spool.unlinked")
        self._fs.fsync_dir(os.path.dirname(path))

    def _rename(self, path: str, target: str) -> None:
        """For filesystems without hard links."""
        if os.path.lexists(target):
            raise NameTakenError(target)
        self._fs.rename(path, target)
        self._fs.fsync_dir(os.path.dirname(target))
        self._fs.fsync_dir(os.path.dirname(path))

    def move_aside(self, path: str, target: str) -> str:
        """As move(), to `target` or, while that is taken, `target.1`, `target.2`, ...; answers the name."""
        number = 0
        while True:
            name = f"{target}.{number}" if number else target
            try:
                self.move(path, name)
                return name
            except NameTakenError:
                number += 1
