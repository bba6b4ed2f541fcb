"""The settings of the Kafka source."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from tailrace.component import SourceSettings
from tailrace.units import Duration, Size


class KafkaSourceSettings(SourceSettings):
    """Reads topics of a Kafka cluster as a member of a consumer group."""

    type: Literal["kafka"]
    topics: list[str] = Field(min_length=1, description="Topics to read.")
    group: str = Field(min_length=1, description="Consumer group that shares the partitions out.")
    bootstrap: str | None = Field(
        default=None, description="host:port,... of another cluster than the pipeline's own."
    )
    start: Literal["beginning", "end"] = Field(
        default="beginning",
        description="Where the pipeline's very first start begins; topics that appear later begin at 0.",
    )
    isolation: Literal["read_committed", "read_uncommitted"] = Field(
        default="read_committed", description="Whether rows of open and aborted transactions are seen."
    )
    assignor: Literal["range", "roundrobin"] = Field(
        default="range", description="How the group shares partitions out."
    )
    static: bool = Field(
        default=True,
        description="Keep the member's place over a restart (group.instance.id); false: rebalance each time.",
    )
    session_timeout: Duration = Field(
        default=45.0,
        ge=6,
        le=1800,
        description="Seconds without a heartbeat after which the partitions go to others.",
    )
    fetch_size: Size = Field(default=8 * 2**20, ge=1024, description="Bytes of one fetch.")
    on_gap: Literal["fail", "record"] = Field(
        default="fail",
        description="When retention deleted unread rows: stop and say which, or record the gap and go on.",
    )

    def needs_bootstrap(self) -> bool:
        return self.bootstrap is None

    def topics_read(self) -> Sequence[str]:
        return tuple(self.topics) if self.bootstrap is None else ()

    def cluster(self) -> str | None:
        return self.bootstrap or ""

    def weakness(self) -> str | None:
        if self.isolation == "read_committed":
            return None
        return "isolation: read_uncommitted hands on rows of transactions that are aborted and written again"
