"""The memory channel lets origins through unchanged; what it shares with others is in conformance."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tailrace.channels.memory import MemoryChannel, MemoryChannelSettings
from tailrace.component import Context
from tests.support.event_batches import Feed


def made(**settings) -> MemoryChannel:
    channel = MemoryChannel(
        MemoryChannelSettings(type="memory", **settings), Context("p", "a", "c", "0" * 32, Path())
    )
    channel.open()
    return channel


def test_a_batch_comes_out_as_it_went_in():
    channel, feed = made(), Feed()
    batches = [feed.batch(b"a").with_assignment(7), feed.batch(span=5), feed.batch(b"b")]
    for batch in batches:
        channel.put(batch, 0)
    assert [channel.take(0) for _ in batches] == batches


def test_spans_without_rows_do_not_pile_up_without_end():
    channel, feed = made(events=3), Feed()
    assert [channel.put(feed.batch(span=5), 0) for _ in range(5)] == [True, True, True, False, False]


def test_a_closed_channel_holds_nothing():
    channel, feed = made(), Feed()
    channel.put(feed.batch(b"a"), 0)
    channel.close()
    assert (channel.take(0), channel.depth()) == (None, (0, 0))


def test_capacities_are_sizes():
    assert MemoryChannelSettings(type="memory").capacity == 64 * 2**20
    assert MemoryChannelSettings(type="memory", capacity="1MiB").capacity == 2**20
    with pytest.raises(ValidationError, match="capacity"):
        MemoryChannelSettings(type="memory", capacity="lots")
    assert not MemoryChannelSettings.durable
