"""Opens files for reading and keeps the number of open ones bounded; the least recently used is closed first.

A file that no name leads to any more, or that is not read to its end after it was rotated away, stays open:
it could not be opened again.
"""

import errno
import os
from collections import OrderedDict

from tailrace.sources.content import Content, content_of
from tailrace.sources.tail.patterns import Key
from tailrace.sources.tail.tracked import Tracked


class MovedError(OSError):
    """The name leads to another file than a moment ago; a new look will tell."""


class Descriptors:
    def __init__(self, most: int) -> None:
        self._most = most
        self._open: OrderedDict[Tracked, None] = OrderedDict()

    def content(self, tracked: Tracked) -> Content:
        """The open content of an attached file. Raises OSError, BadContentError."""
        if tracked.content is None:
            self.keep(tracked, self.open(tracked.path, tracked.key))
        assert tracked.content is not None
        self._open.move_to_end(tracked)
        return tracked.content

    def keep(self, tracked: Tracked, content: Content) -> None:
        """`content` is the tracked file's, and is closed with it."""
        self.close(tracked)
        tracked.content = content
        self._open[tracked] = None
        if len(self._open) > self._most:
            self._close_one(besides=tracked)

    def open(self, path: str, key: Key) -> Content:
        """Opens what must be the file `key`. Raises OSError (MovedError when it is another), BadContentError."""
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        while True:
            try:
                fd = os.open(path, flags)
                break
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._close_one():
                    raise
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != key:
            os.close(fd)
            raise MovedError(f"{path} was replaced meanwhile")
        return content_of(fd, path)

    def close(self, tracked: Tracked) -> None:
        if tracked.content is not None:
            tracked.content.close()
            tracked.content = None
            tracked.recollection, tracked.is_recalled = None, False
            del self._open[tracked]

    def close_all(self) -> None:
        for tracked in list(self._open):
            self.close(tracked)

    def _close_one(self, besides: Tracked | None = None) -> bool:
        """The least recently used that is read to its end; else the least recently used that its name still
        leads to.
        """
        named = [t for t in self._open if t is not besides and not t.is_deleted and not t.is_outside]
        victim = next((t for t in named if t.at_end), named[0] if named else None)
        if victim is None:
            return False
        self.close(victim)
        return True
