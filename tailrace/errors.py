"""Errors as instructions to the runner: what a component raises says what to do next."""

from dataclasses import dataclass


class TailraceError(Exception):
    """Everything Tailrace raises on purpose. The text names the place and the remedy."""


class Retry(TailraceError):
    """Call the same verb again with the same arguments, after `after` seconds; nothing was taken or lost."""

    def __init__(self, reason: str, after: float = 1.0) -> None:
        super().__init__(reason)
        self.after = after


class Rewind(TailraceError):
    """The sink dropped what it had not committed: acquire again and seek the source to what it answers."""


class Fenced(TailraceError):
    """Somebody else owns what this component held: back off, acquire again, rewind; in the end stop."""


class Corrupt(TailraceError):
    """Bytes or positions that cannot be right. Stop this component; going on could lose or double rows."""


class Finished(TailraceError):
    """This source will never have another row (all of `--once` was read, the sequence has ended)."""


class Halt(TailraceError):
    """Going on could lose or double rows and only a person can decide. Stop the agent; do not restart it."""


class Locked(TailraceError):
    """Another process holds the state directory. The command ends with status 75."""


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One mistake in a configuration file; line and column count from 1."""

    file: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.text}"


class ConfigError(TailraceError):
    """All mistakes of a configuration at once. The command ends with status 78."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(str(m) for m in sorted(mistakes)))
        self.mistakes = sorted(mistakes)
