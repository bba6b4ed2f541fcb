"""Which files patterns name, and what is reported instead of found."""

import os
import socket
from pathlib import Path

import pytest

from tailrace.sources.tail.patterns import Finder, Found, PatternGroup, absolute


def look(root: Path, *patterns: str, exclude: tuple[str, ...] = ()) -> Found:
    made_absolute = [absolute(pattern, str(root)) for pattern in patterns]
    excludes = [absolute(pattern, str(root)) if "/" in pattern else pattern for pattern in exclude]
    return Finder([PatternGroup(made_absolute, excludes)]).look()


def names(root: Path, found: Found) -> list[str]:
    return sorted(os.path.relpath(seen.path, root) for seen in found.files)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "a.log",
        "b.log",
        "b.txt",
        ".hidden.log",
        "x/a.log",
        "x/y/c.log",
        "x/y/.dot/d.log",
        "z/[1].log",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "exclude", "wanted"),
    [
        (["*.log"], [], ["a.log", "b.log"]),
        (["**/*.log"], [], ["a.log", "b.log", "x/a.log", "x/y/c.log", "z/[1].log"]),
        (["**/a.log"], [], ["a.log", "x/a.log"]),
        (["x/**"], [], ["x/a.log", "x/y/c.log"]),
        (["x/**/y/*"], [], ["x/y/c.log"]),
        (["*/a.log", "./x//a.log"], [], ["x/a.log"]),
        (["z/[[]1].log", ".h*"], [], [".hidden.log", "z/[1].log"]),
        (["[ab].???"], ["b*"], ["a.log"]),
        (["**/*.log"], ["x/**"], ["a.log", "b.log", "z/[1].log"]),
        (["**/*.log"], ["**/y/*.log", "/nowhere/*"], ["a.log", "b.log", "x/a.log", "z/[1].log"]),
    ],
)
def test_patterns_name_files(tree: Path, patterns: list[str], exclude: list[str], wanted: list[str]) -> None:
    assert names(tree, look(tree, *patterns, exclude=tuple(exclude))) == wanted


def test_only_regular_files_are_found(tree: Path) -> None:
    os.mkfifo(tree / "fifo.log")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tree / "socket.log"))
        (tree / "directory.log").mkdir()
        (tree / "dangling.log").symlink_to(tree / "nowhere")
        (tree / "link.log").symlink_to(tree / "x/a.log")
        assert names(tree, look(tree, "*.log")) == ["a.log", "b.log", "link.log"]


def test_loops_of_links_are_not_followed(tree: Path) -> None:
    (tree / "x/loop").symlink_to(tree)
    (tree / "self.log").symlink_to(tree / "self.log")
    assert names(tree, look(tree, "**/a.log")) == ["a.log", "x/a.log"]
    assert names(tree, look(tree, "*.log")) == ["a.log", "b.log"]


def test_a_pattern_that_matches_nothing_is_a_warning_and_a_missing_literal_path_a_failure(tree: Path) -> None:
    found = look(tree, "nowhere/*.log", "nowhere/a.log", "x")
    assert [(problem.place, problem.failed) for problem in found.problems] == [
        (str(tree / "nowhere/*.log"), False),
        (str(tree / "nowhere/a.log"), True),
        (str(tree / "x"), True),
    ]


def test_the_first_group_that_names_a_file_has_it(tree: Path) -> None:
    groups = [PatternGroup([str(tree / "x/*.log")], []), PatternGroup([str(tree / "**/a.log")], [])]
    found = Finder(groups).look()
    assert sorted((os.path.relpath(seen.path, tree), seen.group) for seen in found.files) == [
        ("a.log", 1),
        ("x/a.log", 0),
    ]


def test_names_that_are_no_utf_8_are_found(tree: Path) -> None:
    with open(os.fsencode(tree) + b"/\xff.bin", "wb"):
        pass
    (seen,) = look(tree, "*.bin").files
    assert os.fsencode(seen.path).endswith(b"/\xff.bin")
