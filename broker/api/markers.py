"""Transaction markers: the control batches that end a producer's transaction in each of its logs."""

import asyncio
from collections.abc import Collection

import structlog

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.journal import OFFSETS_TOPIC
from tailrace.broker.coordinator.offsets import TopicPartition
from tailrace.broker.log.errors import CoordinatorFenced, InvalidProducerEpoch
from tailrace.broker.log.log import PartitionLog
from tailrace.broker.wire.control import control_batch
from tailrace.failpoint import failpoint

_log = structlog.get_logger("tailrace.broker.transactions")


class MarkerWriter:
    """Writes markers into logs, and tells the groups of those in `__consumer_offsets`. On the event loop."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def write(
        self, place: TopicPartition, producer_id: int, epoch: int, *, commit: bool, coordinator_epoch: int
    ) -> None:
        """Appends the marker; a partition that was deleted needs none. KafkaError when the disk refuses."""
        log = self._log_of(place)
        if log is None:
            return
        marker = control_batch(
            producer_id=producer_id,
            producer_epoch=epoch,
            commit=commit,
            coordinator_epoch=coordinator_epoch,
            timestamp=self._broker.clock.now_ms(),
        )
        try:
            self._broker.append(log, marker, control=True)
        except (InvalidProducerEpoch, CoordinatorFenced) as error:
            # Somebody newer has been there: the transaction has an end already.
            _log.warning("a marker came too late", topic=place[0], partition=place[1], error=str(error))
            return
        failpoint("transactions.marker_written")
        if place[0] == OFFSETS_TOPIC:
            self._broker.groups.end_transaction(place[1], producer_id, commit=commit)

    async def synced(self, places: Collection[TopicPartition]) -> None:
        """Everything in these logs as of now is on disk. KafkaError KAFKA_STORAGE_ERROR."""
        logs = [log for log in map(self._log_of, places) if log is not None]
        await asyncio.gather(*(self._broker.synced(log, log.leo) for log in logs))

    def abort_orphans(self, known: Collection[tuple[int, TopicPartition]]) -> int:
        """Aborts the open transactions that are not in `known`; answers the largest producer id in any log.

        None of them can come from this broker, which logs a transaction before its first row; this is for
        directories from elsewhere, since one open transaction would hold readers back for ever.
        """
        largest = -1
        for topic in self._broker.store.topics().values():
            for index, log in enumerate(topic.partitions):
                for producer_id, state in log.producers().items():
                    largest = max(largest, producer_id)
                    place = (topic.name, index)
                    if state.first_open < 0 or (producer_id, place) in known:
                        continue
                    _log.warning("aborted a transaction that no coordinator knows", id=producer_id, at=place)
                    epoch = max(state.coordinator_epoch, 0)
                    self.write(place, producer_id, state.epoch, commit=False, coordinator_epoch=epoch)
        return largest

    def _log_of(self, place: TopicPartition) -> PartitionLog | None:
        return self._broker.store.log(*place)
