"""`<data_dir>/producer-ids` says which producer ids were claimed, so that none is given twice."""

import asyncio
import os

from tailrace.broker.api.broker import Broker
from tailrace.broker.coordinator.producer_ids import ProducerIds
from tailrace.errors import Corrupt
from tailrace.failpoint import failpoint
from tailrace.fs import write_atomically

FILE = "producer-ids"
_VERSION = "0"


class ProducerIdFile:
    """Two lines, as Kafka's checkpoints have them: a format version, and the end of all claimed blocks."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._path = os.path.join(broker.store.data_dir, FILE)
        self._ids = ProducerIds(0)
        self._claiming = asyncio.Lock()

    def load(self) -> None:
        """Reads the file; Corrupt when it is there and makes no sense."""
        try:
            with open(self._path, encoding="ascii", errors="replace") as file:
                lines = file.read().split()
        except FileNotFoundError:
            return
        if len(lines) != 2 or lines[0] != _VERSION or not lines[1].isdigit():
            raise Corrupt(
                f"{self._path} is damaged: write the lines {_VERSION} and a number above all producer ids"
            )
        self._ids = ProducerIds(int(lines[1]))

    def seen(self, producer_id: int) -> None:
        """This id is in use in some log: only later ones will be given."""
        self._ids.seen(producer_id)

    async def ready(self) -> None:
        """After it, and before anything else is awaited, take() has an id. OSError when the disk refuses."""
        while not self._ids.left:
            async with self._claiming:
                if not self._ids.left:
                    await self._claim()

    def take(self) -> int:
        return self._ids.take()

    async def _claim(self) -> None:
        end = self._ids.claim()
        data = f"{_VERSION}\n{end}\n".encode()
        failpoint("producer_ids.before_claim")
        await self._broker.in_thread(lambda: write_atomically(self._broker.fs, self._path, data))
        failpoint("producer_ids.claimed")
        self._ids.claimed(end)
