"""A real `tailrace run` as a process of its own, with its log in a file, for tests that kill and stop it."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")
DEADLINE = 60.0


def eventually(
    look: Callable[[], T],
    what: str | Callable[[], str] = "",
    deadline: float = DEADLINE,
    every: float = 0.02,
) -> T:
    """What `look` answers, as soon as that is true; fails with `what` when it never is."""
    end = time.monotonic() + deadline
    while True:
        if found := look():
            return found
        if time.monotonic() >= end:
            raise AssertionError(f"never: {(what() if callable(what) else what) or look}")
        time.sleep(every)


class Tailrace:
    """`tailrace run FILE ...` in the folder `root`; `failpoints` are armed in it and in all its children."""

    def __init__(
        self, root: Path, text: str, *arguments: str, name: str = "pipeline.yaml", failpoints: str = ""
    ) -> None:
        self.root = root
        self.log_file = root / "log"
        (root / name).write_text(text)
        self.out_file = root / "out"
        with self.log_file.open("ab") as log, self.out_file.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tailrace", "run", str(root / name), *arguments],
                stdout=out,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "TAILRACE_FAILPOINTS": failpoints},
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def logged(self, pattern: str, deadline: float = DEADLINE) -> re.Match[str]:
        """Waits until the log has it."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.log)
            assert found or self.process.poll() is None, f"ended without {pattern!r}:\n{self.log[-3000:]}"
            return found

        return eventually(look, lambda: f"{pattern!r} in {self.log[-3000:]}", deadline)

    def wait(self, deadline: float = DEADLINE) -> int:
        """Its status."""
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running: {self.log[-3000:]}") from None

    def summary(self) -> dict[str, Any]:
        """What --json printed."""
        found: dict[str, Any] = json.loads(self.out_file.read_text())
        return found

    def end(self) -> None:
        """Kills what is left."""
        children = self.children()
        for process in (self.process, *children):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        self.process.wait()


def gone(processes: list[psutil.Process], deadline: float = 10.0) -> bool:
    """True when none of them is left by then."""
    return not psutil.wait_procs(processes, timeout=deadline)[1]
