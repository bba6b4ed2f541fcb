"""Kafka's error codes, by name and number, and the exception that carries one."""

from kio.schema.errors import ErrorCode

from tailrace.errors import TailraceError

__all__ = ["ErrorCode", "KafkaError", "error_code", "error_name", "is_retriable"]


class KafkaError(TailraceError):
    """An answer's error code. `code` is an ErrorCode, or the bare number when Kafka has one we do not
    know.
    """

    def __init__(self, code: int, text: str = "") -> None:
        self.code = error_code(code)
        super().__init__(f"{error_name(code)}: {text}" if text else error_name(code))


def error_code(number: int) -> ErrorCode | int:
    """The code of that number; the number itself when it is not known (a newer broker's)."""
    try:
        return ErrorCode(number)
    except ValueError:
        return number


def error_name(number: int) -> str:
    """Kafka's own spelling, `NOT_LEADER_OR_FOLLOWER`; `ERROR_<number>` for one we do not know."""
    code = error_code(number)
    return code.name.upper() if isinstance(code, ErrorCode) else f"ERROR_{number}"


def is_retriable(number: int) -> bool:
    """Whether Kafka's clients repeat the request; False for codes we do not know."""
    code = error_code(number)
    return isinstance(code, ErrorCode) and code.retriable
