"""From the text of a location to its store: a path or `file://` is local, `webhdfs://host:port/` is HDFS."""

import getpass
import os
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tailrace.fs import FileSystem
from tailrace.sinks.stores.local import LocalStore
from tailrace.sinks.stores.store import Store
from tailrace.sinks.stores.webhdfs import WebHdfsStore

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_AUTHORITY = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Location:
    """Where files land: the kind of store, its host:port (empty when local), and a path in it."""

    scheme: str
    authority: str
    path: str


@dataclass(frozen=True, slots=True)
class Access:
    """What stores need beside the location; each takes what it knows."""

    fs: FileSystem
    spool: Path
    user: str | None = None
    timeout: float = 30.0


def parse_location(text: str) -> Location:
    """ValueError with the remedy when no store can serve it. A local path may be relative still."""
    match = _SCHEME.match(text)
    if match is None:
        if text.startswith("~"):
            raise ValueError(f"`~` is not expanded: write {text!r} out, or as ${{env:HOME}}{text[1:]}")
        return Location("file", "", text)
    scheme, rest = match[1].lower(), text[match.end() :]
    if scheme == "file":
        if not rest.startswith("/"):
            raise ValueError(f"expected file:///absolute/path, not {text!r}")
        return Location("file", "", rest)
    if scheme == "hdfs":
        raise ValueError("hdfs:// is reached by its HTTP port: write webhdfs://namenode:9870/path")
    if scheme != "webhdfs":
        raise ValueError(f"no store for {scheme}://; there are local paths and webhdfs://namenode:9870/path")
    authority, slash, path = rest.partition("/")
    if not _AUTHORITY.fullmatch(authority) or not slash:
        raise ValueError(f"expected webhdfs://host:port/path, not {text!r}")
    return Location("webhdfs", authority, f"/{path}")


def absolute(location: Location, path: str) -> str:
    """Normalised, and a local path made absolute against the working directory."""
    return os.path.abspath(path) if location.scheme == "file" else posixpath.normpath(path)


_STORES: dict[str, Callable[[Location, Access], Store]] = {
    "file": lambda _location, access: LocalStore(access.fs),
    "webhdfs": lambda location, access: WebHdfsStore(
        location.authority,
        user=access.user or getpass.getuser(),
        timeout=access.timeout,
        spool=access.spool,
        fs=access.fs,
    ),
}


def make_store(location: Location, access: Access) -> Store:
    return _STORES[location.scheme](location, access)


def path_in(location: Location, url: str) -> str | None:
    """The path of a ledger's URL in this location's store; None when it lies in another store."""
    other = parse_location(url)
    return other.path if (other.scheme, other.authority) == (location.scheme, location.authority) else None
