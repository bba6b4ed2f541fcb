"""AddPartitionsToTxn (key 24), versions 0 to 3: a transaction will have rows in these partitions.

KIP-98, KIP-588 (PRODUCER_FENCED, version 2). Not here: versions 4 and 5, by which brokers ask each other
(KIP-890); this one asks itself without a request.
"""

from collections.abc import Awaitable

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.fencing import spoken
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.coordinator.offsets import TopicPartition
from tailrace.broker.coordinator.transaction_rules import Producer
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.messages import Request, response


@handles(24, versions=(0, 3))
def add_partitions_to_txn(request: Request, _: Session, broker: Broker) -> Answer | Awaitable[Answer]:
    body = request.body
    places = [(topic.name, index) for topic in body.v3_and_below_topics for index in topic.partitions]
    missing = {place for place in places if broker.store.log(*place) is None}
    if missing:
        # All or none: KIP-98 has no transaction with a part of what was asked for.
        unknown, kept = ErrorCode.unknown_topic_or_partition, ErrorCode.operation_not_attempted
        return _response(request, {place: unknown if place in missing else kept for place in places})
    producer = Producer(body.v3_and_below_producer_id, body.v3_and_below_producer_epoch)
    added = broker.transactions.add_partitions(body.v3_and_below_transactional_id, producer, places)
    return _answer(request, places, added)


async def _answer(request: Request, places: list[TopicPartition], waiting: Awaitable[ErrorCode]) -> Answer:
    return _response(request, dict.fromkeys(places, spoken(await waiting, request.api_version, since=2)))


def _response(request: Request, errors: dict[TopicPartition, ErrorCode]) -> Answer:
    results = [
        {
            "name": topic.name,
            "results_by_partition": [
                {"partition_index": index, "partition_error_code": errors[topic.name, index]}
                for index in topic.partitions
            ],
        }
        for topic in request.body.v3_and_below_topics
    ]
    return response(24, request.api_version, results_by_topic_v3_and_below=results)
