"""Runs a function in a child process with failpoints armed, and hears what it reports until it ends or is killed.

A fork, not a new interpreter: the child is a real process that a real SIGKILL ends, without the imports.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from tailrace.failpoint import arm
from tests.support import kills


@dataclass(frozen=True)
class Ended:
    """reports: what the child said, in order; status: its exit status, or minus the signal that killed it."""

    reports: list[list]
    status: int


def run_forked(work: Callable[[Callable[..., None]], None], failpoints: str = "") -> Ended:
    """`work` gets a `say(*values)` whose reports are on their way before it returns, whatever happens next."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            arm(failpoints)
            work(lambda *report: _write(writer, json.dumps(report).encode() + b"\n"))
            status = 0
        except BaseException:  # noqa: BLE001 - a child must never return into the test
            traceback.print_exc(file=sys.stderr)
            sys.stderr.flush()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        lines = pipe.read().splitlines()
    _, status = os.waitpid(pid, 0)
    ended = Ended([json.loads(line) for line in lines], os.waitstatus_to_exitcode(status))
    kills.note(failpoints, ended.status)
    return ended


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
