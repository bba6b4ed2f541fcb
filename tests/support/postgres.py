"""A private PostgreSQL in a directory of its own, on a free port of 127.0.0.1, durable as in production."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from tests.support.ports import free_port

_USER = "tailrace"


def binaries() -> Path | None:
    """Where `initdb` and `postgres` are; None when this machine has none."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if debian:
        return debian[-1].parent
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


class PostgresServer:
    """`kill` and `start` again keep the data, as after a crash."""

    def __init__(self, directory: Path) -> None:
        found = binaries()
        assert found is not None, "PostgreSQL is not installed (Debian: postgresql-15)"
        self._binaries = found
        self._data = directory / "data"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / "server.log"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"

    def make(self) -> None:
        self._run("initdb", "-D", self._data, "-U", _USER, "--auth=trust", "--no-sync", "-E", "UTF8")

    def start(self) -> None:
        """Returns when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._as_user(),
                    str(self._binaries / "postgres"),
                    *("-D", str(self._data), "-p", str(self.port), "-h", "127.0.0.1", "-k", ""),
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url()).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, "PostgreSQL does not answer"
                time.sleep(0.05)

    def stop(self, *, immediate: bool = False) -> None:
        """`immediate`: without a checkpoint, as after a crash."""
        if self._process is None:
            return
        mode = "immediate" if immediate else "fast"
        with contextlib.suppress(subprocess.CalledProcessError):
            self._run("pg_ctl", "-D", self._data, "-m", mode, "-w", "stop")
        self._process.wait(30)
        self._process = None

    def create_database(self, name: str) -> str:
        """A fresh database; answers its URL."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def _run(self, program: str, *arguments: object) -> None:
        command = [*self._as_user(), str(self._binaries / program), *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True, cwd="/")

    @staticmethod
    def _as_user() -> list[str]:
        """The server refuses to run as root."""
        return (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
        )


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """In a directory of its own below the system's temporary one: the server's user must reach it."""
    directory = Path(tempfile.mkdtemp(prefix="tailrace-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(directory, "postgres", "postgres")
        server = PostgresServer(directory)
        server.make()
        try:
            server.start()
            yield server
        finally:
            server.stop(immediate=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
