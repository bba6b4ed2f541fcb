"""InitProducerId (key 22), versions 0 to 5: a producer's id and epoch; fences who had the transactional id.

KIP-98, KIP-360 (a producer bumps its own epoch, version 3), KIP-588 (PRODUCER_FENCED, 4), KIP-890 (version 5
adds an error that never comes from here).
"""

from collections.abc import Awaitable

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.fencing import spoken
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.coordinator.transaction_rules import Initialized, Producer
from tailrace.broker.wire.build import to_milliseconds
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.messages import Request, response


@handles(22, versions=(0, 5))
def init_producer_id(request: Request, _: Session, broker: Broker) -> Answer | Awaitable[Answer]:
    body, version = request.body, request.api_version
    expected = Producer(getattr(body, "producer_id", -1), getattr(body, "producer_epoch", -1))
    if (expected.producer_id == -1) != (expected.epoch == -1):
        return _response(version, Initialized(ErrorCode.invalid_request))
    initialized = broker.transactions.initialize(
        body.transactional_id,
        None if expected.producer_id == -1 else expected,
        to_milliseconds(body.transaction_timeout),
    )
    return _answer(version, initialized)


async def _answer(version: int, waiting: Awaitable[Initialized]) -> Answer:
    return _response(version, await waiting)


def _response(version: int, answer: Initialized) -> Answer:
    return response(
        22,
        version,
        error_code=spoken(answer.error, version, since=4),
        producer_id=answer.producer_id,
        producer_epoch=answer.epoch,
    )
