"""Which segments may go or be compacted: by age, by size, by what is settled. Decides only; the log acts."""

from collections.abc import Sequence
from itertools import pairwise

from tailrace.broker.log.config import LogConfig
from tailrace.broker.log.segment import Segment


def outlived(segments: Sequence[Segment], size: int, config: LogConfig, now_ms: int) -> list[Segment]:
    """The oldest segments that are past retention.ms, or that retention.bytes has no room for.

    The last one is the active segment: age may end it, size does not.
    """
    excess = size - config.retention_bytes
    going = []
    for segment in segments:
        latest = segment.max_timestamp if segment.max_timestamp >= 0 else segment.created_ms
        old = config.retention_ms >= 0 and segment.size > 0 and now_ms - latest > config.retention_ms
        large = config.retention_bytes >= 0 and excess >= segment.size and segment is not segments[-1]
        if not old and not large:
            break
        excess -= segment.size
        going.append(segment)
    return going


def settled(segments: Sequence[Segment], upto: int, config: LogConfig, now_ms: int) -> list[Segment]:
    """The closed segments, oldest first, that end at or below `upto` and are past min.compaction.lag.ms."""
    found = []
    for segment, after in pairwise(segments):
        young = config.min_compaction_lag_ms and now_ms - segment.max_timestamp < config.min_compaction_lag_ms
        if after.base > upto or young:
            break
        found.append(segment)
    return found


def worth_compacting(candidates: Sequence[Segment], cleaned: int, config: LogConfig) -> bool:
    """Whether enough of these segments was never compacted (min.cleanable.dirty.ratio)."""
    total = sum(segment.size for segment in candidates)
    dirty = sum(segment.size for segment in candidates if segment.base >= cleaned)
    return dirty > 0 and dirty >= total * config.min_cleanable_dirty_ratio


def groups(candidates: Sequence[Segment], limit: int) -> list[list[Segment]]:
    """Neighbours that fit into one segment of `limit` bytes, and whose offsets fit into its index."""
    found: list[list[Segment]] = []
    size = 0
    for segment, after in zip(candidates, [*candidates[1:], None], strict=True):
        last = after.base if after is not None else segment.base + 2**30
        if found and size + segment.size <= limit and last - found[-1][0].base < 2**31:
            found[-1].append(segment)
            size += segment.size
        else:
            found.append([segment])
            size = segment.size
    return found
