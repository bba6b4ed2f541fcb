"""Who waits for rows: fetches register for the logs they read, appends and fsyncs wake them."""

import asyncio
from collections.abc import Collection

from tailrace.broker.log.log import PartitionLog


class Waiting:
    """All methods belong to the event loop."""

    def __init__(self) -> None:
        self._waiting: dict[PartitionLog, set[asyncio.Future[None]]] = {}
        self._closed = False

    def wake(self, log: PartitionLog) -> None:
        """`log` has new rows, or its HW, LSO or existence changed."""
        waiters = self._waiting.get(log)
        if waiters:
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def wait(self, logs: Collection[PartitionLog], timeout: float) -> bool:
        """True when one of `logs` was woken; False after `timeout` seconds, and when the broker stops."""
        if self._closed or timeout <= 0:
            return False
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        watched = set(logs)
        for log in watched:
            self._waiting.setdefault(log, set()).add(waiter)
        timer = loop.call_later(timeout, _give_up, waiter)
        try:
            await waiter
        except TimeoutError:
            return False
        finally:
            timer.cancel()
            for log in watched:
                waiters = self._waiting[log]
                waiters.discard(waiter)
                if not waiters:
                    del self._waiting[log]
        return not self._closed

    def close(self) -> None:
        """Wakes everybody: the broker stops."""
        self._closed = True
        for log in list(self._waiting):
            self.wake(log)


def _give_up(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
