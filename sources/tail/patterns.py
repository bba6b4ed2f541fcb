"""Finds the files that the patterns name. What cannot be looked at is reported, and the rest is found all the same.

A pattern is a path whose components may hold `*`, `?` and `[...]`, or be `**` for any number of directories.
As in a shell, wildcards do not match a leading dot, and `**` does not follow symbolic links, so no loop can
catch it. Only regular files are found: no FIFO, socket, device or directory.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import translate

from tailrace.component import Problem

Key = tuple[int, int]
"""Device and inode."""

_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Seen:
    """A regular file as one look found it. group: index of the first group that names it, -1 for none."""

    path: str
    key: Key
    size: int
    mtime_ns: int
    ctime_ns: int
    group: int
    is_regular: bool = True

    @property
    def stamp(self) -> tuple[int, int, int]:
        """What changes when the content does."""
        return (self.size, self.mtime_ns, self.ctime_ns)


def seen_from(path: str, status: os.stat_result, group: int) -> Seen:
    key = (status.st_dev, status.st_ino)
    is_regular = stat.S_ISREG(status.st_mode)
    return Seen(path, key, status.st_size, status.st_mtime_ns, status.st_ctime_ns, group, is_regular)


@dataclass(slots=True)
class Found:
    """One look at everything. A file with several names is there several times."""

    files: list[Seen] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    directories: set[str] = field(default_factory=set)
    """Where files were found or may appear."""
    literals: set[str] = field(default_factory=set)
    """Files that are named without a wildcard."""
    _listings: dict[str, list[os.DirEntry[str]]] = field(default_factory=dict)

    def listing(self, directory: str) -> list[os.DirEntry[str]]:
        """Its entries, the same for the whole look; none when it cannot be listed."""
        if directory not in self._listings:
            try:
                with os.scandir(directory) as entries:
                    self._listings[directory] = list(entries)
            except OSError as error:
                self._listings[directory] = []
                if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                    self.problems.append(
                        Problem(directory, f"cannot be listed: {os.strerror(error.errno or 0)}")
                    )
        return self._listings[directory]


@dataclass(frozen=True, slots=True)
class PatternGroup:
    """Absolute patterns of one group, and what they leave out (paths with a `/`, names without)."""

    patterns: Sequence[str]
    exclude: Sequence[str]


class Finder:
    """Looks for the files of all groups."""

    def __init__(self, groups: Sequence[PatternGroup]) -> None:
        self._groups = [(g.patterns, [_matcher(pattern) for pattern in g.exclude]) for g in groups]
        self._matchers = [[_matcher(pattern) for pattern in g.patterns] for g in groups]

    def look(self) -> Found:
        found = Found()
        taken: set[str] = set()
        for number, (patterns, excludes) in enumerate(self._groups):
            for pattern in patterns:
                any_file = False
                if not _MAGIC.search(pattern):
                    found.literals.add(pattern)
                for path in _expand(pattern, found):
                    if any(exclude(path) for exclude in excludes):
                        continue
                    status = _status(path, found, is_literal=not _MAGIC.search(pattern))
                    if status is None:
                        continue
                    any_file = True
                    if path not in taken:
                        taken.add(path)
                        found.files.append(seen_from(path, status, number))
                        found.directories.add(os.path.dirname(path))
                if not any_file and _MAGIC.search(pattern):
                    found.problems.append(Problem(pattern, "no file matches this pattern"))
        return found

    def group_of(self, path: str) -> int:
        """The first group whose patterns match `path`; the first of all when none does."""
        matching = (
            i for i, matchers in enumerate(self._matchers) if any(matches(path) for matches in matchers)
        )
        return next(matching, 0)


def absolute(pattern: str, directory: str) -> str:
    """`pattern` below `directory`, unless it is absolute; `.` and empty components are dropped, `..` stays."""
    parts = os.path.join(directory, pattern).split("/")
    return "/" + "/".join(part for part in parts if part not in ("", "."))


def _status(path: str, found: Found, *, is_literal: bool) -> os.stat_result | None:
    try:
        status = os.stat(path)
    except OSError as error:
        if is_literal or error.errno not in (errno.ENOENT, errno.ENOTDIR):
            text = f"cannot be looked at: {os.strerror(error.errno or 0)}"
            found.problems.append(Problem(path, text, failed=is_literal))
        return None
    if stat.S_ISREG(status.st_mode):
        return status
    if is_literal:
        found.problems.append(Problem(path, "is no regular file", failed=True))
    return None


def _expand(pattern: str, found: Found) -> Iterator[str]:
    """Paths that may match; the last component of a literal pattern is not looked at."""
    parts = pattern.strip("/").split("/")
    names = [re.compile(translate(part)).match if _MAGIC.search(part) else None for part in parts]
    todo = [("", 0)]
    while todo:
        directory, i = todo.pop()
        part, matches, is_last = parts[i], names[i], i == len(parts) - 1
        if part == "**":
            if not is_last:
                todo.append((directory, i + 1))
            for entry in found.listing(directory or "/"):
                if _is_real_directory(entry):
                    if not entry.name.startswith("."):
                        todo.append((f"{directory}/{entry.name}", i))
                elif is_last and not entry.name.startswith("."):
                    yield f"{directory}/{entry.name}"
        elif matches is None:
            if is_last:
                found.directories.add(directory or "/")
                yield f"{directory}/{part}"
            else:
                todo.append((f"{directory}/{part}", i + 1))
        else:
            for entry in found.listing(directory or "/"):
                if (entry.name.startswith(".") and not part.startswith(".")) or not matches(entry.name):
                    continue
                if is_last:
                    yield f"{directory}/{entry.name}"
                elif _is_directory(entry):
                    todo.append((f"{directory}/{entry.name}", i + 1))
            if is_last:
                found.directories.add(directory or "/")


def _is_real_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Tells whether a path matches; a pattern without `/` looks at the name alone."""
    if "/" not in pattern:
        name_matches = re.compile(translate(pattern)).match
        return lambda path: name_matches(os.path.basename(path)) is not None
    parts = [None if part == "**" else re.compile(translate(part)) for part in pattern.strip("/").split("/")]
    return lambda path: _components_match(parts, path.strip("/").split("/"))


def _components_match(parts: Sequence[re.Pattern[str] | None], names: Sequence[str]) -> bool:
    """None among `parts` stands for any number of names."""
    reached = {0}
    for name in names:
        here = _past_any(parts, reached)
        reached = {i for i in here if i < len(parts) and parts[i] is None}
        reached |= {
            i + 1 for i in here if i < len(parts) and (part := parts[i]) is not None and part.match(name)
        }
    return len(parts) in _past_any(parts, reached)


def _past_any(parts: Sequence[re.Pattern[str] | None], reached: set[int]) -> set[int]:
    """`reached`, and what can be reached from there because `**` may stand for no name at all."""
    here = set(reached)
    for i in sorted(reached):
        while i < len(parts) and parts[i] is None:
            i += 1
            here.add(i)
    return here
