"""What names of files say about rotation: which name another one extends, and which look like a rotated file's.

Pure. A name is only ever a hint where to look; what a file is, its content decides.
"""

import os
import re
from collections.abc import Iterator

_ROTATED = re.compile(
    r"[.\-_~](?:\d[\d.\-_T:+]*|old|bak|prev|orig|save|copy)(?:[.\-_]\d[\d.\-_T:+]*)?(?:\.gz)?|\.gz",
    re.IGNORECASE,
)
_HINT = re.compile(r"[.\-_~](?:\d|old|bak|prev|orig|save|copy)|\.gz$", re.IGNORECASE)


def extended(path: str) -> Iterator[str]:
    """Every path that `path` extends, longest first, in its directory and in the one above.

    `/x/a.log.1` extends `/x/a.log` and `/x/a`, and `/a.log` and `/a`; but `job10` does not extend `job1`.
    """
    directory, name = os.path.split(path)
    for place in (directory, os.path.dirname(directory)):
        for end in range(len(name) - 1, 0, -1):
            if not name[end].isalnum():
                yield os.path.join(place, name[:end])


def root(path: str) -> str:
    """The name that a rotated file (`/x/a.log.2.gz`) was written under (`/x/a.log`); the path itself for others."""
    directory = os.path.dirname(path)
    bases = [base for base in rotated_from(path) if os.path.dirname(base) == directory]
    return min(bases, key=len, default=path)


def rotated_from(path: str) -> Iterator[str]:
    """Those paths of extended() that rotation turns into `path`, by the habits of logrotate and its kin."""
    name = os.path.basename(path)
    if not _HINT.search(name):
        return
    for base in extended(path):
        if _ROTATED.fullmatch(name, len(os.path.basename(base))):
            yield base
