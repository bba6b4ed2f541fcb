"""`python -m tailrace.broker --settings JSON [--parent-fd N]`: one broker process, until SIGTERM or its
parent's end.

Prints one line, `{"ready": "host:port"}`, on stdout when it serves; logs to stderr. Ends with status

    0   after an orderly stop
    65  when the data directory is damaged
    74  when the disk failed (start it again: what was answered is there, or was told to be lost)
    75  when its directory or address is in use
    78  for settings, an address or a data directory that it cannot take
"""

import argparse
import asyncio
import ctypes
import errno
import json
import os
import resource
import signal
import sys
from collections.abc import Sequence

import structlog
from pydantic import ValidationError

from tailrace.broker.log.errors import NewerDataDirectory
from tailrace.broker.server.compose import CannotListen, RunningBroker
from tailrace.config.broker import BrokerSettings
from tailrace.errors import Corrupt, Locked

DATA, IO_ERROR, TEMPORARY, CONFIGURATION = 65, 74, 75, 78
_PR_SET_PDEATHSIG = 1
_WRONG_PLACE = frozenset(
    {errno.EEXIST, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG}
)
"""What only a person changes: starting again would not help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m tailrace.broker")
    parser.add_argument("--settings", required=True, help="BrokerSettings as JSON")
    parser.add_argument(
        "--parent-fd", type=int, help="a pipe whose end-of-file means that the parent is gone"
    )
    options = parser.parse_args(arguments)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        settings = BrokerSettings.model_validate_json(options.settings)
    except ValidationError as error:
        return _fail(CONFIGURATION, str(error))
    if options.parent_fd is not None:
        _die_with_parent()
    _raise_file_limit()
    try:
        asyncio.run(_run(settings, options.parent_fd))
    except Locked as error:
        return _fail(TEMPORARY, str(error))
    except (NewerDataDirectory, CannotListen) as error:
        return _fail(CONFIGURATION, str(error))
    except Corrupt as error:
        return _fail(DATA, str(error))
    except OSError as error:
        if error.errno in _WRONG_PLACE:
            remedy = "make `data_dir` a directory that this user may write to"
            return _fail(CONFIGURATION, f"{settings.data_dir}: {error}; {remedy}")
        return _fail(IO_ERROR, f"{settings.data_dir}: {error}")
    return 0


def _fail(status: int, text: str) -> int:
    sys.stderr.write(f"tailrace broker: {text}\n")
    return status


def _die_with_parent() -> None:
    """The end of the thread that spawned us is a SIGTERM; the pipe tells of a parent that was gone before."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _raise_file_limit() -> None:
    """Every partition and every connection is an open file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(settings: BrokerSettings, parent_fd: int | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if parent_fd is not None:
        loop.add_reader(parent_fd, _read_parent, parent_fd, stop)
    running = RunningBroker(settings)
    await running.open()
    host, port = running.address
    print(json.dumps({"ready": f"[{host}]:{port}" if ":" in host else f"{host}:{port}"}), flush=True)  # noqa: T201
    ends = [asyncio.create_task(event.wait()) for event in (stop, running.failed)]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if running.failed.is_set():
        # An orderly end would call clean what is not; and threads may hang in the disk.
        _fail(
            IO_ERROR, "a log could not be written to disk; see above. The next start recovers what is there"
        )
        os._exit(IO_ERROR)
    for end in ends:
        end.cancel()
    await running.close()


def _read_parent(fd: int, stop: asyncio.Event) -> None:
    if not os.read(fd, 4096):
        asyncio.get_running_loop().remove_reader(fd)
        stop.set()


if __name__ == "__main__":
    sys.exit(main())
