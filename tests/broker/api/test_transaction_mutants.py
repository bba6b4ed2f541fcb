"""The histories must fail when one step of the order on disk is left out: each mutant leaves out one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tailrace.broker.api.producer_ids import ProducerIdFile
from tailrace.broker.api.transactions import Transactions
from tailrace.broker.coordinator.transactions import TransactionCoordinator
from tailrace.broker.wire.errors import ErrorCode
from tests.broker.api.test_transaction_histories import history

SEEDS = 60


def rows_are_not_synced_before_prepare(patch: pytest.MonkeyPatch) -> None:
    async def commit(self, shard, transactional_id, places):
        self._append(shard, shard.coordinator.prepare(transactional_id, self._now()))
        return await self._when_synced(shard, ErrorCode.none, ErrorCode.coordinator_not_available)

    patch.setattr(Transactions, "_commit", commit)


def markers_are_not_synced_before_complete(patch: pytest.MonkeyPatch) -> None:
    async def finish(self, shard, markers):
        await shard.journal.synced()
        _write_markers(self, shard, markers)
        self._append(shard, shard.coordinator.complete(markers.transactional_id, self._now()))

    patch.setattr(Transactions, "_finish", finish)


def prepare_is_not_synced_before_markers(patch: pytest.MonkeyPatch) -> None:
    async def finish(self, shard, markers):
        _write_markers(self, shard, markers)
        await self._markers.synced(markers.partitions)
        self._append(shard, shard.coordinator.complete(markers.transactional_id, self._now()))

    patch.setattr(Transactions, "_finish", finish)


def answers_do_not_wait_for_the_disk(patch: pytest.MonkeyPatch) -> None:
    async def when_synced(self, shard, answer, refused):
        return answer

    patch.setattr(Transactions, "_when_synced", when_synced)


def producer_ids_are_not_claimed_on_disk(patch: pytest.MonkeyPatch) -> None:
    async def claim(self):
        self._ids.claimed(self._ids.claim())

    patch.setattr(ProducerIdFile, "_claim", claim)


def a_restart_forgets_what_is_prepared(patch: pytest.MonkeyPatch) -> None:
    resume = TransactionCoordinator.resume

    def without_markers(self, now):
        resume(self, now)
        return []

    patch.setattr(TransactionCoordinator, "resume", without_markers)


def rows_are_admitted_from_anybody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Transactions, "admits", lambda self, *_: ErrorCode.none)


def _write_markers(self, shard, markers) -> None:
    epoch = shard.journal.log.leader_epoch
    for place in sorted(markers.partitions):
        self._markers.write(
            place, markers.producer_id, markers.epoch, commit=markers.commit, coordinator_epoch=epoch
        )


MUTANTS = [
    rows_are_not_synced_before_prepare,
    markers_are_not_synced_before_complete,
    answers_do_not_wait_for_the_disk,
    producer_ids_are_not_claimed_on_disk,
    a_restart_forgets_what_is_prepared,
    rows_are_admitted_from_anybody,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_histories_catch(
    mutant: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    for seed in range(SEEDS):
        try:
            history(tmp_path / str(seed), seed)
        except Exception:  # noqa: BLE001 - whatever shows the fault
            return
    pytest.fail(f"{SEEDS} histories did not notice")


@pytest.mark.soak
def test_the_histories_catch_a_prepare_that_is_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_is_not_synced_before_markers(monkeypatch)
    for seed in range(600):
        try:
            history(tmp_path / str(seed), seed)
        except AssertionError:
            return
    pytest.fail("600 histories did not notice")
