"""What the crash tests find by reading the source itself: failpoints, and the places that sync to the disk.

So a new one that no test kills at, or leaves out, is seen by the tests as soon as it is written.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("agents", "broker", "channels", "sinks", "sources", "tailrace")
_SYNCS = {"fsync", "fsync_dir", "fdatasync"}


@dataclass(frozen=True, order=True)
class Place:
    """Where something is made durable. path: of the file, relative to the root; call: as it is written."""

    path: str
    line: int
    call: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.call}"

    def is_at(self, file: str, line: int) -> bool:
        """Whether a frame stands here. `file` may lead through the package's links."""
        return line == self.line and file.endswith(f"/{self.path}")


def failpoints(*under: str) -> list[str]:
    """The names in these files and folders (none given: everywhere), sorted."""
    return sorted(
        name
        for path, name in _named_failpoints()
        if not under or any(path == part or path.startswith(f"{part}/") for part in under)
    )


def syncs() -> list[Place]:
    """Every use of fsync and its like, of the operating system or of a filesystem that is a parameter."""
    return sorted(
        Place(path, node.lineno, ast.unparse(node).removeprefix("self."))
        for path, node in _nodes()
        if (isinstance(node, ast.Attribute) and node.attr in _SYNCS)
        or (isinstance(node, ast.Name) and node.id in _SYNCS)
    )


@cache
def _named_failpoints() -> list[tuple[str, str]]:
    found = []
    for path, node in _nodes():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint":
            (name,) = node.args
            assert isinstance(name, ast.Constant), f"{path}:{node.lineno}: a failpoint's name is a literal"
            found.append((path, name.value))
    twice = [name for name, times in Counter(name for _, name in found).items() if times > 1]
    assert not twice, f"failpoints that are in two places: {twice}"
    return found


def _nodes() -> Iterator[tuple[str, ast.AST]]:
    for part in PARTS:
        for path in sorted((ROOT / part).rglob("*.py")):  # which does not follow the links in `tailrace`
            for node in ast.walk(ast.parse(path.read_text())):
                yield str(path.relative_to(ROOT)), node
