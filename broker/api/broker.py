"""What every handler is given: the logs, the coordinators, and the two ways to wait (for an fsync, for new rows)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailrace.broker.log.log import Appended, PartitionLog
from tailrace.broker.log.store import LogStore
from tailrace.clock import Clock
from tailrace.config.broker import BrokerSettings

if TYPE_CHECKING:
    from tailrace.broker.api.groups import Groups
    from tailrace.broker.api.transactions import Transactions


@dataclass(slots=True)
class Broker:
    """One broker. All methods are called on the event loop.

    COORD's drivers (the asyncio side of the pure coordinators: they persist, send, and keep timers by
    asyncio's call_later) are `groups` and `transactions`: objects made by Groups(broker) and Transactions(broker),
    in broker/api/groups.py and broker/api/transactions.py, each with
        async def load(self) -> None     before the first connection: reads its internal topic, finishes PREPARE_*
        async def close(self) -> None    at shutdown, before the logs are closed: cancels timers
    Transactions also answers Produce's question, synchronously:
        def admits(self, transactional_id: str | None, producer_id: int, producer_epoch: int, topic: str, partition: int)
            -> ErrorCode                 none, or why this transactional batch may not be appended (KIP-890 part 1)
    """

    settings: BrokerSettings
    store: LogStore
    clock: Clock
    host: str
    port: int
    node_id: int = 1
    groups: "Groups" = None  # type: ignore[assignment]
    transactions: "Transactions" = None  # type: ignore[assignment]

    def log(self, topic: str, partition: int) -> PartitionLog:
        """KafkaError UNKNOWN_TOPIC_OR_PARTITION when there is none."""
        raise NotImplementedError

    def append(self, log: PartitionLog, batches: bytearray | memoryview) -> Appended:
        """Validates, stamps and appends to the page cache; wakes waiting fetches; an fsync follows within flush_interval.

        Raises what PartitionLog.append raises, and KafkaError KAFKA_STORAGE_ERROR when the disk is full or failing.
        """
        raise NotImplementedError

    async def synced(self, log: PartitionLog, offset: int) -> None:
        """Returns when everything of `log` below `offset` is fsynced (group commit). KafkaError KAFKA_STORAGE_ERROR when it failed."""
        raise NotImplementedError

    def changed(self, log: PartitionLog) -> None:
        """Wakes fetches that wait for `log`: after anything but append() moved its HW or LSO."""
        raise NotImplementedError

    def ensure_topic(self, name: str, partitions: int, configs: dict[str, str]) -> None:
        """Makes an internal topic when it is not there (e.g. {"cleanup.policy": "compact"})."""
        raise NotImplementedError
