"""A real HDFS with WebHDFS: one NameNode and one DataNode on 127.0.0.1 in a directory of their own."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import hdfs

from tests.support.install_servers import hadoop_jars
from tests.support.ports import free_port, wait_for_port

_SITE = {
    "fs.defaultFS": "hdfs://127.0.0.1:{rpc}",
    "dfs.namenode.name.dir": "file://{directory}/name",
    "dfs.datanode.data.dir": "file://{directory}/data",
    "dfs.namenode.http-address": "127.0.0.1:{http}",
    "dfs.datanode.address": "127.0.0.1:0",
    "dfs.datanode.ipc.address": "127.0.0.1:0",
    "dfs.datanode.http.address": "127.0.0.1:0",
    "dfs.datanode.hostname": "127.0.0.1",
    "dfs.datanode.synconclose": "true",
    "dfs.replication": "1",
    "dfs.permissions.enabled": "false",
    "dfs.namenode.safemode.extension": "0",
}
_NAMENODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"
_DATANODE = "org.apache.hadoop.hdfs.server.datanode.DataNode"
_ADMIN = "org.apache.hadoop.hdfs.tools.DFSAdmin"


class HdfsServer:
    """HDFS in `directory`. `kill` and `start` again keep the files; `safe_mode` needs a running one.

    The namenode and the datanode are processes of their own, so that one can be killed without the other.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.http = free_port()
        self._namenode: subprocess.Popen[bytes] | None = None
        self._datanode: subprocess.Popen[bytes] | None = None
        (directory / "conf").mkdir(parents=True, exist_ok=True)
        values = {"rpc": free_port(), "http": self.http, "directory": directory}
        rows = "".join(
            f"<property><name>{name}</name><value>{value.format(**values)}</value></property>"
            for name, value in _SITE.items()
        )
        for name in ("core-site.xml", "hdfs-site.xml"):
            (directory / "conf" / name).write_text(f"<configuration>{rows}</configuration>")

    @property
    def url(self) -> str:
        return f"webhdfs://127.0.0.1:{self.http}"

    def client(self) -> hdfs.InsecureClient:
        return hdfs.InsecureClient(f"http://127.0.0.1:{self.http}", user="root", timeout=10)

    def format(self) -> None:
        self._run(_NAMENODE, "-format", "-force", "-nonInteractive")

    def start(self) -> None:
        """Returns when a file can be written."""
        self._namenode, self._datanode = self._spawn(_NAMENODE), self._spawn(_DATANODE)
        self._wait_until_writable()

    def kill_namenode(self) -> None:
        """SIGKILL to it alone."""
        assert self._namenode is not None
        self._namenode.kill()
        self._namenode.wait()

    def start_namenode(self) -> None:
        """After `kill_namenode`; returns when a file can be written."""
        self._namenode = self._spawn(_NAMENODE)
        self._wait_until_writable()

    def _wait_until_writable(self) -> None:
        assert self._namenode is not None
        wait_for_port(self.http, self._namenode)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.client().write("/.tailrace-probe", b"x", overwrite=True)
                return
            except (hdfs.HdfsError, OSError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def safe_mode(self, on: bool) -> None:
        self._run(_ADMIN, "-safemode", "enter" if on else "leave")

    def kill(self) -> None:
        """SIGKILL to both."""
        for process in filter(None, (self._namenode, self._datanode)):
            process.kill()
            process.wait()
        self._namenode = self._datanode = None

    def _command(self, main: str, *arguments: str) -> list[str]:
        opens = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("lang", "util", "nio")]
        path = f"{self.directory}/conf:{hadoop_jars()}/*"
        return ["java", *opens, "-Djava.net.preferIPv4Stack=true", "-Xmx384m", "-cp", path, main, *arguments]

    def _run(self, main: str, *arguments: str) -> None:
        subprocess.run(self._command(main, *arguments), check=True, capture_output=True)

    def _spawn(self, main: str) -> subprocess.Popen[bytes]:
        with (self.directory / f"{main.rpartition('.')[2]}.log").open("ab") as log:
            return subprocess.Popen(self._command(main), stdout=log, stderr=log, stdin=subprocess.DEVNULL)


@contextlib.contextmanager
def running_hdfs(directory: Path) -> Iterator[HdfsServer]:
    server = HdfsServer(directory)
    server.format()
    server.start()
    try:
        yield server
    finally:
        server.kill()
