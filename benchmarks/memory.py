"""Peak anonymous memory of processes, sampled from /proc while they run."""

import threading
from pathlib import Path

import psutil


class MemoryWatch:
    """Samples RssAnon of a process tree twenty times a second; `peaks` is MiB by what a process is."""

    def __init__(self, root: int) -> None:
        self._root = root
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
                root = psutil.Process(self._root)
                for process in [root, *root.children(recursive=True)]:
                    self._sample(process)
            except psutil.Error:
                continue

    def _sample(self, process: psutil.Process) -> None:
        command = process.cmdline()
        name = (
            "broker"
            if "tailrace.broker" in command
            else "agent"
            if "tailrace.agents" in command
            else "supervisor"
        )
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                self.peaks[name] = max(self.peaks.get(name, 0.0), int(line.split()[1]) / 1024)
