"""`${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}` inside one text; `$${` stands for `${` itself."""

import re
from collections.abc import Callable, Mapping

from tailrace.errors import TailraceError

MAX_SECRET = 64 * 1024
"""Bytes of a file that `${file:PATH}` may name."""

_REFERENCE = re.compile(r"\$(\$)?\{([^{}]*)(\})?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Unreplaceable(TailraceError):
    """A reference that cannot be followed; the text says why and what would work."""


def replace_references(text: str, environ: Mapping[str, str]) -> str:
    """`text` with every reference replaced by what it names; what comes in is not looked at again."""

    def one(match: re.Match[str]) -> str:
        escaped, inside, closed = match.groups()
        if escaped:
            return match[0][1:]
        kind, colon, rest = inside.partition(":")
        if not closed:
            raise Unreplaceable(
                f"{match[0]!r} has no closing brace; write $${{ for the two characters themselves"
            )
        if not colon or kind not in _KINDS:
            raise Unreplaceable(
                f"unknown reference {match[0]!r}: expected ${{env:NAME}}, ${{env:NAME:-default}} or"
                " ${file:PATH}, or $${ for the two characters themselves"
            )
        return _KINDS[kind](rest, environ)

    return _REFERENCE.sub(one, text)


def _from_environment(rest: str, environ: Mapping[str, str]) -> str:
    name, has_default, default = rest.partition(":-")
    if not _NAME.fullmatch(name):
        raise Unreplaceable(f"{name!r} is not the name of an environment variable")
    value = environ.get(name, "")
    if value or (name in environ and not has_default):
        return value
    if not has_default:
        raise Unreplaceable(
            f"the environment variable {name} is not set; ${{env:{name}:-default}} gives a default"
        )
    return default


def _from_file(path: str, _: Mapping[str, str]) -> str:
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_SECRET + 1)
        if len(data) > MAX_SECRET:
            raise Unreplaceable(f"{path} has more than {MAX_SECRET} bytes")
        return data.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise Unreplaceable(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, ValueError):
        raise Unreplaceable(f"{path!r} does not hold UTF-8 text") from None


_KINDS: dict[str, Callable[[str, Mapping[str, str]], str]] = {"env": _from_environment, "file": _from_file}
