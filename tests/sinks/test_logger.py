"""The logger and null sinks: nothing before commit, and counts of what was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from tailrace.component import Context
from tailrace.event import EventBatch, Span, make_rows
from tailrace.sinks.logger import LoggerSettings, LoggerSink
from tailrace.sinks.null import NullSettings, NullSink
from tests.support.doubles import batch, partition

P, Q = partition("p"), partition("q")


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context("pipeline", "agent", "out", "i", tmp_path)


def logger(context: Context, **settings: object) -> LoggerSink:
    return LoggerSink(LoggerSettings.model_validate({"type": "logger", "channel": "c", **settings}), context)


def null(context: Context) -> NullSink:
    return NullSink(NullSettings.model_validate({"type": "null", "channel": "c"}), context)


def test_rows_are_logged_at_commit_with_their_origin(context: Context) -> None:
    sink = logger(context)
    with capture_logs() as logs:
        sink.write(batch(P, 5, 7))
        assert sink.due() and logs == []
        assert sink.commit() == {P: 7}
        assert not sink.due() and sink.commit() == {}
    told = [(log["sink"], log["origin"], log["position"], log["body"]) for log in logs]
    assert told == [("out", "p", 5, "5"), ("out", "p", 6, "6")]
    assert (sink.totals.rows, sink.totals.bytes) == (2, 2)


def test_a_body_may_be_long_missing_or_no_text(context: Context) -> None:
    sink = logger(context, max_body=4)
    bodies = pa.array([b"0123456789", None, b"\xff\x00"], pa.binary())
    sink.write(EventBatch(make_rows(bodies, pa.array([0, 1, 2]), 0), P, Span(0, 3)))
    with capture_logs() as logs:
        sink.commit()
    assert [log["body"] for log in logs] == ["0123", "", "\ufffd\x00"]
    assert sink.totals.bytes == 12


@pytest.mark.parametrize("make", [logger, null])
def test_what_is_aborted_or_revoked_is_neither_stored_nor_counted(
    context: Context, make: Callable[..., Any]
) -> None:
    sink = make(context)
    sink.open()
    sink.write(batch(P, 0, 10))
    sink.abort()
    assert sink.commit() == {}
    sink.write(batch(P, 0, 10))
    sink.write(batch(Q, 0, 4))
    sink.revoke([P], lost=True)
    assert sink.commit() == {Q: 4}
    assert sink.totals.rows == 4
    assert sink.acquire([P]) == {} and sink.problems() == ()
    sink.close()


def test_null_counts_over_batches(context: Context) -> None:
    sink = null(context)
    sink.write(batch(P, 0, 10))
    sink.write(batch(P, 10, 15))
    assert sink.totals.rows == 0 and sink.due()
    assert sink.commit() == {P: 15}
    assert sink.totals.rows == 15 and not sink.due()
