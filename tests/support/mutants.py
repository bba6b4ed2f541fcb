"""Faults to plant, one at a time, each by swapping one named production function.

tests/crash/test_mutants.py plants them and expects the unmodified crash suites to fail.
"""

from dataclasses import dataclass
from typing import Any

import pytest

from tailrace.sinks import kafka_positions
from tailrace.sinks.kafka import KafkaSink
from tailrace.sinks.ledger import decide
from tailrace.sinks.ledger.model import Answer
from tailrace.sinks.ledger.schema import ownership, partition_state
from tailrace.sinks.parquet import flight
from tailrace.sinks.parquet import sink as parquet_sink
from tailrace.sinks.parquet.machine import Step

planted = ""
"""The fault in this process, which its children get as well; empty as a rule."""


@dataclass(frozen=True)
class Swap:
    """`instead` stands where `name` of `owner` (a module or a class) was."""

    owner: Any
    name: str
    instead: Any


def _publish_and_decide(landing: flight.Landing, batch: flight.Flight) -> flight.Outcome:
    landing._publish(batch)
    return landing._decide(batch)


def _positions_in_a_second_transaction(sink: KafkaSink, entries: list) -> None:
    sink._producer.commit()
    sink._producer.begin()
    _send_positions(sink, entries)


def _positions_before_init(sink: KafkaSink) -> dict:
    if sink._stored is None:
        early = kafka_positions.read_positions(sink._cluster, sink._owner)
        _initialised(sink)
        sink._stored = early
    return sink._stored


_send_positions, _initialised = KafkaSink._send_positions, KafkaSink._initialised

SWAPS = {
    "publish before decide": Swap(flight, "_STEPS", {**flight._STEPS, Step.DECIDE: _publish_and_decide}),
    "positions outside the transaction": Swap(
        KafkaSink, "_send_positions", _positions_in_a_second_transaction
    ),
    "positions read before InitProducerId": Swap(KafkaSink, "_initialised", _positions_before_init),
    "no compare on next": Swap(
        decide, "next_is_expected", lambda advance: partition_state.c.id == advance.partition_state
    ),
    "no epoch check": Swap(decide, "epoch_is_mine", lambda owned: ownership.c.id == owned.id),
    "unknown COMMIT taken for failure": Swap(decide, "reply_lost", lambda: Answer.REFUSED),
    "unknown COMMIT taken for success": Swap(decide, "reply_lost", lambda: Answer.COMMITTED),
    "recovery does not publish what is decided": Swap(parquet_sink, "finish_decided", lambda *_: []),
}


def plant(fault: str, patch: pytest.MonkeyPatch) -> None:
    """Here until `patch` is undone, and in every lander that is spawned meanwhile."""
    swap = SWAPS[fault]
    patch.setattr(swap.owner, swap.name, swap.instead)
    patch.setattr("tests.support.mutants.planted", fault)


def plant_for_good(fault: str) -> None:
    """In a child; the empty fault is none."""
    if fault:
        plant(fault, pytest.MonkeyPatch())
