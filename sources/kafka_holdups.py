"""Notices rows that wait behind somebody's open transaction, and whose it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tailrace.broker.client.topics import TopicPartition

REPORT_AFTER = 60.0
"""Seconds that an open transaction may hold rows back before it is named."""
_LOOK_EVERY = 1.0


@dataclass(slots=True)
class _HeldUp:
    offset: int
    since: float
    said: bool = False


class Holdups:
    """Keeps for each partition since when its last stable offset has stood still below the high watermark."""

    def __init__(
        self,
        held_back: Callable[[], Mapping[TopicPartition, int]],
        producer_at: Callable[[TopicPartition, int], int | None],
        say: Callable[[str, str | None], None],
    ) -> None:
        self._held_back = held_back
        self._producer_at = producer_at
        self._say = say
        self._known: dict[TopicPartition, _HeldUp] = {}
        self._look_at = 0.0

    def look(self, now: float) -> None:
        """At most once a second: takes note, says what has lasted too long, and takes back what is over."""
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY
        held_back = self._held_back()
        for place, known in list(self._known.items()):
            if held_back.get(place) != known.offset:
                self.forget(place)
        for place, offset in held_back.items():
            known = self._known.setdefault(place, _HeldUp(offset, now))
            if now - known.since >= REPORT_AFTER and not known.said:
                known.said = True
                producer = self._producer_at(place, offset)
                whose = "somebody" if producer is None else f"producer id {producer}"
                self._say(
                    str(place),
                    f"rows from offset {offset} on wait for an open transaction of {whose} to end; it does so"
                    " when its owner goes on, or at its time-out",
                )

    def forget(self, place: TopicPartition) -> None:
        known = self._known.pop(place, None)
        if known is not None and known.said:
            self._say(str(place), None)
