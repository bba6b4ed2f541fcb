"""Frames come out as they went in, however the bytes arrive, and the memory for them is given back."""

import random

import pytest

from tailrace.broker.server.inbox import MAX_OTHER, SCRATCH, Inbox
from tailrace.broker.server.memory import Memory
from tailrace.errors import Corrupt

MAX_REQUEST = 4 << 20


def an_inbox(memory: Memory, *, resumed: list[bool] | None = None) -> Inbox:
    calls = resumed if resumed is not None else []
    return Inbox(memoryview(bytearray(SCRATCH)), memory, MAX_REQUEST, lambda: calls.append(True))


def frame(size: int, *, key: int = 0, fill: int = 7) -> bytes:
    return size.to_bytes(4, "big") + key.to_bytes(2, "big") + bytes([fill]) * (size - 2)


def feed(inbox: Inbox, data: bytes, chunk: int) -> list[bytes]:
    """What a connection does: as many bytes as fit, at most `chunk` at once, and all frames out after
    each.
    """
    out, at = [], 0
    while at < len(data):
        room = inbox.room()
        count = min(len(room), chunk, len(data) - at)
        assert count > 0
        room[:count] = data[at : at + count]
        inbox.received(count)
        at += count
        while (found := inbox.next_frame()) is not None:
            out.append(bytes(found))
        assert not inbox.blocked
    return out


@pytest.mark.parametrize("chunk", [1, 3, 7, 8, 9, 1000, SCRATCH, 1 << 20])
def test_frames_of_all_sizes_come_out_whole_and_in_order(chunk: int) -> None:
    rng = random.Random(chunk)
    sizes = [8, 9, 20, 8, 4000, 15, 70_000 if chunk > 9 else 700, 8, 30_000 if chunk > 9 else 300, 8]
    sizes += [1_500_000, 1_400_000, 8, 200_000] if chunk >= 1000 else []
    frames = [frame(size, fill=rng.randrange(256)) for size in sizes]
    memory = Memory(64 << 20)
    inbox = an_inbox(memory)
    assert feed(inbox, b"".join(frames), chunk) == [f[4:] for f in frames]
    assert not inbox.partial
    inbox.close()
    assert memory.used == 0


def test_frames_are_writable_so_that_batches_can_be_stamped_in_place() -> None:
    for size in (100, 50_000, 1 << 20):
        inbox = an_inbox(Memory(64 << 20))
        data = frame(size)
        found = None
        while data:
            room = inbox.room()
            count = min(len(room), len(data))
            room[:count] = data[:count]
            data = data[count:]
            inbox.received(count)
            found = inbox.next_frame()
        assert found is not None
        found[5] = 99


@pytest.mark.parametrize("size", [-1, 0, 7, 2**31 - 1, MAX_REQUEST + 1])
def test_an_absurd_size_is_refused(size: int) -> None:
    inbox = an_inbox(Memory(1 << 20))
    inbox.room()[:8] = size.to_bytes(4, "big", signed=True) + bytes(4)
    inbox.received(8)
    with pytest.raises(Corrupt, match=f"a request of {size} bytes"):
        inbox.next_frame()


def test_only_produce_may_be_large() -> None:
    inbox = Inbox(memoryview(bytearray(SCRATCH)), Memory(1 << 30), 1 << 30, lambda: None)
    inbox.room()[:8] = (MAX_OTHER + 1).to_bytes(4, "big") + b"\0\3\0\0"
    inbox.received(8)
    with pytest.raises(Corrupt):
        inbox.next_frame()


@pytest.mark.parametrize(
    ("start", "word"), [(b"GET / HTTP/1.1\r\n", "HTTP"), (b"\x16\x03\x01\x02\0\1\0\1", "TLS")]
)
def test_another_protocol_is_named_in_the_refusal(start: bytes, word: str) -> None:
    inbox = an_inbox(Memory(1 << 20))
    inbox.room()[: len(start)] = start
    inbox.received(len(start))
    with pytest.raises(Corrupt, match=word):
        inbox.next_frame()


def test_a_large_frame_waits_for_memory_and_is_whole_afterwards() -> None:
    memory, resumed = Memory(100_000), []
    inbox = an_inbox(memory, resumed=resumed)
    assert memory.lease("other", 90_000, lambda: None)
    data = frame(50_000)
    inbox.room()[:SCRATCH] = data[:SCRATCH]
    inbox.received(SCRATCH)
    assert inbox.next_frame() is None
    assert inbox.blocked
    memory.release(90_000)
    assert resumed == [True]
    assert not inbox.blocked
    assert feed(inbox, data[SCRATCH:], 9_999) == [data[4:]]


def test_a_buffer_kept_for_reuse_is_given_up_when_another_connection_needs_it() -> None:
    memory = Memory(8 << 20)
    assert memory.lease("others", 7 << 20, lambda: None)
    first, second = an_inbox(memory), an_inbox(memory)
    for _ in range(3):
        assert feed(first, frame(700_000), 1 << 20) == [frame(700_000)[4:]]
    assert memory.used == (7 << 20) + 700_004
    assert feed(second, frame(800_000, fill=1), 1 << 20) == [frame(800_000, fill=1)[4:]]
    assert memory.used == (7 << 20) + 800_004
    assert feed(first, frame(700_000, fill=2), 1 << 20) == [frame(700_000, fill=2)[4:]]
    first.close()
    second.close()
    assert memory.used == 7 << 20


def test_parked_bytes_survive_the_scratch_being_used_by_others() -> None:
    scratch = memoryview(bytearray(SCRATCH))
    inbox = Inbox(scratch, Memory(1 << 20), MAX_REQUEST, lambda: None)
    data = frame(10, fill=1) + frame(11, fill=2) + frame(5_000, fill=3)[:50]
    inbox.room()[: len(data)] = data
    inbox.received(len(data))
    assert bytes(inbox.next_frame() or b"") == frame(10, fill=1)[4:]
    inbox.park()
    scratch[:] = bytes(SCRATCH)
    second = inbox.next_frame()
    assert second is not None and bytes(second) == frame(11, fill=2)[4:]
    assert inbox.next_frame() is None
    assert feed(inbox, frame(5_000, fill=3)[50:], 777) == [frame(5_000, fill=3)[4:]]


def test_closing_in_the_middle_gives_everything_back() -> None:
    for already in (100, SCRATCH, SCRATCH + 100):
        memory = Memory(64 << 20)
        inbox = an_inbox(memory)
        feed(inbox, frame(1 << 20)[:already], SCRATCH)
        assert inbox.partial
        inbox.close()
        assert memory.used == 0
