"""Produce (key 0), versions 0 to 11: batches go into the page cache as they came, unread but for their
headers.

KIP-98 (idempotence, transactions), KIP-467 (error text), KIP-890 part 1 (transactional batches are
admitted by the coordinator). Not here: old magics (0 and 1 are refused), KIP-951 (leader hints: the
one broker leads).

acks=0 gets no answer (an error closes the connection, the only way to tell); 1 is answered when the
rows are in the page cache; -1 when they are fsynced. A batch is checked by its CRC, and one bad batch
spoils its own partition only.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.fencing import abortable
from tailrace.broker.api.registry import Answer, Disconnect, Session, handles
from tailrace.broker.log.errors import (
    CoordinatorFenced,
    InvalidProducerEpoch,
    InvalidTransactionState,
    LogError,
    OutOfOrderSequence,
)
from tailrace.broker.log.log import PartitionLog
from tailrace.broker.wire.batch import HEADER_SIZE, BatchHeader, read_header
from tailrace.broker.wire.errors import ErrorCode, KafkaError
from tailrace.broker.wire.messages import Request
from tailrace.broker.wire.produce import PartitionProduced, ProduceRequest, ProduceResponse
from tailrace.errors import Corrupt, TailraceError

_ERRORS: dict[type[TailraceError], ErrorCode] = {
    Corrupt: ErrorCode.corrupt_message,
    OutOfOrderSequence: ErrorCode.out_of_order_sequence_number,
    InvalidProducerEpoch: ErrorCode.invalid_producer_epoch,
    InvalidTransactionState: ErrorCode.invalid_txn_state,
    CoordinatorFenced: ErrorCode.transaction_coordinator_fenced,
}
_INTERNAL = ("__consumer_offsets", "__transaction_state")
_FIRST_WITH_BATCHES = 3
_MAGIC_AT = 16
Unsynced = list[tuple[PartitionLog, int, PartitionProduced]]


@handles(0, versions=(0, 11))
def produce(request: Request, _: Session, broker: Broker) -> Answer | Coroutine[Any, Any, Answer]:
    body: ProduceRequest = request.body
    unsynced: Unsynced = []
    topics = []
    for name, partitions in body.topics:
        answers = []
        for index, records in partitions:
            produced = PartitionProduced(index)
            try:
                if body.acks not in (-1, 0, 1):
                    raise KafkaError(ErrorCode.invalid_required_acks, f"acks={body.acks}")
                log, end = _append(broker, request, name, index, records, produced)
                unsynced.append((log, end, produced))
            except (KafkaError, LogError, Corrupt) as error:
                _refuse(produced, error)
            answers.append(produced)
        topics.append((name, answers))
    if body.acks == 0:
        refused = next((p.error_message for _, answers in topics for p in answers if p.error), None)
        if refused is not None:
            raise Disconnect(f"Produce with acks=0 was refused: {refused}")
        return None
    response = ProduceResponse(topics)
    if body.acks == -1 and any(log.flushed < end for log, end, _ in unsynced):
        return _when_synced(broker, response, unsynced, body.timeout_ms / 1000)
    return response


def _append(
    broker: Broker, request: Request, topic: str, index: int, records: object, produced: PartitionProduced
) -> tuple[PartitionLog, int]:
    """Appends, and fills in `produced`; answers the log and the offset behind the last row."""
    log = broker.log(topic, index)
    if topic in _INTERNAL:
        raise KafkaError(ErrorCode.invalid_topic_exception, f"{topic} is written by the broker alone")
    if not isinstance(records, memoryview) or len(records) < HEADER_SIZE:
        raise KafkaError(ErrorCode.invalid_record, "a partition without a record batch")
    header = _admitted(broker, request, topic, index, log, records)
    appended = broker.append(log, records)
    produced.base_offset = appended.first_offset
    produced.log_append_time = appended.log_append_time
    produced.log_start = appended.log_start
    return log, appended.first_offset + header.last_offset_delta + 1


def _admitted(
    broker: Broker, request: Request, topic: str, index: int, log: PartitionLog, records: memoryview
) -> BatchHeader:
    if request.api_version < _FIRST_WITH_BATCHES or records[_MAGIC_AT] < 2:
        raise KafkaError(ErrorCode.unsupported_for_message_format, "only record batches of magic 2 are taken")
    header = read_header(records)
    if header.size > len(records):
        raise KafkaError(ErrorCode.corrupt_message, "a record batch is cut short")
    if header.size < len(records):
        raise KafkaError(ErrorCode.invalid_record, "more than one record batch for a partition")
    if header.is_control:
        raise KafkaError(ErrorCode.invalid_record, "control batches are written by the broker alone")
    if header.producer_id >= 0 and header.base_sequence < 0:
        raise KafkaError(ErrorCode.invalid_record, "a producer id without a sequence")
    if len(records) > log.config.max_message_bytes:
        limit = f"max.message.bytes of {topic} is {log.config.max_message_bytes}"
        raise KafkaError(ErrorCode.message_too_large, f"a record batch of {len(records)} bytes; {limit}")
    if header.is_transactional:
        code = broker.transactions.admits(
            request.body.transactional_id, header.producer_id, header.producer_epoch, topic, index
        )
        if code != ErrorCode.none:
            code = abortable(code, request.api_version, since=11)
            raise KafkaError(code, f"{topic}-{index} is not in an open transaction of this producer")
    if not broker.headroom.admits(len(records)):
        raise KafkaError(ErrorCode.kafka_storage_error, broker.headroom.refusal())
    return header


def _refuse(produced: PartitionProduced, error: TailraceError) -> None:
    code = error.code if isinstance(error, KafkaError) else _ERRORS.get(type(error))
    produced.error = ErrorCode.unknown_server_error if code is None else code
    produced.error_message = str(error)
    produced.base_offset = produced.log_append_time = produced.log_start = -1


async def _when_synced(
    broker: Broker, response: ProduceResponse, unsynced: Unsynced, timeout: float
) -> ProduceResponse:
    for log, end, produced in unsynced:
        try:
            async with asyncio.timeout(timeout):
                await broker.synced(log, end)
        except KafkaError as error:
            _refuse(produced, error)
        except TimeoutError:
            _refuse(produced, KafkaError(ErrorCode.request_timed_out, f"no fsync within {timeout} s"))
    return response
