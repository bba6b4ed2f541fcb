"""Time as the coordinators get it: two clocks, so that a stepped wall clock expires nobody's session."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moment:
    """`wall`: ms since the epoch, for what is stored; `steady`: ms that never go back, for deadlines."""

    wall: int
    steady: int
