"""Errors of transactions in the words of a request's version: newer ones let a client do more about them."""

from tailrace.broker.wire.errors import ErrorCode


def spoken(error: ErrorCode, version: int, *, since: int) -> ErrorCode:
    """Before version `since`, clients know a fenced producer only as INVALID_PRODUCER_EPOCH (KIP-588)."""
    if error is ErrorCode.producer_fenced and version < since:
        return ErrorCode.invalid_producer_epoch
    return error


def abortable(error: ErrorCode, version: int, *, since: int) -> ErrorCode:
    """From version `since` on, rows outside a transaction ask for its abort, not for the producer's end (KIP-890)."""
    if error is ErrorCode.invalid_txn_state and version >= since:
        return ErrorCode.transaction_abortable
    return error
