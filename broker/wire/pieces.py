"""What a frame is made of while it is on its way out: buffers, and stretches of files that are never read
into memory.
"""

from typing import Protocol, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview


class Span(Protocol):
    """A stretch of a file, `length` bytes, that the server sends by itself (broker.log's FileRange)."""

    @property
    def length(self) -> int: ...


Piece: TypeAlias = Buffer | Span


def piece_length(piece: Piece) -> int:
    """Bytes that the piece becomes on the wire."""
    return len(piece) if isinstance(piece, bytes | bytearray | memoryview) else piece.length
