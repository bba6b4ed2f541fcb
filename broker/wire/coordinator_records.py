"""What the coordinators keep in `__consumer_offsets` and `__transaction_state`, in Kafka's own record
formats.

Keys and values begin with an int16 version. Written are Kafka 3.9's versions (keys 1, 2 and 0; values 3,
3 and 0); read is every version up to Kafka 4's. A key of a version not known here (KIP-848 groups)
decodes to None: pass it over.
"""

import io
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, TypeVar

from kio.serial import entity_writer

from tailrace.broker.wire.pieces import Buffer
from tailrace.broker.wire.reader import read_entity
from tailrace.errors import Corrupt


def _of(kafka_type: str, **more: Any) -> Any:
    """A field of a message, in the form of kio's schemas, so that the reader and kio's writer understand
    it.
    """
    default = {"default": more.pop("default")} if "default" in more else {}
    return field(metadata={"kafka_type": kafka_type, **more}, **default)


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetCommitKey:
    __flexible__: ClassVar[bool] = False
    group: str = _of("string")
    topic: str = _of("string")
    partition: int = _of("int32")


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetCommitValue:
    """`metadata` is the client's own string; times are ms since the epoch."""

    __flexible__: ClassVar[bool] = False
    offset: int = _of("int64")
    leader_epoch: int = _of("int32", default=-1)
    metadata: str = _of("string", default="")
    commit_timestamp: int = _of("int64", default=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMetadataKey:
    __flexible__: ClassVar[bool] = False
    group: str = _of("string")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMember:
    """Time-outs are in ms; `subscription` and `assignment` are the client's own bytes."""

    __flexible__: ClassVar[bool] = False
    member_id: str = _of("string")
    group_instance_id: str | None = _of("string", default=None)
    client_id: str = _of("string")
    client_host: str = _of("string")
    rebalance_timeout: int = _of("int32", default=-1)
    session_timeout: int = _of("int32")
    subscription: bytes = _of("bytes")
    assignment: bytes = _of("bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMetadataValue:
    __flexible__: ClassVar[bool] = False
    protocol_type: str = _of("string")
    generation: int = _of("int32")
    protocol: str | None = _of("string", default=None)
    leader: str | None = _of("string", default=None)
    current_state_timestamp: int = _of("int64", default=-1)
    members: tuple[GroupMember, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionLogKey:
    __flexible__: ClassVar[bool] = False
    transactional_id: str = _of("string")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionPartitions:
    __flexible__: ClassVar[bool] = False
    topic: str = _of("string")
    partition_ids: tuple[int, ...] = _of("int32", default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionLogValue:
    """`status` is the number of Kafka's TransactionState: 0 Empty, 1 Ongoing, 2 PrepareCommit, 3
    PrepareAbort, 4 CompleteCommit, 5 CompleteAbort, 6 Dead, 7 PrepareEpochFence. Times are ms since the
    epoch.
    """

    __flexible__: ClassVar[bool] = False
    producer_id: int = _of("int64")
    producer_epoch: int = _of("int16")
    timeout_ms: int = _of("int32")
    status: int = _of("int8")
    partitions: tuple[TransactionPartitions, ...] | None = None
    last_update_timestamp: int = _of("int64", default=-1)
    start_timestamp: int = _of("int64", default=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OffsetCommitValue0:
    __flexible__: ClassVar[bool] = False
    offset: int = _of("int64")
    metadata: str = _of("string")
    commit_timestamp: int = _of("int64")


@dataclass(frozen=True, slots=True, kw_only=True)
class _OffsetCommitValue1:
    __flexible__: ClassVar[bool] = False
    offset: int = _of("int64")
    metadata: str = _of("string")
    commit_timestamp: int = _of("int64")
    expire_timestamp: int = _of("int64")


@dataclass(frozen=True, slots=True, kw_only=True)
class _OffsetCommitValue4:
    __flexible__: ClassVar[bool] = True
    offset: int = _of("int64")
    leader_epoch: int = _of("int32")
    metadata: str = _of("string")
    commit_timestamp: int = _of("int64")


@dataclass(frozen=True, slots=True, kw_only=True)
class _GroupMember0:
    __flexible__: ClassVar[bool] = False
    member_id: str = _of("string")
    client_id: str = _of("string")
    client_host: str = _of("string")
    session_timeout: int = _of("int32")
    subscription: bytes = _of("bytes")
    assignment: bytes = _of("bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class _GroupMember1:
    __flexible__: ClassVar[bool] = False
    member_id: str = _of("string")
    client_id: str = _of("string")
    client_host: str = _of("string")
    rebalance_timeout: int = _of("int32")
    session_timeout: int = _of("int32")
    subscription: bytes = _of("bytes")
    assignment: bytes = _of("bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class _GroupMember4:
    __flexible__: ClassVar[bool] = True
    member_id: str = _of("string")
    group_instance_id: str | None = _of("string")
    client_id: str = _of("string")
    client_host: str = _of("string")
    rebalance_timeout: int = _of("int32")
    session_timeout: int = _of("int32")
    subscription: bytes = _of("bytes")
    assignment: bytes = _of("bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class _GroupMetadataValue0:
    __flexible__: ClassVar[bool] = False
    protocol_type: str = _of("string")
    generation: int = _of("int32")
    protocol: str | None = _of("string")
    leader: str | None = _of("string")
    members: tuple[_GroupMember0, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _GroupMetadataValue1:
    __flexible__: ClassVar[bool] = False
    protocol_type: str = _of("string")
    generation: int = _of("int32")
    protocol: str | None = _of("string")
    leader: str | None = _of("string")
    members: tuple[_GroupMember1, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _GroupMetadataValue2:
    __flexible__: ClassVar[bool] = False
    protocol_type: str = _of("string")
    generation: int = _of("int32")
    protocol: str | None = _of("string")
    leader: str | None = _of("string")
    current_state_timestamp: int = _of("int64")
    members: tuple[_GroupMember1, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _GroupMetadataValue4:
    __flexible__: ClassVar[bool] = True
    protocol_type: str = _of("string")
    generation: int = _of("int32")
    protocol: str | None = _of("string")
    leader: str | None = _of("string")
    current_state_timestamp: int = _of("int64")
    members: tuple[_GroupMember4, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _TransactionPartitions1:
    __flexible__: ClassVar[bool] = True
    topic: str = _of("string")
    partition_ids: tuple[int, ...] = _of("int32")


@dataclass(frozen=True, slots=True, kw_only=True)
class _TransactionLogValue1:
    __flexible__: ClassVar[bool] = True
    producer_id: int = _of("int64")
    producer_epoch: int = _of("int16")
    timeout_ms: int = _of("int32")
    status: int = _of("int8")
    partitions: tuple[_TransactionPartitions1, ...] | None
    last_update_timestamp: int = _of("int64")
    start_timestamp: int = _of("int64")


GroupKey = OffsetCommitKey | GroupMetadataKey
Key = GroupKey | TransactionLogKey
Value = OffsetCommitValue | GroupMetadataValue | TransactionLogValue

_KEY_VERSION: dict[type[Any], int] = {OffsetCommitKey: 1, GroupMetadataKey: 2, TransactionLogKey: 0}
_VALUE_VERSION: dict[type[Any], int] = {OffsetCommitValue: 3, GroupMetadataValue: 3, TransactionLogValue: 0}
_GROUP_KEYS: dict[int, type[Any]] = {0: OffsetCommitKey, 1: OffsetCommitKey, 2: GroupMetadataKey}
_VALUES: dict[type[Any], tuple[type[Any], ...]] = {
    OffsetCommitValue: (
        _OffsetCommitValue0,
        _OffsetCommitValue1,
        _OffsetCommitValue0,
        OffsetCommitValue,
        _OffsetCommitValue4,
    ),
    GroupMetadataValue: (
        _GroupMetadataValue0,
        _GroupMetadataValue1,
        _GroupMetadataValue2,
        GroupMetadataValue,
        _GroupMetadataValue4,
    ),
    TransactionLogValue: (TransactionLogValue, _TransactionLogValue1),
}
"""By version, what a value looks like. What an old one lacks takes its default; what it has beside (expiry)
is dropped.
"""


def encode_key(key: Key) -> bytes:
    return _encode(_KEY_VERSION[type(key)], key)


def encode_value(value: Value) -> bytes:
    return _encode(_VALUE_VERSION[type(value)], value)


def _encode(version: int, entity: Any) -> bytes:
    out = io.BytesIO()
    out.write(version.to_bytes(2, "big"))
    entity_writer(type(entity))(out, entity)
    return out.getvalue()


def decode_group_key(data: Buffer) -> GroupKey | None:
    """A key of `__consumer_offsets`; None for a kind not known here. Corrupt when it is malformed."""
    version, rest = _split(data)
    kind = _GROUP_KEYS.get(version)
    key: GroupKey | None = None if kind is None else read_entity(kind, rest)
    return key


def decode_transaction_key(data: Buffer) -> TransactionLogKey | None:
    """A key of `__transaction_state`; None for a kind not known here. Corrupt when it is malformed."""
    version, rest = _split(data)
    return read_entity(TransactionLogKey, rest) if version == 0 else None


V = TypeVar("V", OffsetCommitValue, GroupMetadataValue, TransactionLogValue)


def decode_value(kind: type[V], data: Buffer) -> V:
    """A value that stands beside a key of that kind, in whatever version. Corrupt when it is malformed or
    too new.
    """
    version, rest = _split(data)
    layouts = _VALUES[kind]
    if not 0 <= version < len(layouts):
        raise Corrupt(f"{kind.__name__} of version {version}; known are 0 to {len(layouts) - 1}")
    read = read_entity(layouts[version], rest)
    return read if isinstance(read, kind) else _as(kind, read)


def _as(kind: type[V], old: Any) -> V:
    value: V = _same_fields(kind, old)
    if isinstance(value, GroupMetadataValue):
        return replace(value, members=tuple(_same_fields(GroupMember, member) for member in value.members))
    if isinstance(value, TransactionLogValue) and value.partitions is not None:
        parts = tuple(_same_fields(TransactionPartitions, part) for part in value.partitions)
        return replace(value, partitions=parts)
    return value


def _same_fields(kind: type[Any], old: Any) -> Any:
    return kind(**{f.name: getattr(old, f.name) for f in fields(kind) if hasattr(old, f.name)})


def _split(data: Buffer) -> tuple[int, memoryview]:
    view = memoryview(data).toreadonly()
    if len(view) < 2:
        raise Corrupt("a coordinator record without its version")
    return int.from_bytes(view[:2], "big", signed=True), view[2:]
