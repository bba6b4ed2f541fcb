"""EndTxn (key 26), versions 0 to 4: commits or aborts; answered when that is certain, rows and all.

KIP-98, KIP-588 (PRODUCER_FENCED, version 2), KIP-890 (version 4 adds an error that never comes from here).
"""

from collections.abc import Awaitable

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.fencing import spoken
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.coordinator.transaction_rules import Producer
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.messages import Request, response


@handles(26, versions=(0, 4))
def end_txn(request: Request, _: Session, broker: Broker) -> Awaitable[Answer]:
    body = request.body
    producer = Producer(body.producer_id, body.producer_epoch)
    ended = broker.transactions.end(body.transactional_id, producer, commit=body.committed)
    return _answer(request.api_version, ended)


async def _answer(version: int, waiting: Awaitable[ErrorCode]) -> Answer:
    return response(26, version, error_code=spoken(await waiting, version, since=2))
