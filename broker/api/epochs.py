"""The leader epoch a client believes in, against the log's (KIP-320)."""

from tailrace.broker.log.log import PartitionLog
from tailrace.broker.wire.errors import ErrorCode


def epoch_error(log: PartitionLog, epoch: int) -> ErrorCode:
    """none when `epoch` is the log's own, or -1 (not said); else which of the two is behind."""
    if epoch < 0 or epoch == log.leader_epoch:
        return ErrorCode.none
    return ErrorCode.fenced_leader_epoch if epoch < log.leader_epoch else ErrorCode.unknown_leader_epoch
