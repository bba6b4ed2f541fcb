"""TxnOffsetCommit (key 28), versions 0 to 4: offsets that count when the transaction commits.

KIP-98, KIP-320 (leader epochs, version 2), KIP-447 (checked as the group's member, 3), KIP-890 (version 4
may be told to abort).
"""

from collections.abc import Awaitable

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.fencing import abortable
from tailrace.broker.api.groups import Errors
from tailrace.broker.api.offset_commit import commit_answer, existing_offsets
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.coordinator.commit import CommitRequest
from tailrace.broker.coordinator.transaction_rules import Producer
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.messages import Request, response


@handles(28, versions=(0, 4))
def txn_offset_commit(request: Request, _: Session, broker: Broker) -> Answer | Awaitable[Answer]:
    body = request.body
    producer = Producer(body.producer_id, body.producer_epoch)
    offsets = existing_offsets(broker, body.topics)
    error = broker.transactions.admits_offsets(body.transactional_id, producer, body.group_id)
    if error is not ErrorCode.none:
        return _response(request, dict.fromkeys(offsets, abortable(error, request.api_version, since=4)))
    commit = CommitRequest(
        body.group_id,
        getattr(body, "member_id", ""),
        getattr(body, "group_instance_id", None),
        getattr(body, "generation_id", -1),
        offsets,
        (producer.producer_id, producer.epoch),
    )
    return _answer(request, broker.groups.commit(commit))


async def _answer(request: Request, waiting: Awaitable[Errors]) -> Answer:
    return _response(request, await waiting)


def _response(request: Request, errors: Errors) -> Answer:
    return response(28, request.api_version, topics=commit_answer(request.body.topics, errors))
