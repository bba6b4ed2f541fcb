"""Files beside the followed ones that no pattern names, and that matter all the same: rotated copies of them.

`files: ["*.log"]` does not name `app.log.1`. But what app.log held, and nobody has read yet, is in there.
"""

import os
from collections.abc import Iterator

from tailrace.sources.tail.catalog import Catalog
from tailrace.sources.tail.following import look_at_path
from tailrace.sources.tail.names import root, rotated_from
from tailrace.sources.tail.patterns import Found, Seen

_SUBDIRECTORIES = 100


def outsiders(found: Found, catalog: Catalog, *, is_first: bool) -> Iterator[Seen]:
    """Files that have the inode of a lost content, or the name of a rotated one.

    is_first: looks into the directories below as well (logrotate's `olddir`): while we were down a file may
    have been renamed into them.
    """
    named = {seen.path for seen in found.files}
    directories = catalog.directories()
    if is_first:
        for directory in list(directories):
            below = [entry for entry in found.listing(directory) if _is_directory(entry)]
            directories |= {entry.path for entry in below[:_SUBDIRECTORIES]}
    for directory in sorted(directories):
        for entry in found.listing(directory):
            if entry.path in named:
                continue
            if catalog.lost_at_inode(entry.inode()) or any(
                catalog.named(base) for base in rotated_from(entry.path)
            ):
                seen = look_at_path(entry.path)
                if seen is not None and catalog.at(seen.key) is None:
                    yield seen


def is_missed_generation(seen: Seen, catalog: Catalog) -> str | None:
    """The name under which `seen` was written, if it came and was rotated away while nobody looked.

    So it is when it is younger than the first content known to have had this name, and having it no more.
    Copies from before that are older.
    """
    for base in rotated_from(seen.path):
        family = [t for t in catalog.named(base) if root(t.born) == base]
        former = [t for t in family if not (t.attached and t.path == base)]
        # Of what nothing was read, a compressed copy of the same age has everything still to be read.
        if any(seen.mtime_ns >= t.first_modified + (t.progress.position > 0) for t in former):
            return base
    return None


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False
