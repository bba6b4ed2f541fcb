"""One process at a time in a state directory: a lock that ends with whoever holds it, however they end."""

import fcntl
import os
from pathlib import Path

from tailrace.clock import Clock
from tailrace.errors import Locked

GRACE = 3.0
"""Seconds that a start waits for the children of a supervisor that is dead to be gone too."""


def lock(directory: Path, clock: Clock, grace: float = GRACE) -> int:
    """An inheritable descriptor that holds `directory`; every process that inherits it holds it too.

    Raises Locked when the process that took it lives, or its heirs do after `grace` seconds.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    end = clock.monotonic() + grace
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            owner = os.pread(fd, 20, 0).decode(errors="replace").strip()
            if _lives(owner) or clock.monotonic() >= end:
                os.close(fd)
                text = f"{directory} is in use by another run of this agent (process {owner or 'unknown'})"
                raise Locked(text) from None
            clock.sleep(0.05)
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True
