"""The ledger's tables, as SQLAlchemy Core knows them; read by hand they tell where every row went."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

VERSION = 1
"""Raised when the tables change; a ledger with a greater one is refused."""

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("name", String(32), primary_key=True, comment="uuid | version | pipeline"),
    Column("value", Text, nullable=False),
)

_Id = BigInteger().with_variant(Integer, "sqlite")

ownership = Table(
    "ownership",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("pipeline", String(255), nullable=False),
    Column("sink", String(255), nullable=False, comment="<agent>.<sink>"),
    Column("instance", String(64), nullable=False, comment="the agent's instance; empty for topics"),
    Column("kind", String(16), nullable=False, comment="topic | file | stream"),
    Column(
        "stream", String(255), nullable=False, comment="topic id; empty for files: one row for all of them"
    ),
    Column("number", Integer, nullable=False, comment="partition of the topic"),
    Column(
        "epoch",
        BigInteger,
        nullable=False,
        comment="rises with each ACQUIRE; an older one can decide nothing",
    ),
    Column("owner", String(255), nullable=False, comment="who acquired it last"),
    Column("sequence", BigInteger, nullable=False, comment="batches decided so far"),
    UniqueConstraint("pipeline", "sink", "instance", "kind", "stream", "number"),
    comment="who lands: a row for each topic-partition, and one for all files of an agent's sink",
)

partition_state = Table(
    "partition_state",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("ownership", ForeignKey(ownership.c.id), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("stream", String(255), nullable=False, comment="topic id, file id or stream id"),
    Column("number", Integer, nullable=False),
    Column("incarnation", Integer, nullable=False, comment="0; a reset begins the next one"),
    Column("retired", Boolean, nullable=False, comment="a reset has replaced this row"),
    Column("name", Text, nullable=False, comment="topic, path or component, for people"),
    Column("next", BigInteger, comment="the next position to read; null: nothing decided yet"),
    Column("state", LargeBinary, comment="the source's own state at `next`"),
    UniqueConstraint("ownership", "kind", "stream", "number", "incarnation"),
    comment="how far each origin partition is decided",
)

batch = Table(
    "batch",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("ownership", ForeignKey(ownership.c.id), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("decided_ms", BigInteger, nullable=False),
    Column("published_ms", BigInteger),
    UniqueConstraint("ownership", "sequence"),
    CheckConstraint("state IN ('DECIDED', 'PUBLISHED', 'ABANDONED')"),
    Index("batch_by_state", "state", "ownership"),
)

batch_range = Table(
    "batch_range",
    metadata,
    Column("partition_state", ForeignKey(partition_state.c.id), primary_key=True),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("end", BigInteger, nullable=False),
    Column("batch", ForeignKey(batch.c.id), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("rows", BigInteger, nullable=False, comment="rows in data files"),
    Column("filtered", BigInteger, nullable=False, comment="rows that interceptors dropped"),
    Column("dead_lettered", BigInteger, nullable=False, comment="rows in dead-letter files"),
    CheckConstraint("kind IN ('DATA', 'EMPTY', 'GAP')"),
    Index("batch_range_by_batch", "batch"),
)

file = Table(
    "file",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("batch", ForeignKey(batch.c.id), nullable=False),
    Column("staging", Text, nullable=False),
    Column("final", Text, nullable=False, unique=True),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("checksum", String(255), nullable=False),
    Column("min_position", BigInteger, nullable=False),
    Column("max_position", BigInteger, nullable=False),
    Column("dead", Boolean, nullable=False, comment="a dead-letter file"),
    Index("file_by_batch", "batch"),
)
