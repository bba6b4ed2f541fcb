"""Landing files on HDFS over WebHDFS, through the `hdfs` package.

A file in the making is spooled on the local disk and uploaded when it is sealed, so that no connection
stays open for as long as a file grows. `rename` publishes: it answers false and throws nothing for a
missing source, an existing destination and a missing parent, so only a look decides.
"""

import contextlib
import os
import posixpath
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import hdfs
import requests

from tailrace.failpoint import failpoint
from tailrace.fs import FileSystem
from tailrace.sinks.stores.store import Entry, Look, Sealed, Spoiled, StoreError

T = TypeVar("T")

_CHUNK = 1 << 20
_ABSENT = ("FileNotFoundException", "PathIsNotDirectoryException", "ParentNotDirectoryException")


class _Client(hdfs.InsecureClient):  # type: ignore[misc]  # the package has no types
    """The package's client, without its expansion of `#LATEST` inside paths."""

    def resolve(self, hdfs_path: str) -> str:
        return hdfs_path


class WebHdfsStore:
    """See `Store`. `authority` is host:port of the namenode's HTTP server; `spool` a local directory of ours.

    There is no fsync over WebHDFS: power loss is survived where `dfs.datanode.synconclose` is true.
    """

    def __init__(
        self, authority: str, *, user: str | None, timeout: float, spool: Path, fs: FileSystem
    ) -> None:
        self._authority = authority
        self._spool = spool
        self._fs = fs
        self._made: set[str] = set()
        """Directories that were made for final files."""
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=0))
        self._session = session
        self._client = _Client(f"http://{authority}", user=user, timeout=timeout, session=session)

    def open(self, root: str) -> None:
        self._fs.mkdir(str(self._spool))
        self._call("MKDIRS", root, lambda: self._client.makedirs(root))

    def stage(self, path: str) -> "WebHdfsStaging":
        failpoint("store.webhdfs.before_stage")
        return WebHdfsStaging(self, self._fs, str(self._spool / uuid.uuid4().hex), path)

    def look(self, path: str) -> Look | None:
        status = self._status(path)
        if status is None or status["type"] != "FILE":
            return None
        answer = self._absent_is_none("GETFILECHECKSUM", path, lambda: self._client.checksum(path))
        if answer is None:
            return None
        return Look(int(status["length"]), f"{answer['algorithm']}:{answer['bytes']}")

    def publish(self, staged: str, final: str) -> bool:
        parent = posixpath.dirname(final)
        if parent not in self._made:
            self._call("MKDIRS", parent, lambda: self._client.makedirs(parent))
            self._made.add(parent)
        if self._status(final) is not None:
            return False  # never move *into* a directory of that name
        failpoint("store.webhdfs.before_rename")
        answer = self._call("RENAME", staged, lambda: self._client._rename(staged, destination=final).json())
        failpoint("store.webhdfs.after_rename")
        if answer.get("boolean") is not True:
            self._made.clear()  # perhaps somebody removed the directory
        return False

    def sync(self, finals: Sequence[str]) -> None:
        """The namenode's edit log is synced before each answer."""

    def remove(self, path: str) -> None:
        self._absent_is_none("DELETE", path, lambda: self._client.delete(path))

    def remove_tree(self, path: str) -> None:
        self._absent_is_none("DELETE", path, lambda: self._client.delete(path, recursive=True))

    def entries(self, path: str) -> list[Entry]:
        found: list[tuple[str, dict[str, Any]]] | None = self._absent_is_none(
            "LISTSTATUS", path, lambda: self._client.list(path, status=True)
        )
        return sorted(
            (
                Entry(name, status["type"] == "DIRECTORY", int(status["length"]))
                for name, status in found or ()
            ),
            key=lambda entry: entry.name,
        )

    def read(self, path: str, limit: int, offset: int = 0) -> bytes | None:
        def fetch() -> bytes:
            with self._client.read(path, offset=offset, length=limit) as reader:
                return bytes(reader.read())

        return self._absent_is_none("OPEN", path, fetch)

    def create(self, path: str, data: bytes) -> bool:
        """Written aside and renamed, so that nobody ever sees half of it."""
        aside = f"{path}.{uuid.uuid4().hex}"
        self.upload(aside, lambda: iter([data]))
        self.publish(aside, path)
        mine = self._status(aside) is None
        self.remove(aside)
        return mine

    def free_bytes(self) -> int | None:
        return self._fs.free_bytes(str(self._spool))

    def url(self, path: str) -> str:
        return f"webhdfs://{self._authority}{path}"

    def close(self) -> None:
        self._session.close()

    def upload(self, path: str, chunks: Callable[[], Iterator[bytes]]) -> None:
        """A new file at `path` with these bytes; StoreError where it may be half there."""
        self._call("CREATE", path, lambda: self._client.write(path, data=chunks(), overwrite=False))

    def _status(self, path: str) -> dict[str, Any] | None:
        return self._absent_is_none("GETFILESTATUS", path, lambda: self._client.status(path))

    def _absent_is_none(self, verb: str, path: str, call: Callable[[], T]) -> T | None:
        try:
            return self._call_raw(verb, path, call)
        except hdfs.HdfsError as error:
            if error.exception in _ABSENT:
                return None
            raise self._error(verb, path, error) from error

    def _call(self, verb: str, path: str, call: Callable[[], T]) -> T:
        try:
            return self._call_raw(verb, path, call)
        except hdfs.HdfsError as error:
            raise self._error(verb, path, error) from error

    def _call_raw(self, verb: str, path: str, call: Callable[[], T]) -> T:
        """Lets HdfsError through: some verbs tell its kinds apart."""
        try:
            return call()
        except (requests.RequestException, ValueError, KeyError) as error:
            raise self._error(verb, path, error) from error

    def _error(self, verb: str, path: str, error: Exception) -> StoreError:
        reason = _innermost(error) if isinstance(error, requests.RequestException) else error
        first_line = next(iter(str(reason).splitlines()), "")[:300]
        return StoreError(f"{verb} {self.url(path)}: {type(error).__name__}: {first_line}")


def _innermost(error: BaseException) -> BaseException:
    """What the socket said: around it are the addresses of objects, and an URL that is too long to be read."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


class WebHdfsStaging:
    """See `Staging`. Each try of an upload has a path of its own: a broken one is garbage, not in the way.

    The spool file loses its name as soon as it is open: whatever becomes of us, nothing is left of it.
    """

    def __init__(self, store: WebHdfsStore, fs: FileSystem, spool: str, path: str) -> None:
        self._store = store
        self._fs = fs
        self._path = path
        self._tries = 0
        self._sealed: Sealed | None = None
        self.size = 0
        self._fd = fs.open(spool, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fs.unlink(spool)

    def write(self, data: memoryview) -> None:
        try:
            failpoint("store.webhdfs.write")
            self._fs.write(self._fd, data)
        except OSError as error:
            raise Spoiled(error.errno, f"spool of {self._path}: {error.strerror}") from error
        self.size += data.nbytes

    def seal(self) -> Sealed:
        if self._sealed is not None:
            return self._sealed
        path = self._path if self._tries == 0 else f"{self._path}.{self._tries}"
        self._tries += 1
        failpoint("store.webhdfs.before_upload")
        self._store.upload(path, self._chunks)
        failpoint("store.webhdfs.after_upload")
        look = self._store.look(path)
        if look is None or look.size != self.size:
            raise StoreError(
                f"{self._store.url(path)}: uploaded {self.size} bytes, and there is "
                f"{look.size if look else 'no file'}"
            )
        self._let_go()
        self._sealed = Sealed(path, look)
        return self._sealed

    def discard(self) -> None:
        self._let_go()
        for number in range(self._tries):
            with contextlib.suppress(OSError):  # what cannot be removed now is collected at the next start
                self._store.remove(self._path if number == 0 else f"{self._path}.{number}")

    def _chunks(self) -> Iterator[bytes]:
        for at in range(0, self.size, _CHUNK):
            yield os.pread(self._fd, _CHUNK, at)

    def _let_go(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
