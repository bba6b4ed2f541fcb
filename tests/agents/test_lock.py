"""One run at a time, as long as any process of it lives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tailrace.agents.lock import lock
from tailrace.clock import ManualClock, SystemClock
from tailrace.errors import Locked


def test_a_second_one_is_refused_with_the_holders_process_id(tmp_path: Path) -> None:
    fd = lock(tmp_path / "a", SystemClock())
    with pytest.raises(Locked, match=rf"a is in use by another run of this agent \(process {os.getpid()}\)"):
        lock(tmp_path / "a", ManualClock())
    os.close(fd)
    os.close(lock(tmp_path / "a", ManualClock(), grace=0))


def test_a_child_that_inherited_it_holds_it_after_its_parent_let_go(tmp_path: Path) -> None:
    fd = lock(tmp_path, SystemClock())
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[fd])
    os.close(fd)
    try:
        with pytest.raises(Locked):
            lock(tmp_path, SystemClock(), grace=0)
    finally:
        child.kill()
        child.wait()
    os.close(lock(tmp_path, SystemClock(), grace=0))
