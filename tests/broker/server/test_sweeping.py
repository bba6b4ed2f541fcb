"""Clients that stand still: closed when they hold what others need, and never while they move."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tailrace.broker.api.registry import registrations
from tailrace.broker.server.compose import RunningBroker
from tailrace.broker.server.server import Limits, Server
from tailrace.broker.wire.fetch import FetchPartition, FetchRequest, FetchTopic
from tailrace.broker.wire.messages import encode_request, request
from tailrace.config.broker import BrokerSettings


def frame_of(key: int, version: int, body: object) -> bytes:
    return b"".join(bytes(p) for p in encode_request(key, version, 1, None, body))  # type: ignore[arg-type]


VERSIONS = frame_of(18, 0, request(18, 0))
_DEADLINE = 20.0


@contextlib.asynccontextmanager
async def serving(directory: Path, limits: Limits) -> AsyncIterator[tuple[Server, int]]:
    running = RunningBroker(BrokerSettings(listen="127.0.0.1:0", data_dir=str(directory)))
    await running.open()
    server = Server(running.broker, registrations(), limits)
    try:
        port = await server.bind("127.0.0.1", 0)
        await server.serve()
        yield server, port
    finally:
        await server.stop()
        await running.close()


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(1), _DEADLINE) == b""
    except ConnectionResetError:
        return True


def half_a_request(size: int) -> bytes:
    return size.to_bytes(4, "big") + b"\0\0\0\x09" + bytes(size // 2)


def test_an_idle_connection_is_closed(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, Limits(idle=0.1, sweep=0.02)) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await ended(reader)
            writer.close()

    asyncio.run(check())


def test_a_half_sent_request_that_stands_still_is_given_up_and_its_memory_with_it(tmp_path: Path) -> None:
    async def check() -> None:
        limits = Limits(memory=1 << 20, stuck=3600, stuck_when_scarce=0.1, sweep=0.02)
        async with serving(tmp_path, limits) as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(half_a_request(900_000))
            await writer.drain()
            other_reader, other = await asyncio.open_connection("127.0.0.1", port)
            size = (800_000).to_bytes(4, "big")
            other.write(size + b"\0\x12\0\0" + (1).to_bytes(4, "big") + b"\xff\xff" + bytes(799_990))
            assert await ended(reader)
            assert await ended(other_reader), "the second one is whole, read, and malformed"
            third_reader, third = await asyncio.open_connection("127.0.0.1", port)
            third.write(VERSIONS)
            assert len(await asyncio.wait_for(third_reader.read(100), _DEADLINE)) > 0
            assert server.connections == 1
            for end in (writer, other, third):
                end.close()

    asyncio.run(check())


def test_a_half_sent_request_is_not_waited_for_for_ever_even_when_nobody_needs_the_memory(
    tmp_path: Path,
) -> None:
    async def check() -> None:
        async with serving(tmp_path, Limits(stuck=0.1, sweep=0.02)) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(half_a_request(100))
            assert await ended(reader)
            writer.close()

    asyncio.run(check())


def test_a_fetch_that_waits_for_rows_is_not_stuck(tmp_path: Path) -> None:
    async def check() -> None:
        limits = Limits(stuck=0.05, sweep=0.01)
        async with serving(tmp_path, limits) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                frame_of(
                    19,
                    2,
                    request(19, 2, topics=[{"name": "t", "num_partitions": 1, "replication_factor": 1}]),
                )
            )
            await asyncio.wait_for(reader.read(4096), _DEADLINE)
            waits = FetchRequest([FetchTopic("t", None, [FetchPartition(0, 0)])], max_wait_ms=400)
            writer.write(frame_of(1, 11, waits))
            assert len(await asyncio.wait_for(reader.read(4096), _DEADLINE)) > 0
            writer.close()

    asyncio.run(check())
