"""What a `parquet` sink can be told in YAML."""

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator

from tailrace.component import Settings, SinkSettings
from tailrace.sinks.ledger.engine import parse_url
from tailrace.sinks.parquet.template import parse_template
from tailrace.units import Duration, Size

_COMPRESSION = re.compile(r"(none|snappy|lz4)|(zstd|gzip)(?:-([0-9]{1,2}))?")
_LEVELS = {"zstd": (1, 22, 1), "gzip": (1, 9, 6)}


class RollSettings(Settings):
    """When what was written is committed and shown. Whatever comes first."""

    interval: Duration = Field(default=300.0, gt=0, description="Seconds after a batch's first row.")
    size: Size = Field(default=128 * 2**20, ge=1, description="Bytes that a file has grown to.")
    idle: Duration = Field(default=60.0, gt=0, description="Seconds without a row.")


class ParquetSettings(SinkSettings):
    """Lands rows in Parquet files, each exactly once: rows and origins are decided together in a ledger."""

    type: Literal["parquet"]
    path: str = Field(
        description="Directory of a row's file: a local path or webhdfs://host:port/path; behind a literal "
        "prefix it may have %{topic}, %{partition}, %{header} and escapes of the row's time in UTC (%Y %m %d "
        "%H %M %S %j %y %s)."
    )
    ledger: str | None = Field(
        default=None,
        description="Where decisions are kept: sqlite:///path or postgresql://user@host/database; "
        "<state_dir>/ledger.db by default.",
    )
    roll: RollSettings = Field(default=RollSettings(), description="When files are closed and shown.")
    body: Literal["string", "binary"] = Field(
        default="string",
        description="Type of the body column; as a string, rows that are not UTF-8 go to the dead letters.",
    )
    compression: str = Field(
        default="zstd-1", description="none, snappy, lz4, zstd-1 to zstd-22, gzip-1 to gzip-9."
    )
    memory: Size = Field(
        default=128 * 2**20,
        ge=2**20,
        description="Bytes of rows held back over all open files; the largest is written out.",
    )
    row_group: Size = Field(
        default=64 * 2**20, ge=2**16, description="Bytes of rows gathered into one row group."
    )
    max_open_files: int = Field(
        default=64, ge=1, description="Files open at once; the least recently used is closed."
    )
    min_free: Size = Field(
        default=64 * 2**20,
        description="Bytes that must stay free on the local disk; below it the sink waits.",
    )
    on_recreate: Literal["fail", "new_stream"] = Field(
        default="fail",
        description="What to do when a topic was deleted and made again: stop, or land it as another stream.",
    )
    user: str | None = Field(default=None, description="User name for WebHDFS; the process's own by default.")
    timeout: Duration = Field(
        default=30.0, gt=0, description="Seconds to wait for an answer of the namenode or a datanode."
    )

    @field_validator("path")
    @classmethod
    def _path_has_a_place(cls, text: str) -> str:
        parse_template(text)
        return text

    @field_validator("ledger")
    @classmethod
    def _ledger_is_known(cls, text: str | None) -> str | None:
        if text is not None:
            parse_url(text)
        return text

    @field_validator("compression")
    @classmethod
    def _compression_is_known(cls, text: str) -> str:
        codec(text)
        return text

    def keeps_origins(self) -> bool:
        return True

    def weakness(self) -> str | None:
        return None

    def notes(self) -> Sequence[str]:
        found = []
        if self.ledger is None or parse_url(self.ledger).drivername == "sqlite":
            found.append("every lander of this sink runs on this host (its ledger is SQLite)")
        if parse_template(self.path).location.scheme == "file":
            found.append("every lander of this sink sees this disk (its path is a local one)")
        else:
            found.append("dfs.datanode.synconclose is true, for power loss at the datanodes")
        return found


def codec(text: str) -> tuple[str, int | None]:
    """(pyarrow's name, level or None) of `zstd-1`. ValueError when there is no such compression."""
    match = _COMPRESSION.fullmatch(text)
    if match is None:
        raise ValueError(f"expected none, snappy, lz4, zstd-1 to zstd-22 or gzip-1 to gzip-9, not {text!r}")
    if match[1] is not None:
        return match[1], None
    lowest, highest, usual = _LEVELS[match[2]]
    level = int(match[3]) if match[3] else usual
    if not lowest <= level <= highest:
        raise ValueError(f"{match[2]} has levels {lowest} to {highest}, not {level}")
    return match[2], level
