"""The rules of transactions, each file of transaction_transcripts/ one of them."""

import os
from pathlib import Path

import pytest

from tests.broker.coordinator.transaction_transcript import TransactionTranscript

TRANSCRIPTS = sorted((Path(__file__).parent / "transaction_transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    expected = path.read_text()
    actual = TransactionTranscript().play(expected)
    if os.environ.get("TAILRACE_REWRITE"):
        path.write_text(actual)
    assert actual == expected
