"""Settings of the `spool` source."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tailrace.component import SourceSettings
from tailrace.units import Duration, Size


class SpoolSettings(SourceSettings):
    """Reads finished files out of a directory, each once, and renames, moves or deletes what is committed."""

    type: Literal["spool"]
    directory: str = Field(description="Where finished files are dropped; relative to the working directory.")
    include: list[str] = Field(default=["*"], min_length=1, description="Globs of the names that are taken.")
    exclude: list[str] = Field(
        default_factory=list, description="Globs of names that are not taken; stronger than `include`."
    )
    recursive: bool = Field(
        default=False, description="Take files in directories below it too; never through a link."
    )
    order: Literal["oldest", "youngest", "name"] = Field(
        default="oldest", description="Which file comes next: by time of modification, or by name."
    )
    when_done: Literal["rename", "move", "delete"] = Field(
        default="rename", description="What becomes of a file once all its rows are committed."
    )
    suffix: str = Field(
        default=".COMPLETED",
        min_length=1,
        pattern=r"^[^/\x00]+$",
        description="What `rename` puts behind the name.",
    )
    done_directory: str | None = Field(
        default=None,
        description="Where `move` puts files; on the same filesystem. Default: `done` in the directory.",
    )
    failed_directory: str | None = Field(
        default=None,
        description="Where files go that cannot be read whole; same filesystem. Default: `failed` in the directory.",
    )
    settle: Duration = Field(
        default=1.0, description="A file is taken when it has not been modified for this long."
    )
    max_line: Size = Field(
        default=1_000_000,
        ge=16,
        le=64 * 2**20,
        description="A longer line (bytes without its end) is split; parts have the header `tailrace.part`.",
    )
    headers: dict[str, str] = Field(default_factory=dict, description="Headers put on every row.")
    file_header: bool = Field(default=False, description="Put the file's path into the header `file`.")
    basename_header: bool = Field(
        default=False, description="Put the file's name into the header `basename`."
    )
    offset_header: bool = Field(
        default=False, description="Put the row's byte offset (decimal) into the header `offset`."
    )
    rescan: Duration = Field(default=1.0, gt=0, description="The directory is listed this often.")

    @model_validator(mode="after")
    def _done_directory_is_for_move(self) -> Self:
        if self.done_directory is not None and self.when_done != "move":
            raise ValueError("`done_directory` is only for `when_done: move`")
        return self
