"""A child that dies with its parent: by the kernel's signal on Linux, and by the end of a pipe everywhere."""

import ctypes
import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1


def die_with_parent(pipe: int, parent: int) -> None:
    """SIGKILL to this process when `parent` is gone: what is uncommitted is read again by the next run.

    pipe    a descriptor whose other end only the parent holds; nothing more is written to it
    parent  process id of whoever started us, from its main thread (prctl(2), PR_SET_PDEATHSIG)
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(70)
    threading.Thread(target=_exit_at_end, args=(pipe,), name="parent", daemon=True).start()


def _exit_at_end(pipe: int) -> None:
    while os.read(pipe, 4096):
        pass
    os._exit(70)
