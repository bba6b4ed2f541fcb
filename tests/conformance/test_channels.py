"""One behaviour for every channel: order, bounds, back-pressure, waking; and what durable ones owe beyond that."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailrace.channels.file import FileChannel, FileChannelSettings
from tailrace.channels.memory import MemoryChannel, MemoryChannelSettings
from tailrace.clock import SystemClock
from tailrace.component import Channel, Context, DurableChannel
from tailrace.errors import Corrupt, Locked
from tailrace.event import EventBatch, Record
from tests.support.event_batches import Feed, bodies, file_partition

SOON = 20.0
TYPES = {"memory": (MemoryChannel, MemoryChannelSettings), "file": (FileChannel, FileChannelSettings)}
DURABLE = [name for name, (_, settings) in TYPES.items() if settings.durable]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Channel]]:
    opened: list[Channel] = []

    def made(kind: str, **settings) -> Channel:
        channel_type, settings_type = TYPES[kind]
        context = Context("p", "a", "c1", "0" * 32, tmp_path, clock=SystemClock())
        channel = channel_type(settings_type(type=kind, **settings), context)
        channel.open()
        opened.append(channel)
        return channel

    yield made
    for channel in opened:
        channel.close()


def done_with(channel: Channel) -> None:
    """The sink has committed everything it took."""
    if hasattr(channel, "release"):
        channel.release(channel._next)


def take_rows(channel: Channel, count: int) -> list[bytes | None]:
    found: list[bytes | None] = []
    while len(found) < count:
        batch = channel.take(SOON)
        assert batch is not None, f"only {found} came"
        found += bodies(batch)
    return found


def columns(batches: list[EventBatch]) -> list[dict]:
    return [row for batch in batches for row in batch.rows.drop_columns(["position"]).to_pylist()]


@pytest.mark.parametrize("kind", TYPES)
class TestEveryChannel:
    def test_rows_come_out_in_order_with_all_their_columns(self, make, kind):
        channel, feed = make(kind), Feed()
        put = [
            feed.batch(b"a", b"", None, keys=[b"k", None, b""], times=[1, None, 3]),
            feed.batch(b"b", headers=[[("file", b"x"), ("n", None)]]),
            feed.batch(*[b"%d" % i for i in range(500)]),
            feed.batch(b"\x00\xff" * 3, headers=[None]),
        ]
        for batch in put:
            assert channel.put(batch, 0)
        taken = []
        while sum(b.num_rows for b in taken) < 505:
            taken.append(channel.take(SOON))
        assert columns(taken) == columns(put)

    def test_spans_follow_each_other_without_a_gap(self, make, kind):
        channel, feed = make(kind), Feed()
        for i in range(5):
            channel.put(feed.batch(b"%d" % i), 0)
        rows, ends = 0, {}
        while rows < 5:
            batch = channel.take(SOON)
            assert batch.span.start == ends.get(batch.partition, batch.span.start)
            positions = batch.rows.column("position").to_pylist()
            assert all(batch.span.start <= p < batch.span.end for p in positions)
            assert positions == sorted(set(positions))
            ends[batch.partition] = batch.span.end
            rows += batch.num_rows

    def test_a_span_without_rows_travels_too(self, make, kind):
        channel, feed = make(kind), Feed()
        channel.put(feed.batch(span=70), 0)
        moved = channel.take(SOON)
        assert moved.num_rows == 0
        assert moved.span.end > moved.span.start

    def test_an_empty_channel_gives_nothing(self, make, kind):
        channel = make(kind)
        while (batch := channel.take(0)) is not None:
            assert batch.num_rows == 0
        assert channel.depth() == (0, 0)

    def test_full_in_events_takes_nothing_until_there_is_room(self, make, kind):
        channel, feed = make(kind, events=20), Feed()
        assert channel.put(feed.batch(*[b"x"] * 15), 0)
        more = feed.batch(*[b"y"] * 10)
        assert not channel.put(more, 0)
        assert take_rows(channel, 15) == [b"x"] * 15
        done_with(channel)
        assert channel.put(more, 0)
        assert take_rows(channel, 10) == [b"y"] * 10

    def test_full_in_bytes_takes_nothing_until_there_is_room(self, make, kind):
        channel, feed = make(kind, capacity=100_000), Feed()
        assert channel.put(feed.batch(b"x" * 60_000), 0)
        more = feed.batch(b"y" * 60_000)
        assert not channel.put(more, 0.01)
        take_rows(channel, 1)
        done_with(channel)
        assert channel.put(more, 0)

    def test_a_batch_larger_than_the_bound_is_taken_when_nothing_else_waits(self, make, kind):
        channel, feed = make(kind, capacity=1000, events=3), Feed()
        large = feed.batch(*[b"x" * 500] * 10)
        assert channel.put(large, 0)
        another = feed.batch(*[b"y" * 500] * 10)
        assert not channel.put(another, 0)
        take_rows(channel, 10)
        done_with(channel)
        assert channel.put(another, 0)
        assert take_rows(channel, 10) == [b"y" * 500] * 10

    def test_a_put_wakes_a_waiting_take(self, make, kind):
        channel, feed = make(kind), Feed()
        found = []
        thread = threading.Thread(target=lambda: found.extend(take_rows(channel, 1)))
        thread.start()
        channel.put(feed.batch(b"late"), 0)
        thread.join(SOON)
        assert found == [b"late"]

    def test_room_wakes_a_waiting_put(self, make, kind):
        channel, feed = make(kind, events=5), Feed()
        channel.put(feed.batch(b"a", b"b"), 0)
        took = []
        more = feed.batch(b"c", b"d")
        thread = threading.Thread(target=lambda: took.append(channel.put(more, SOON)))
        thread.start()
        assert take_rows(channel, 2) == [b"a", b"b"]
        done_with(channel)
        thread.join(SOON)
        assert took == [True]
        assert take_rows(channel, 2) == [b"c", b"d"]

    def test_depth_counts_what_was_put_and_not_taken(self, make, kind):
        channel, feed = make(kind), Feed()
        while channel.take(0) is not None:
            pass
        channel.put(feed.batch(*[b"x" * 100] * 30), 0)
        events, size = channel.depth()
        assert 30 <= events <= 31
        assert 3000 <= size <= 6000
        take_rows(channel, 30)
        assert channel.depth() == (0, 0)

    def test_several_sources_put_at_once_and_each_keeps_its_order(self, make, kind):
        channel = make(kind, capacity=200_000)
        made = {n: [b"%d:%d" % (n, i) for i in range(60)] for n in range(4)}

        def feed(n):
            source = Feed(n)
            for body in made[n]:
                while not channel.put(source.batch(body), 0.05):
                    pass

        threads = [threading.Thread(target=feed, args=(n,)) for n in made]
        for thread in threads:
            thread.start()
        found = []
        while len(found) < 240:
            found += take_rows(channel, 1)
            done_with(channel)
        for thread in threads:
            thread.join(SOON)
        for n, bodies_put in made.items():
            assert [b for b in found if b.startswith(b"%d:" % n)] == bodies_put

    def test_clear_forgets_what_is_not_durable_and_only_that(self, make, kind):
        channel, feed = make(kind), Feed()
        channel.put(feed.batch(b"a"), 0)
        channel.clear()
        if kind in DURABLE:
            assert take_rows(channel, 1) == [b"a"]
        else:
            assert channel.take(0) is None
            assert channel.depth() == (0, 0)


@pytest.mark.parametrize("kind", DURABLE)
class TestDurableChannels:
    def test_it_knows_what_it_has_of_each_source(self, make, kind):
        channel: DurableChannel = make(kind)
        one, two = Feed(1), Feed(2, start=500)
        assert channel.committed() == {}
        channel.put(one.batch(b"a", b"b"), 0)
        channel.put(two.batch(b"c"), 0)
        channel.put(one.batch(span=33), 0)
        assert channel.committed() == {one.partition: one.record(), two.partition: two.record()}

    def test_everything_is_there_again_after_a_restart(self, make, kind):
        channel, feed = make(kind), Feed()
        channel.put(feed.batch(b"a", b"b"), 0)
        stream = channel.partition
        channel.close()
        again = make(kind)
        assert again.partition == stream
        assert again.committed() == {feed.partition: feed.record()}
        again.seek(None)
        assert take_rows(again, 2) == [b"a", b"b"]

    def test_the_sink_goes_on_at_any_row(self, make, kind):
        channel, feed = make(kind), Feed()
        channel.put(feed.batch(b"a", b"b"), 0)
        channel.put(feed.batch(b"c"), 0)
        batches = []
        while sum(b.num_rows for b in batches) < 3:
            batches.append(channel.take(SOON))
        rows = [
            (p, b)
            for batch in batches
            for p, b in zip(batch.rows.column("position").to_pylist(), bodies(batch), strict=True)
        ]
        for i in (2, 1, 0):
            position = rows[i][0]
            again = []
            channel.seek(Record(position))
            while len(again) < 3 - i:
                batch = channel.take(SOON)
                if not again:
                    assert batch.span.start == position
                again += bodies(batch)
            assert again == [b for _, b in rows[i:]]

    def test_released_segments_go_and_sources_are_still_known(self, make, kind, tmp_path):
        channel = make(kind, segment=2**16)
        idle, busy = Feed(1), Feed(2)
        channel.put(idle.batch(b"once"), 0)
        for _ in range(30):
            channel.put(busy.batch(b"x" * 20_000), 0)
        take_rows(channel, 31)
        before = sum(p.stat().st_size for p in tmp_path.rglob("*.log"))
        done_with(channel)
        after = sum(p.stat().st_size for p in tmp_path.rglob("*.log"))
        assert after < before / 5
        channel.close()
        again = make(kind, segment=2**16)
        assert again.committed() == {idle.partition: idle.record(), busy.partition: busy.record()}

    def test_a_wiped_channel_is_another_stream(self, make, kind, tmp_path):
        channel = make(kind)
        stream = channel.partition
        channel.close()
        for path in sorted(tmp_path.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        assert make(kind).partition != stream

    def test_a_second_user_is_refused(self, make, kind):
        make(kind)
        with pytest.raises(Locked, match="in use"):
            make(kind)

    def test_a_sink_that_is_ahead_of_the_channel_is_refused(self, make, kind):
        channel, feed = make(kind), Feed()
        channel.put(feed.batch(b"a"), 0)
        with pytest.raises(Corrupt, match="older copy"):
            channel.seek(Record(1000))

    def test_a_sink_that_needs_what_was_released_is_refused(self, make, kind):
        channel, feed = make(kind, segment=2**16), Feed()
        for _ in range(10):
            channel.put(feed.batch(b"x" * 20_000), 0)
        take_rows(channel, 10)
        done_with(channel)
        with pytest.raises(Corrupt, match="go on at 1"):
            channel.seek(Record(1))

    def test_its_batches_are_a_stream_of_its_own(self, make, kind):
        channel, feed = make(kind), Feed()
        channel.put(feed.batch(b"a"), 0)
        batch = channel.take(SOON)
        assert batch.partition == channel.partition
        assert (batch.partition.kind, batch.partition.name) == ("stream", "c1")
        assert batch.partition != file_partition()
