"""Named places where the crash tests kill, stop or fail the process. They cost one dict look-up when off.

TAILRACE_FAILPOINTS="name=action[;name=action...]" arms them; an action is `kill` (SIGKILL to itself),
`stop` (SIGSTOP to itself), `error` (OSError EIO) or `enospc` (OSError ENOSPC), and `@N` behind it waits
for the N-th time the place is passed (default 1; `error` and `enospc` stay on from then, `enospc@3-5` ends).
"""

import errno
import os
import signal
import threading
from dataclasses import dataclass


@dataclass(slots=True)
class _Armed:
    action: str
    first: int
    last: int | None
    passed: int = 0


def _parse(text: str) -> dict[str, _Armed]:
    armed = {}
    for item in filter(None, text.split(";")):
        name, _, action = item.partition("=")
        action, _, times = action.partition("@")
        first, dash, last = times.partition("-")
        if action not in ("kill", "stop", "error", "enospc"):
            raise ValueError(f"TAILRACE_FAILPOINTS: unknown action {action!r} in {item!r}")
        armed[name] = _Armed(action, int(first or 1), int(last) if dash else None)
    return armed


_armed = _parse(os.environ.get("TAILRACE_FAILPOINTS", ""))


def arm(text: str) -> None:
    """Replaces what is armed in this process; an empty text disarms everything."""
    global _armed
    _armed = _parse(text)


def failpoint(name: str) -> None:
    """Marks a place. `name` is a literal, `<area>.<step>`, and unique: the tests collect it from the source."""
    point = _armed.get(name)
    if point is None:
        return
    point.passed += 1
    if point.passed < point.first or (point.last is not None and point.passed > point.last):
        return
    if point.action in ("kill", "stop"):
        if point.passed == point.first:
            # To this very thread: a stop sent to the process is another thread's to take, while this one goes on.
            signal.pthread_kill(
                threading.get_ident(), signal.SIGKILL if point.action == "kill" else signal.SIGSTOP
            )
        return
    code = errno.ENOSPC if point.action == "enospc" else errno.EIO
    raise OSError(code, f"{os.strerror(code)} (failpoint {name})")
