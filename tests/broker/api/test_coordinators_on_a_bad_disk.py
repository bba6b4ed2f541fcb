"""Coordinators on a disk that refuses now and then: a client that repeats what it is told to gets through."""

from pathlib import Path
from typing import Any

import pytest

from tailrace.broker.wire.errors import ErrorCode
from tests.broker.api.test_groups import join, sync
from tests.broker.api.test_transactions import Handle, committed, initialize, stable_end
from tests.support.live_broker import LiveBroker

AGAIN = (ErrorCode.coordinator_not_available, ErrorCode.concurrent_transactions)


def again(ask: Any, *what: Any, **more: Any) -> Any:
    """Repeats while the answer, or its error_code, says so."""
    for _ in range(10_000):
        answer = ask(*what, **more)
        if getattr(answer, "error_code", answer) not in AGAIN:
            return answer
    raise AssertionError("told to repeat for ever")


@pytest.mark.parametrize(
    "failpoints",
    [
        "transactions.before_append=enospc@2-4;groups.before_append=enospc@1-2;producer_ids.before_claim=enospc@1-3",
        "transactions.synced=error@2-6;transactions.rows_synced=error@1-2;groups.offsets_synced=error@1-2",
        "transactions.prepare_synced=error@1-1;transactions.marker_written=error@3-3;log.append_before_write=enospc@2-4",
        "transactions.after_append=error@3-5;transactions.markers_synced=enospc@1-1",
    ],
)
def test_a_transaction_gets_through(tmp_path: Path, failpoints: str) -> None:
    with LiveBroker(tmp_path / "data", failpoints=failpoints) as live, live.client() as client:
        client.create("t", 2)
        for turn in range(2):
            started = again(initialize, client, "x")
            tx = Handle(client, "x", started.producer_id, started.producer_epoch)
            assert again(tx.add, ("t", 0), ("t", 1)) == 0
            produced = tx.produce("t", b"a")
            while produced == ErrorCode.kafka_storage_error:
                produced = tx.produce("t", b"a")
            assert produced == 0
            assert again(tx.add_group, "g") == 0
            assert again(tx.commit_offsets, "g", "t", turn) == 0
            assert again(tx.end, True) == 0
            while tx.end(True) == ErrorCode.concurrent_transactions:
                pass
        assert stable_end(client, "t") >= 4
        assert committed(client, "g", stable=True) == [(1, 0)]


def test_a_member_gets_its_share(tmp_path: Path) -> None:
    failpoints = "groups.before_append=enospc@1-3;groups.after_append=error@2-2;groups.synced=error@1-2"
    with LiveBroker(tmp_path / "data", failpoints=failpoints) as live, live.client() as client:
        client.create("t", 1)
        joined = again(join, client, "g")
        assert joined.error_code == 0
        synced = again(sync, client, "g", joined)
        assert (synced.error_code, synced.assignment) == (0, b"all")
