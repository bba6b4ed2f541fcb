"""Group commit: fsyncs in a thread, one a log at a time, shared by everybody who waits for it.

Whatever nobody waits for is fsynced too, `interval` seconds after it was appended at the latest.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from tailrace.broker.log.log import PartitionLog
from tailrace.broker.wire.errors import ErrorCode, KafkaError

_log = structlog.get_logger("tailrace.broker")
_THREADS = 4


class Flusher:
    """All methods belong to the event loop. `flushed(log)` is called there after each fsync, or attempt
    at one.
    """

    def __init__(self, interval: float, flushed: Callable[[PartitionLog], None]) -> None:
        self._interval = interval
        self._flushed = flushed
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="fsync")
        self._running: dict[PartitionLog, asyncio.Future[None]] = {}
        self._dirty: set[PartitionLog] = set()
        self._timer: asyncio.TimerHandle | None = None

    def dirty(self, log: PartitionLog) -> None:
        """`log` was appended to."""
        self._dirty.add(log)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._tick)

    def _tick(self) -> None:
        self._timer = None
        due, self._dirty = self._dirty, set()
        for log in due:
            if log.flushed < log.leo and log.failed is None:
                if log in self._running:
                    self.dirty(log)
                else:
                    self._start(log)

    async def synced(self, log: PartitionLog, offset: int) -> None:
        """Returns when everything below `offset` is fsynced; KafkaError KAFKA_STORAGE_ERROR when it
        cannot be.
        """
        while log.flushed < offset:
            if log.failed is not None:
                raise KafkaError(ErrorCode.kafka_storage_error, f"{log.directory}: {log.failed}")
            running = self._running.get(log) or self._start(log)
            try:
                await asyncio.shield(running)
            except OSError as error:
                raise KafkaError(ErrorCode.kafka_storage_error, str(error)) from error

    def _start(self, log: PartitionLog) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._running[log] = done
        loop.run_in_executor(self._threads, log.flush).add_done_callback(
            lambda flush: self._finish(log, done, flush)
        )
        return done

    def _finish(self, log: PartitionLog, done: "asyncio.Future[None]", flush: "asyncio.Future[int]") -> None:
        del self._running[log]
        error = flush.exception()
        if error is None:
            done.set_result(None)
        else:
            _log.error("fsync failed", path=log.directory, error=str(error))
            done.set_exception(error if isinstance(error, OSError) else OSError(str(error)))
            done.exception()
        self._flushed(log)

    async def close(self) -> None:
        """Waits for the fsyncs that run. Nothing may be appended any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._running:
            await asyncio.wait(list(self._running.values()))
        self._threads.shutdown()
