"""The rules of groups, each file of group_transcripts/ one of them."""

import os
from pathlib import Path

import pytest

from tests.broker.coordinator.group_transcript import GroupTranscript

TRANSCRIPTS = sorted((Path(__file__).parent / "group_transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    expected = path.read_text()
    actual = GroupTranscript().play(expected)
    if os.environ.get("TAILRACE_REWRITE"):
        path.write_text(actual)
    assert actual == expected
