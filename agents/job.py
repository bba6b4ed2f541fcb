"""What the supervisor hands to an agent's process, as one line of JSON on its standard input.

It holds the document with its references replaced, secrets among them: so never on a command line.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Job:
    """One agent of one pipeline, to be run by a process of its own."""

    agent: str
    file: str
    """The pipeline's file, for messages and its default name."""
    data: dict[str, Any]
    """The file's contents, parsed again by the process."""
    bootstrap: str
    once: bool
    drain: float
    """Seconds for committing what was read, after SIGTERM."""

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


def job_from_line(line: bytes) -> Job:
    return Job(**json.loads(line))
