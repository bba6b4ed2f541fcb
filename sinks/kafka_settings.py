"""The settings of the Kafka sink, and the guarantee that follows from them."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from tailrace.component import SinkSettings, SourceSettings
from tailrace.units import Duration, Size


class KafkaSinkSettings(SinkSettings):
    """Writes rows to a Kafka topic. Exactly-once by default: rows and file positions are one transaction."""

    type: Literal["kafka"]
    topic: str = Field(
        pattern=r"^[a-zA-Z0-9._-]{1,249}$",
        description="Topic to write to; made when it is not there.",
    )
    bootstrap: str | None = Field(
        default=None, description="host:port,... of another cluster than the pipeline's own."
    )
    partitions: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Partitions of the topic when it is made here; the broker's default when left out.",
    )
    transactional: bool = Field(
        default=True, description="Rows and origins in one transaction; false: at-least-once, with `acks`."
    )
    acks: Literal["all", 1, 0] = Field(
        default="all",
        description="What answers for a row without transactions: all (on disk), 1 (in memory), 0.",
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        default="none", description="Codec of the record batches."
    )
    linger: Duration = Field(
        default=0.2, description="Seconds from the first row to the commit of its transaction."
    )
    transaction_size: Size = Field(
        default=128 * 2**20, ge=1, description="Bytes of rows at which a transaction commits before `linger`."
    )
    transaction_timeout: Duration = Field(
        default=60.0,
        ge=1,
        le=900,
        description="Seconds after which the broker aborts a transaction; a third of it bounds `linger`.",
    )
    batch_size: Size = Field(
        default=1_040_000,
        ge=1024,
        description="Bytes a record batch is filled to; the topic's own limit bounds it.",
    )
    partition_by: str = Field(
        default="origin",
        pattern=r"^(origin|key|round_robin|header:.+)$",
        description="origin (rows of one file stay in order), key, header:NAME or round_robin.",
    )
    too_large: Literal["dead_letter", "stop"] = Field(
        default="dead_letter",
        description="A row over the topic's max.message.bytes goes to `<topic>.dead`, or stops the agent.",
    )

    @model_validator(mode="after")
    def _acks_without_transactions(self) -> "KafkaSinkSettings":
        if self.transactional and self.acks != "all":
            raise ValueError("acks: a transaction needs acks: all; say transactional: false for less")
        return self

    def keeps_origins(self) -> bool:
        return self.transactional

    def needs_bootstrap(self) -> bool:
        return self.bootstrap is None

    def topics_written(self) -> Sequence[str]:
        return (self.topic,) if self.bootstrap is None else ()

    def weakness(self) -> str | None:
        if self.transactional:
            return None
        if self.acks == 0:
            return "acks: 0 waits for no answer: rows on their way to a broker that goes away are gone"
        return "transactional: false stores positions after the rows: a crash in between sends rows again"

    def weakness_from(self, source: SourceSettings) -> str | None:
        cluster = source.cluster()
        if self.transactional and cluster is not None and cluster != (self.bootstrap or ""):
            return (
                "its rows come from another Kafka cluster, whose group's generation cannot be part of the"
                " transaction: a rebalance can send rows again"
            )
        return self.weakness()
