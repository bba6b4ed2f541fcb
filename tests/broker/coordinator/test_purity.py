"""The deciding core knows no clock, no disk, no chance."""

import ast
from pathlib import Path

import pytest

import tailrace.broker.coordinator as package

FORBIDDEN = {"asyncio", "os", "random", "socket", "threading", "time", "uuid"}
FILES = sorted(Path(package.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_impure_imports(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert not imported & FORBIDDEN
