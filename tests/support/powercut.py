"""A filesystem that forgets what was not synced: a real directory, and beside it what a power cut would leave.

Strictly by the contract of tailrace.fs: fsync keeps a file's bytes, fsync_dir keeps the names in a directory, and
nothing else is kept. A cut may also leave *more* than that (a random part of what was not synced), because real
disks do: torn tails, zeros where bytes should be, some of the pending name changes.
"""

import os
import random
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tailrace.fs import LocalFileSystem


class PowerCut(BaseException):
    """The power is gone; every further call on the filesystem raises this as well."""


@dataclass
class _Name:
    """A pending change of one name: `inode` None takes it away. Changes of one `group` happen together."""

    directory: int
    name: str
    inode: int | None
    group: int


@dataclass
class _Durable:
    content: dict[int, bytes] = field(default_factory=dict)
    names: dict[int, dict[str, int]] = field(default_factory=dict)
    directories: set[int] = field(default_factory=set)


class PowerCutFileSystem:
    """Everything below `root` (which exists) goes through the shadow; calls for other paths go through unchanged.

    cut_at       the power goes at this call that changes something (1 is the first); None: never by itself
    leave_out    (file name, line) of the caller: calls of fsync and fsync_dir from there do nothing (a mutant)
    """

    def __init__(
        self,
        root: str,
        *,
        seed: int = 0,
        cut_at: int | None = None,
        leave_out: Callable[[str, int], bool] | None = None,
    ) -> None:
        self.root = os.path.realpath(root)
        self.calls = 0
        self.cut_at = cut_at
        self.dark = False
        self._leave_out = leave_out
        self.random = random.Random(seed)
        self._real = LocalFileSystem()
        self._lock = threading.RLock()
        self._ids: dict[int, int] = {}
        self._next_id = 1
        self._groups = 0
        self._pending: list[_Name] = []
        self._durable = _Durable()
        self._adopt(self.root)

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        with self._lock:
            creates = flags & os.O_CREAT and not os.path.exists(path)
            self._step(bool(creates))
            fd = self._real.open(path, flags, mode)
            if creates and self._ours(path):
                self._new_id(os.fstat(fd).st_ino)
                self._note(path, self._id(path))
            return fd

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> None:
        with self._lock:
            try:
                self._step(True)
            except PowerCut:
                view = memoryview(data).cast("B")
                self._real.write(fd, view[: self.random.randint(0, view.nbytes)])
                raise
            self._real.write(fd, data)

    def truncate(self, path_or_fd: str | int, size: int) -> None:
        with self._lock:
            self._step(True)
            self._real.truncate(path_or_fd, size)

    def fsync(self, path_or_fd: str | int) -> None:
        with self._lock:
            if self._left_out():
                return
            self._step(True)
            stat = os.stat(path_or_fd)
            inode = self._ids.get(stat.st_ino)
            if inode is not None:
                self._durable.content[inode] = _content(path_or_fd)

    def fsync_dir(self, path: str) -> None:
        with self._lock:
            if self._left_out():
                return
            self._step(True)
            if not self._ours(path):
                return
            directory = self._id(path)
            for change in [c for c in self._pending if c.directory == directory]:
                self._apply(change)
            self._pending = [c for c in self._pending if c.directory != directory]

    def rename(self, source: str, target: str) -> None:
        with self._lock:
            self._step(True)
            inode = self._id(source)
            self._real.rename(source, target)
            self._groups += 1
            self._note(source, None, self._groups)
            self._note(target, inode, self._groups)

    def link(self, source: str, target: str) -> None:
        with self._lock:
            self._step(True)
            self._real.link(source, target)
            self._note(target, self._id(source))

    def unlink(self, path: str) -> None:
        with self._lock:
            self._step(True)
            self._real.unlink(path)
            self._note(path, None)

    def mkdir(self, path: str) -> None:
        with self._lock:
            missing = []
            while not os.path.isdir(path):
                missing.append(path)
                path = os.path.dirname(path)
            for each in reversed(missing):
                self._step(True)
                self._real.mkdir(each)
                if self._ours(each):
                    inode = self._new_id(os.stat(each).st_ino)
                    self._durable.directories.add(inode)
                    self._durable.names[inode] = {}
                    self._note(each, inode)

    def rmdir(self, path: str) -> None:
        with self._lock:
            self._step(True)
            self._real.rmdir(path)
            self._note(path, None)

    def free_bytes(self, path: str) -> int:
        return self._real.free_bytes(path)

    def cut(self, *, lucky: bool = False) -> None:
        """The directory is what was synced. `lucky`: plus a random part of what was not, as disks leave it.

        Objects that used the filesystem before must not be used any more; it begins anew for others.
        """
        with self._lock:
            volatile = self._volatile() if lucky else {}
            if lucky:
                self._apply_some()
            content = dict(self._durable.content)
            for inode, bytes_now in volatile.items():
                content[inode] = self._torn(content.get(inode, b""), bytes_now)
            for name in os.listdir(self.root):
                path = os.path.join(self.root, name)
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
            self._write_out(self.root, self._root_id, content, {})
            self._ids, self._pending, self._durable = {}, [], _Durable()
            self.dark, self.cut_at, self.calls = False, None, 0
            self._adopt(self.root)

    def _torn(self, durable: bytes, volatile: bytes) -> bytes:
        """What may be found of a file whose `durable` bytes were synced and that has `volatile` ones now."""
        if not volatile.startswith(durable):
            return self.random.choice([durable, volatile])
        extra = bytearray(volatile[len(durable) :])
        if extra:
            how = self.random.randrange(5)
            if how == 0:
                extra.clear()
            elif how == 1:
                del extra[self.random.randrange(len(extra)) :]
            elif how == 2:
                start = self.random.randrange(len(extra))
                extra[start:] = bytes(len(extra) - start)
            elif how == 3:
                start = self.random.randrange(len(extra))
                end = min(len(extra), start + self.random.choice([1, 16, 512]))
                extra[start:end] = bytes(end - start)
        return durable + bytes(extra)

    def _apply_some(self) -> None:
        """Each pending change of names on its own, or not: nothing promises an order without fsync_dir."""
        chosen: dict[int, bool] = {}
        for change in self._pending:
            if chosen.setdefault(change.group, self.random.random() < 0.5):
                self._apply(change)

    def _volatile(self) -> dict[int, bytes]:
        found = {}
        for directory, _, files in os.walk(self.root):
            for name in files:
                path = os.path.join(directory, name)
                found[self._id(path)] = _content(path)
        return found

    def _write_out(
        self, path: str, directory: int, content: dict[int, bytes], written: dict[int, str]
    ) -> None:
        """`written`: where an inode is already; another name of it is a hard link, as it was."""
        for name, inode in self._durable.names[directory].items():
            child = os.path.join(path, name)
            if inode in self._durable.directories:
                os.mkdir(child)
                self._write_out(child, inode, content, written)
            elif inode in written:
                os.link(written[inode], child)
            else:
                with open(child, "wb") as file:
                    file.write(content.get(inode, b""))
                written[inode] = child

    def _adopt(self, root: str) -> None:
        """All that is there now is durable."""
        self._root_id = self._new_id(os.stat(root).st_ino)
        self._durable.directories.add(self._root_id)
        self._durable.names[self._root_id] = {}
        for directory, directories, files in os.walk(root):
            names = self._durable.names[self._id(directory)]
            for name in directories:
                inode = self._new_id(os.stat(os.path.join(directory, name)).st_ino)
                self._durable.directories.add(inode)
                self._durable.names[inode] = {}
                names[name] = inode
            for name in files:
                path = os.path.join(directory, name)
                st_ino = os.stat(path).st_ino
                names[name] = self._ids.get(st_ino) or self._new_id(st_ino)
                self._durable.content[names[name]] = _content(path)

    def _step(self, changes: bool) -> None:
        if self.dark:
            raise PowerCut
        if changes:
            self.calls += 1
            if self.cut_at is not None and self.calls >= self.cut_at:
                self.dark = True
                raise PowerCut

    def _left_out(self) -> bool:
        """Whether the caller's line is the one whose sync a mutant leaves out (write_atomically counts as the
        caller).
        """
        if self._leave_out is None:
            return False
        frame = sys._getframe(2)
        return self._leave_out(frame.f_code.co_filename, frame.f_lineno)

    def _ours(self, path: str) -> bool:
        return path == self.root or path.startswith(self.root + os.sep)

    def _new_id(self, st_ino: int) -> int:
        self._ids[st_ino] = self._next_id
        self._next_id += 1
        return self._ids[st_ino]

    def _id(self, path: str) -> int:
        return self._ids[os.stat(path).st_ino]

    def _note(self, path: str, inode: int | None, group: int | None = None) -> None:
        if not self._ours(path):
            return
        if group is None:
            self._groups += 1
            group = self._groups
        directory = self._ids[os.stat(os.path.dirname(path) or ".").st_ino]
        self._pending.append(_Name(directory, os.path.basename(path), inode, group))

    def _apply(self, change: _Name) -> None:
        names = self._durable.names[change.directory]
        if change.inode is None:
            names.pop(change.name, None)
        else:
            names[change.name] = change.inode


def _content(path_or_fd: Any) -> bytes:
    if isinstance(path_or_fd, str):
        with open(path_or_fd, "rb") as file:
            return file.read()
    size = os.fstat(path_or_fd).st_size
    fd = os.open(f"/proc/self/fd/{path_or_fd}", os.O_RDONLY)
    try:
        return os.pread(fd, size, 0)
    finally:
        os.close(fd)
