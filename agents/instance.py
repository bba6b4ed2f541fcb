"""The stable id of one agent on one machine: made once, kept in its state directory, anew on a cloned host.

Two hosts with one id would fence each other for ever; an agent with a new id does not know what the old one
has read.
"""

import json
import uuid
from pathlib import Path

import structlog

from tailrace.errors import Halt
from tailrace.fs import FileSystem, write_atomically

MACHINE_ID = Path("/etc/machine-id")


def machine_id(path: Path = MACHINE_ID) -> str:
    """The machine's own id (machine-id(5)); empty where there is none, as in most containers."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def instance_id(directory: Path, fs: FileSystem, machine: str, pipeline: str) -> str:
    """32 hex digits. The caller holds the lock on `directory`.

    Halt when the file is damaged (guessing would read everything again), or of another pipeline: what that one
    has read is not what this one has.
    """
    path = directory / "instance.json"
    if path.exists():
        try:
            kept = json.loads(path.read_text())
            instance, made_on = uuid.UUID(str(kept["id"])).hex, str(kept["machine"])
            owner = str(kept["pipeline"])
        except (ValueError, KeyError, TypeError):
            raise Halt(f"{path} is damaged; restore it, or remove it to begin as a new instance") from None
        if owner != pipeline:
            raise Halt(
                f"{directory} belongs to the pipeline {owner!r}, and this is {pipeline!r}: give one of them another"
                f" `state_dir:`, or say `pipeline: {owner}` when it is the same"
            )
        if not machine or not made_on or machine == made_on:
            return instance
        structlog.get_logger().warning(
            "this state directory was copied from another machine: it gets a new instance id",
            directory=str(directory),
            old=instance,
        )
    instance = uuid.uuid4().hex
    made = {"id": instance, "machine": machine, "pipeline": pipeline}
    write_atomically(fs, str(path), json.dumps(made).encode())
    return instance
