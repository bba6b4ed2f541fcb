"""Notes at which failpoint a SIGKILL really ended a child process: told by whoever waited for the child."""

import signal

noted: set[str] = set()
"""Since it was last cleared; tests/crash/conftest.py compares it with what each test was meant to kill."""


def note(failpoints: str, status: int | None) -> None:
    """`failpoints`: as armed in the child. With two kills armed nobody knows which it was."""
    armed = [item.partition("=") for item in failpoints.split(";")]
    kills = [name for name, _, action in armed if action.startswith("kill")]
    if status == -signal.SIGKILL and len(kills) == 1:
        noted.update(kills)
