"""Peak anonymous memory of processes, sampled from /proc while they run."""

import threading
from collections.abc import Iterator
from pathlib import Path


class MemoryWatch:
    """Samples RssAnon of a process tree twenty times a second; `peaks` is MiB by what a process is.

    It reads the tree's own files alone: a look through all of /proc, so often, takes a core's twentieth from what
    is measured.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._kinds: dict[int, str] = {}
        self.peaks: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            try:
                for pid in _tree(self._root):
                    self._sample(pid)
            except OSError:  # one of them has just ended
                continue

    def _sample(self, pid: int) -> None:
        kind = self._kinds.get(pid)
        if kind is None:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            kind = next((name for name in ("broker", "agent") if _MODULES[name] in command), "supervisor")
            if (
                kind != "supervisor" or pid == self._root
            ):  # a child that has not begun is called like its parent
                self._kinds[pid] = kind
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                self.peaks[kind] = max(self.peaks.get(kind, 0.0), int(line.split()[1]) / 1024)


_MODULES = {"broker": b"tailrace.broker", "agent": b"tailrace.agents"}


def _tree(root: int) -> Iterator[int]:
    yield root
    for child in Path(f"/proc/{root}/task/{root}/children").read_text().split():
        yield from _tree(int(child))
