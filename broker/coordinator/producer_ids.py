"""Producer ids that are never given twice: a block is claimed on disk before the first id of it is used."""

BLOCK = 1_000
"""Ids claimed at once, as Kafka does: one small write per thousand producers."""


class ProducerIds:
    """What is left of the claimed block. The driver writes claim()'s end to disk, then calls claimed()."""

    def __init__(self, claimed_to: int) -> None:
        """`claimed_to`: the end of all blocks ever claimed, as it was stored; 0 when nothing was."""
        self._next = claimed_to
        self._end = claimed_to

    @property
    def left(self) -> int:
        return self._end - self._next

    def seen(self, producer_id: int) -> None:
        """An id that is in use somewhere (a log brought here from elsewhere): give only later ones."""
        if producer_id >= self._next:
            self._next = producer_id + 1
            self._end = max(self._end, self._next)

    def claim(self) -> int:
        """The end of the next block, to be stored before claimed() is told of it."""
        return self._end + BLOCK

    def claimed(self, end: int) -> None:
        self._end = max(self._end, end)

    def take(self) -> int:
        """The next id. ValueError when none is left: claim first."""
        if self._next >= self._end:
            raise ValueError("no producer id is left of the claimed block")
        self._next += 1
        return self._next - 1
