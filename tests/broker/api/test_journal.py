"""The coordinators' logs: compacted, they still say the same; from elsewhere, they are read as they are."""

import asyncio
import random
from pathlib import Path

import pytest

from tailrace.broker.api import groups, transactions
from tailrace.broker.api.journal import CONFIG, OFFSETS_TOPIC, TRANSACTIONS_TOPIC
from tailrace.broker.coordinator.commit import CommitRequest
from tailrace.broker.coordinator.partition import coordinator_partition
from tailrace.broker.wire.errors import ErrorCode
from tailrace.clock import SystemClock
from tailrace.errors import Corrupt
from tailrace.fs import LocalFileSystem
from tests.support.batches import keyed
from tests.support.txn_history import TOPIC, Coordinators, Model


async def state_of(coordinators: Coordinators) -> dict[str, object]:
    """Everything that replay restores, in a form that can be compared."""
    found: dict[str, object] = {}
    for name in [f"g{i}" for i in range(6)] + ["ada", "bob"]:
        found[name] = (await coordinators.groups.fetch(name, None, require_stable=True)).offsets
    for shard in coordinators.transactions._shards:
        for txn in shard.coordinator.transactions():
            found["txn " + txn.transactional_id] = txn
    return found


async def open_on(directory: Path, seed: int = 1) -> Coordinators:
    coordinators = Coordinators(str(directory / "data"), LocalFileSystem(), Model(), seed)
    await coordinators.load()
    return coordinators


@pytest.mark.parametrize("seed", range(3))
def test_compaction_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    small = CONFIG | {"segment.bytes": "3000", "min.cleanable.dirty.ratio": "0"}
    monkeypatch.setattr(groups, "CONFIG", small)
    monkeypatch.setattr(transactions, "CONFIG", small)

    async def main() -> None:
        coordinators = await open_on(tmp_path, seed)
        chance = random.Random(seed)

        async def plain_commits() -> None:
            for turn in range(150):
                name = f"g{chance.randrange(6)}"
                offsets = {(TOPIC, chance.randrange(3)): (turn, -1, "")}
                errors = await coordinators.groups.commit(CommitRequest(name, "", None, -1, offsets))
                assert set(errors.values()) == {ErrorCode.none}

        await asyncio.gather(coordinators.work(25), plain_commits())
        await coordinators.settle()
        before = await state_of(coordinators)
        for topic in (OFFSETS_TOPIC, TRANSACTIONS_TOPIC):
            log = coordinators.broker.log(topic, 0)
            size = log.size
            log.roll()
            log.flush()
            coordinators.store.checkpoint()
            assert log.compact(SystemClock().now_ms())
            assert log.size < size
        await coordinators.abandon()
        again = await open_on(tmp_path)
        after = await state_of(again)
        for name, value in before.items():
            if name.startswith("txn "):
                assert value.partitions == after[name].partitions, name
                assert (value.state, value.epoch) == (after[name].state, after[name].epoch), name
            else:
                assert dict(value) == dict(after[name]), name
        await again.abandon()

    asyncio.run(main())


def test_a_directory_with_fifty_partitions_is_read_as_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        first = Coordinators(str(tmp_path / "data"), LocalFileSystem(), Model(), 1)
        await first.broker.ensure_topic(OFFSETS_TOPIC, 50, CONFIG)
        await first.load()
        places = {(TOPIC, 0): (7, -1, "")}
        for name in ("g0", "g1", "g2"):
            await first.groups.commit(CommitRequest(name, "", None, -1, places))
            assert first.broker.log(OFFSETS_TOPIC, coordinator_partition(name, 50)).leo > 0
        await first.abandon()
        again = await open_on(tmp_path)
        for name in ("g0", "g1", "g2"):
            fetched = await again.groups.fetch(name, None, require_stable=True)
            assert [answer.offset for _, answer in fetched.offsets] == [7]
        await again.abandon()

    asyncio.run(main())


@pytest.mark.parametrize("topic", [OFFSETS_TOPIC, TRANSACTIONS_TOPIC])
@pytest.mark.parametrize(
    ("key", "value"),
    [(b"\0", b""), (b"\0\0\0\5x", b"\0\0"), (b"\0\0\0\1x\0\1t\0\0\0\0", b"\0\x09"), (b"\0\0\0\1x", b"\0\0")],
)
def test_a_record_that_makes_no_sense_stops_the_start_and_says_where(
    tmp_path: Path, topic: str, key: bytes, value: bytes
) -> None:
    async def main() -> None:
        first = await open_on(tmp_path)
        first.broker.append(first.broker.log(topic, 0), keyed([(key, value)]))
        await first.abandon()
        again = Coordinators(str(tmp_path / "data"), LocalFileSystem(), Model(), 1)
        with pytest.raises(Corrupt, match=f"{topic}-0, batch at offset 0"):
            await again.load()
        again.store.abandon()

    asyncio.run(main())


def test_records_of_a_kind_not_known_here_are_passed_over(tmp_path: Path) -> None:
    async def main() -> None:
        first = await open_on(tmp_path)
        newer = [(b"\0\x03\0\1g", b"\0\0..."), (b"\0\x08\0\1g", None), (b"\0\x7f", b"?")]
        first.broker.append(first.broker.log(OFFSETS_TOPIC, 0), keyed(newer))
        first.broker.append(first.broker.log(TRANSACTIONS_TOPIC, 0), keyed([(b"\0\x05?", b"?")]))
        await first.abandon()
        again = await open_on(tmp_path)
        await again.abandon()

    asyncio.run(main())
