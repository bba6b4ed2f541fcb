"""Settings of the `tail` source."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tailrace.component import Settings, SourceSettings
from tailrace.units import Duration, Size


class FileGroup(Settings):
    """Some of the files, with headers of their own. The first group that matches a file has it."""

    files: list[str] = Field(
        min_length=1, description="Paths or globs (`*`, `?`, `[...]`, `**` for any directories)."
    )
    exclude: list[str] = Field(
        default_factory=list, description="Globs of paths, or of names, that are left out."
    )
    headers: dict[str, str] = Field(
        default_factory=dict, description="Headers put on every row of these files."
    )


class TailSettings(SourceSettings):
    """Follows files as they grow, are renamed, truncated, copied, compressed and deleted; each line once."""

    type: Literal["tail"]
    files: list[str] = Field(
        default_factory=list,
        description="Paths or globs (`*`, `?`, `[...]`, `**`: any directories), relative to the working directory.",
    )
    exclude: list[str] = Field(
        default_factory=list,
        description="Globs of paths (with a `/`) or names (without) that are left out of `files` and all groups.",
    )
    headers: dict[str, str] = Field(default_factory=dict, description="Headers put on every row.")
    groups: list[FileGroup] = Field(
        default_factory=list, description="Further files, each group with its own headers."
    )
    start: Literal["beginning", "end"] = Field(
        default="beginning",
        description="Where files that exist at the pipeline's very first start are begun; later ones: at 0.",
    )
    oldest_first: bool = Field(
        default=False, description="Read the file that was modified first before all others."
    )
    max_line: Size = Field(
        default=1_000_000,
        ge=16,
        le=64 * 2**20,
        description="A longer line (bytes without its end) is split; parts have the header `tailrace.part`.",
    )
    file_header: bool = Field(default=False, description="Put the file's path into the header `file`.")
    basename_header: bool = Field(
        default=False, description="Put the file's name into the header `basename`."
    )
    offset_header: bool = Field(
        default=False, description="Put the row's byte offset (decimal) into the header `offset`."
    )
    rescan: Duration = Field(
        default=5.0,
        gt=0,
        description="Files are looked for and compared with what was known this often; events only hasten it.",
    )
    watch: bool = Field(
        default=True, description="Let the system's file events (inotify) wake the source up."
    )
    turn: Size = Field(
        default=8 * 2**20,
        ge=4096,
        description="Bytes read of one file before the next one that has something comes.",
    )
    open_files: int = Field(
        default=512,
        ge=1,
        description="Files held open at once; deleted ones that are not read to their end count extra.",
    )

    @model_validator(mode="after")
    def _names_files(self) -> Self:
        if not self.files and not self.groups:
            raise ValueError("name some `files` or `groups`")
        return self
