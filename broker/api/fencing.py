"""PRODUCER_FENCED (KIP-588) as a request's version can say it."""

from tailrace.broker.wire.errors import ErrorCode


def spoken(error: ErrorCode, version: int, *, since: int) -> ErrorCode:
    """Before version `since`, clients know a fenced producer only as INVALID_PRODUCER_EPOCH."""
    if error is ErrorCode.producer_fenced and version < since:
        return ErrorCode.invalid_producer_epoch
    return error
