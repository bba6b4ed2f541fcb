"""The `broker:` section: settings of the built-in broker, and of its topics."""

from pydantic import Field

from tailrace.component import Settings
from tailrace.units import Duration, Size


class TopicSettings(Settings):
    """One topic that exists from the start."""

    partitions: int = Field(default=1, ge=1, le=10_000, description="Number of partitions.")
    retention: Duration = Field(default=604_800.0, description="Age at which a closed segment is deleted.")
    retention_bytes: Size | None = Field(
        default=None, description="Bytes a partition may keep; no bound by default."
    )
    segment: Size = Field(default=128 * 2**20, description="Bytes at which a segment is rolled.")
    max_message: Size = Field(
        default=1_048_588, description="Largest record batch in bytes (max.message.bytes)."
    )
    compact: bool = Field(
        default=False, description="Keep the last row of each key instead of deleting by age."
    )


class BrokerSettings(Settings):
    """The built-in broker, one process."""

    listen: str = Field(
        default="127.0.0.1:9092",
        pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\s]+):[0-9]{1,5}$",
        description="host:port to listen on and to advertise; port 0 takes a free one.",
    )
    data_dir: str = Field(default="data/broker", description="Directory of the partition logs.")
    topics: dict[str, TopicSettings] = Field(default_factory=dict, description="Topics made at start.")
    auto_create_topics: bool = Field(
        default=True, description="Make a topic when a client asks for its metadata."
    )
    default_partitions: int = Field(
        default=1, ge=1, le=10_000, description="Partitions of an auto-created topic."
    )
    flush_interval: Duration = Field(
        default=0.1, description="An append is fsynced this long after it at the latest."
    )
    group_delay: Duration = Field(
        default=0.2,
        le=60,
        description="A new group waits this long for more members (group.initial.rebalance.delay.ms).",
    )
    max_request: Size = Field(
        default=100 * 2**20, description="Largest request in bytes (socket.request.max.bytes)."
    )
    max_connections: int = Field(
        default=1000, ge=1, description="Connections at once; more are closed at accept."
    )
    min_free: Size = Field(
        default=64 * 2**20, description="Produce is refused when the disk has less free bytes."
    )
