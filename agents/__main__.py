"""The process of one agent: `python -m tailrace.agents`, started by the supervisor and by nothing else.

Standard input: the job, and then nothing, open for as long as the supervisor lives. Standard output: reports.
Standard error: the log.
"""

import gc
import os
import signal
import sys
import threading
from typing import TextIO

import structlog

from tailrace.agents.instance import instance_id, machine_id
from tailrace.agents.job import Job, job_from_line
from tailrace.agents.logs import log_to_stderr
from tailrace.agents.orphan import die_with_parent
from tailrace.agents.report import Ended, How, Progress, look, to_line
from tailrace.agents.runner import GOODBYE, Runner
from tailrace.agents.wiring import WiredAgent, wire
from tailrace.clock import SystemClock
from tailrace.component import Context
from tailrace.config.load import Document
from tailrace.config.pipeline import parse_pipeline
from tailrace.errors import ConfigError, Corrupt, Halt
from tailrace.fs import LocalFileSystem

REPORT_EVERY = 0.5
"""Seconds."""
STATUS: dict[How, int] = {
    "finished": 0,
    "stopped": 0,
    "unfinished": 0,
    "halt": 1,
    "corrupt": 1,
    "config": 78,
    "crash": 70,
}


def main() -> int:
    parent = os.getppid()
    reports = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is not a report
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job = job_from_line(_first_line(sys.stdin.fileno()))
    die_with_parent(sys.stdin.fileno(), parent)
    log_to_stderr(agent=job.agent)
    ended = _run(job, stop, reports)
    reports.write(to_line(ended))
    reports.flush()
    return STATUS[ended.how]


def _first_line(fd: int) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n") and (data := os.read(fd, 65536)):
        line += data
    return bytes(line)


def _run(job: Job, stop: threading.Event, reports: TextIO) -> Ended:
    try:
        agent, clock = _wire(job), SystemClock()
        gc.freeze()  # a hundred thousand objects of imports: the collector need not walk them again and again
        with _Reporter(agent, reports):
            drained = Runner(agent, clock).run(stop, job.drain)
    except Halt as error:
        return Ended("halt", str(error))
    except Corrupt as error:
        return Ended("corrupt", str(error))
    except ConfigError as error:
        return Ended("config", str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, the supervisor is to know
        structlog.get_logger().exception("the agent failed")
        return Ended("crash", f"{type(error).__name__}: {error}")
    if stop.is_set():
        return Ended("stopped" if drained else "unfinished")
    return Ended("finished")


def _wire(job: Job) -> WiredAgent:
    parsed = parse_pipeline(Document(job.file, job.data))
    if parsed.mistakes or parsed.pipeline is None:
        raise ConfigError(parsed.mistakes)
    pipeline, fs = parsed.pipeline, LocalFileSystem()
    directory = pipeline.state_dir / job.agent
    context = Context(
        pipeline=pipeline.name,
        agent=job.agent,
        name="",
        instance=instance_id(directory, fs, machine_id(), pipeline.name),
        state_dir=directory,
        bootstrap=job.bootstrap,
        once=job.once,
        fs=fs,
    )
    return wire(pipeline.agents[job.agent], context)


class _Reporter:
    """Tells the progress while the agent runs, and once more at its end."""

    def __init__(self, agent: WiredAgent, reports: TextIO) -> None:
        self._agent = agent
        self._reports = reports
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(GOODBYE)  # a component that hangs may hang whoever looks at it

    def _run(self) -> None:
        told: Progress | None = None
        over = False
        while not over:
            over = self._over.wait(REPORT_EVERY)
            now = look(self._agent)
            if now != told:
                self._reports.write(to_line(now))
                self._reports.flush()
                told = now


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # a thread that hangs in a library does not keep the process
