"""Generated rows: numbered without a gap, through restarts, at the rate asked for."""

from pathlib import Path

import pytest

from tailrace.clock import ManualClock
from tailrace.component import Assigned, Context
from tailrace.errors import ConfigError, Finished
from tailrace.event import EventBatch, Partition, Record
from tailrace.sources.sequence import SequenceSettings, SequenceSource


def source(
    tmp_path: Path, *, once: bool = False, clock: ManualClock | None = None, **settings: object
) -> SequenceSource:
    context = Context("p", "a", "numbers", "0" * 32, tmp_path, once=once, clock=clock or ManualClock())
    return SequenceSource(SequenceSettings(type="sequence", channels=["c"], **settings), context)


def opened(numbers: SequenceSource, records: dict[Partition, Record] | None = None) -> Partition:
    numbers.open([records or {}])
    assigned = numbers.read(0)
    assert isinstance(assigned, Assigned)
    (partition,) = assigned.partitions
    numbers.seek(partition, (records or {}).get(partition))
    return partition


def all_batches(numbers: SequenceSource) -> list[EventBatch]:
    batches = []
    with pytest.raises(Finished):
        while True:
            batch = numbers.read(0)
            assert isinstance(batch, EventBatch)
            batches.append(batch)
    return batches


def bodies(batches: list[EventBatch]) -> list[bytes]:
    return [body for batch in batches for body in batch.rows.column("body").to_pylist()]


def test_rows_are_numbered_and_batches_follow_without_a_gap(tmp_path: Path) -> None:
    numbers = source(tmp_path, events=25, batch_size=10)
    opened(numbers)
    batches = all_batches(numbers)
    assert bodies(batches) == [b"%d" % i for i in range(25)]
    assert [(batch.span.start, batch.span.end) for batch in batches] == [(0, 10), (10, 20), (20, 25)]


def test_a_restart_goes_on_with_the_same_partition_where_the_record_ends(tmp_path: Path) -> None:
    first = source(tmp_path, events=25, batch_size=10)
    partition = opened(first)
    batch = first.read(0)
    assert isinstance(batch, EventBatch)
    second = source(tmp_path, events=25, batch_size=10)
    assert opened(second, {partition: Record(batch.span.end, batch.state)}) == partition
    assert bodies(all_batches(second))[0] == b"10"


def test_records_of_another_source_are_left_alone(tmp_path: Path) -> None:
    numbers = source(tmp_path, events=5)
    other = Partition("stream", "f" * 32)
    assert opened(numbers, {other: Record(3, b'{"sequence": "others"}')}) != other
    assert bodies(all_batches(numbers))[0] == b"0"


def test_the_rate_is_kept_by_the_clock(tmp_path: Path) -> None:
    clock = ManualClock()
    numbers = source(tmp_path, clock=clock, events=100, batch_size=50, rate=10)
    opened(numbers)
    began = clock.monotonic()
    rows = 0
    while rows < 40:
        batch = numbers.read(0.25)
        if isinstance(batch, EventBatch):
            rows += batch.num_rows
    assert clock.monotonic() - began == pytest.approx(4, abs=0.3)


def test_an_endless_sequence_cannot_run_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set `events`"):
        source(tmp_path, once=True).open([])
