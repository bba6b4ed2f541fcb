"""The contract of a landing store: stage a file unseen, look at files, publish without ever clobbering.

Every verb raises OSError when the store cannot be reached or refuses; an error never says that nothing
happened, so callers judge by `look`, not by the reply (landing.md, "Publish").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class StoreError(OSError):
    """A store that is not the operating system's answered with an error; the text is the store's own."""


class Spoiled(StoreError):
    """The bytes of a file in the making can no longer be trusted (a failed write or fsync): drop it."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a file is: its size in bytes, and the store's checksum over all of it (`<algorithm>:<hex>`)."""

    size: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """A file that is staged: complete, and as durable as the store can make it."""

    path: str
    look: Look


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    is_directory: bool
    size: int = 0


class Staging(Protocol):
    """A file in the making, where no reader looks."""

    size: int
    """Bytes written so far."""

    def write(self, data: memoryview) -> None:
        """Appends all of `data`, or raises Spoiled."""
        ...

    def seal(self) -> Sealed:
        """Ends the file. Raises Spoiled; after another OSError call again (the path may then differ)."""
        ...

    def discard(self) -> None:
        """Lets go of it and removes what can be removed; never raises."""
        ...


class Store(Protocol):
    """Paths are absolute inside the store, with `/` between the parts."""

    def open(self, root: str) -> None:
        """Makes directory `root`. Raises Halt when files there can never be published without clobbering."""
        ...

    def stage(self, path: str) -> Staging:
        """A new file at `path`; missing directories are made."""
        ...

    def look(self, path: str) -> Look | None:
        """None when there is no file at `path`. Reads the whole file where the store keeps no checksum."""
        ...

    def publish(self, staged: str, final: str) -> bool:
        """Tries to give the staged file its final name, never over another file.

        True only when it was seen to be the very same file there; False says nothing: look.
        """
        ...

    def sync(self, finals: Sequence[str]) -> None:
        """The names of published files are durable when this returns."""
        ...

    def remove(self, path: str) -> None:
        """Removes a file; one that is not there is fine."""
        ...

    def remove_tree(self, path: str) -> None:
        """Removes a directory and all in it; one that is not there is fine."""
        ...

    def entries(self, path: str) -> list[Entry]:
        """What is in a directory, sorted by name; [] when it is not there."""
        ...

    def read(self, path: str, limit: int, offset: int = 0) -> bytes | None:
        """At most `limit` bytes of a file, from `offset` on; None when it is not there."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """A small file with this content, durable; False when there is one already."""
        ...

    def free_bytes(self) -> int | None:
        """Room for files being staged; None when the store cannot say."""
        ...

    def url(self, path: str) -> str:
        """The path with the store's scheme and authority, as the ledger keeps it."""
        ...

    def close(self) -> None: ...
