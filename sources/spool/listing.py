"""Which files lie in the spool directory, and opening them: never through a symbolic link, at any level."""

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


Key = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A regular file. name: its path relative to the spool directory."""

    name: str
    key: Key
    size: int
    mtime_ns: int

    @property
    def stamp(self) -> tuple[int, int]:
        return (self.size, self.mtime_ns)


def listed_from(name: str, status: os.stat_result) -> Listed | None:
    if not stat.S_ISREG(status.st_mode):
        return None
    return Listed(name, (status.st_dev, status.st_ino), status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Names:
    """Which names are taken: those that some `include` matches and no `exclude` does."""

    include: Sequence[Callable[[str], object]]
    exclude: Sequence[Callable[[str], object]]
    suffix: str
    """Names that end so are done with; empty when none are."""

    def take(self, name: str) -> bool:
        if self.suffix and name.endswith(self.suffix):
            return False
        return any(matches(name) for matches in self.include) and not any(
            matches(name) for matches in self.exclude
        )


def compile_names(include: Sequence[str], exclude: Sequence[str], suffix: str) -> Names:
    """Globs of names, as a shell has them: a wildcard at the start does not match a dot."""
    including = [_hiding(pattern) for pattern in include]
    return Names(including, [re.compile(translate(pattern)).match for pattern in exclude], suffix)


def _hiding(pattern: str) -> Callable[[str], object]:
    matches = re.compile(translate(pattern)).match
    if pattern.startswith("."):
        return matches
    return lambda name: not name.startswith(".") and matches(name)


def files(directory: str, names: Names, *, recursive: bool, besides: Sequence[str]) -> Iterator[Listed]:
    """Every file that is taken; directories in `besides` (absolute) are left out. Raises OSError for `directory`."""
    todo = [""]
    while todo:
        below = todo.pop()
        try:
            with os.scandir(os.path.join(directory, below)) as entries:
                found = list(entries)
        except OSError:
            if not below:
                raise
            continue  # it was there a moment ago
        for entry in found:
            name = os.path.join(below, entry.name)
            if entry.is_dir(follow_symlinks=False):
                if recursive and os.path.join(directory, name) not in besides:
                    todo.append(name)
            elif names.take(entry.name) and (listed := look(directory, name)) is not None:
                yield listed


def look(directory: str, name: str) -> Listed | None:
    """What lies there under that name now; None for nothing, and for what is no regular file."""
    try:
        return listed_from(name, os.lstat(os.path.join(directory, name)))
    except OSError:
        return None


def open_beneath(directory: str, name: str) -> int:
    """Opens `directory`/`name` for reading; OSError (ELOOP, ENOTDIR) when any part of `name` is a symbolic link."""
    *parents, last = name.split("/")
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for parent in parents:
            below = os.open(parent, _FLAGS | os.O_DIRECTORY, dir_fd=place)
            os.close(place)
            place = below
        return os.open(last, _FLAGS | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=place)
    finally:
        os.close(place)
