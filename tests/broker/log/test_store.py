"""Topics and the data directory: what is there after which stop, and what is refused."""

import os
import uuid
from dataclasses import replace

import pytest

from tailrace.broker.log import checkpoints, meta
from tailrace.broker.log.config import LogConfig
from tailrace.broker.log.errors import NewerDataDirectory, TopicExists
from tailrace.broker.log.store import LogStore
from tailrace.errors import Corrupt, Locked
from tailrace.failpoint import arm
from tests.support.batches import numbered, plain, values


@pytest.fixture
def started(tmp_path, clock):
    stores = []

    def start(**config) -> LogStore:
        defaults = replace(LogConfig(segment_bytes=300, retention_ms=-1), **config)
        store = LogStore(str(tmp_path / "a" / "data"), clock=clock, defaults=defaults)
        stores.append(store)
        store.open()
        return store

    yield start
    arm("")
    for store in stores:
        store.abandon()


def test_topics_and_their_rows_come_back(started):
    store = started()
    topic = store.create("t", 3, {"retention.ms": "5000"})
    topic.partitions[2].append(plain(b"a"))
    store.close()
    again = started()
    found = again.topic("t")
    assert (found.id, found.config, len(found.partitions)) == (topic.id, {"retention.ms": "5000"}, 3)
    assert again.topic_by_id(topic.id).name == "t"
    assert values(again.log("t", 2)) == [b"a"]
    assert again.log("t", 2).config.retention_ms == 5000
    assert again.cluster_id == store.cluster_id
    assert (again.log("t", 3), again.log("u", 0), again.topic("u"), again.topic_by_id(uuid.uuid4())) == (
        None,
    ) * 4


def test_a_clean_stop_is_known_and_counts_once(started):
    store = started()
    store.create("t", 1)
    store.close()
    again = started()
    assert (again.unclean, again.log("t", 0).leader_epoch) == (False, 0)
    again.abandon()
    third = started()
    assert (third.unclean, third.log("t", 0).leader_epoch) == (True, 1)


def test_a_first_start_is_not_an_unclean_one(started):
    assert not started().unclean


def test_the_directory_has_kafkas_files(started, tmp_path):
    store = started()
    topic = store.create("t", 1)
    topic.partitions[0].append(plain(b"a"))
    store.close()
    data = tmp_path / "a" / "data"
    assert (
        data / "t-0" / "partition.metadata"
    ).read_text() == f"version: 0\ntopic_id: {meta.to_text(topic.id)}"
    assert (data / "t-0" / "leader-epoch-checkpoint").read_text() == "0\n1\n0 0\n"
    assert (data / "recovery-point-offset-checkpoint").read_text() == "0\n1\nt 0 1\n"
    assert f"cluster.id={store.cluster_id}\n" in (data / "meta.properties").read_text()
    assert "version=1\n" in (data / "meta.properties").read_text()
    assert (data / ".kafka_cleanshutdown").exists()


def test_a_topic_is_refused_twice_and_with_a_bad_name_or_setting(started):
    store = started()
    store.create("t", 1)
    with pytest.raises(TopicExists):
        store.create("t", 2)
    for name in ("", ".", "..", "a/b", "a b", "x" * 250):
        with pytest.raises(ValueError, match="is no topic name"):
            store.create(name, 1)
    with pytest.raises(ValueError, match=r"retention\.ms='soon'"):
        store.create("u", 1, {"retention.ms": "soon"})
    with pytest.raises(ValueError, match="needs a partition"):
        store.create("u", 0)
    assert set(store.topics()) == {"t"}


def test_partitions_are_added_and_settings_replaced(started):
    store = started()
    store.create("t", 1)
    assert len(store.add_partitions("t", 3).partitions) == 3
    with pytest.raises(ValueError, match="3 partitions already"):
        store.add_partitions("t", 3)
    store.alter("t", {"max.message.bytes": "77"})
    assert [log.config.max_message_bytes for log in store.topic("t").partitions] == [77] * 3
    store.abandon()
    again = started()
    assert (len(again.topic("t").partitions), again.topic("t").config) == (3, {"max.message.bytes": "77"})


def test_a_topic_made_anew_has_another_id_and_no_old_rows(started, tmp_path):
    store = started()
    first = store.create("t", 1)
    for i in range(6):
        first.partitions[0].append(plain(b"%d" % i * 80))
    first.partitions[0].flush()
    first.partitions[0].delete_before(4)
    held = first.partitions[0].read(4, 1 << 20, 6)
    store.delete("t")
    assert store.topic("t") is None
    second = store.create("t", 1)
    assert second.id != first.id
    assert b"44444" in held.read()
    store.housekeeping()
    assert not [p for p in (tmp_path / "a" / "data").iterdir() if p.name.endswith("-delete")]
    store.abandon()
    again = started()
    assert again.topic("t").id == second.id
    assert (again.log("t", 0).log_start, values(again.log("t", 0))) == (0, [])
    with pytest.raises(OSError, match="closed"):
        first.partitions[0].append(plain(b"x"))


def test_work_on_a_deleted_topic_never_touches_its_successor(started):
    store = started(compact=True, min_cleanable_dirty_ratio=0.0)
    old = store.create("t", 1).partitions[0]
    for _ in range(8):
        old.append(plain(b"x" * 80))
    old.flush()
    store.delete("t")
    new = store.create("t", 1).partitions[0]
    for i in range(8):
        new.append(plain(b"%d" % i * 80))
    with pytest.raises(OSError, match="closed"):
        old.delete_before(7)
    assert not old.compact(0)
    old.close()
    new.flush()
    store.abandon()
    assert values(started().log("t", 0)) == [b"%d" % i * 80 for i in range(8)]


def test_log_starts_and_recovery_points_survive_a_crash(started, clock):
    store = started()
    log = store.create("t", 1).partitions[0]
    for i in range(10):
        log.append(plain(b"%d" % i * 80))
    log.flush()
    log.delete_before(5)
    store.checkpoint()
    store.abandon()
    points = checkpoints.read(store.data_dir, checkpoints.RECOVERY_POINT)
    assert points[("t", 0)] >= 8
    assert started().log("t", 0).log_start == 5


def test_housekeeping_goes_on_past_a_log_that_fails(started, clock):
    store = started(retention_ms=1000)
    for name in ("a", "b"):
        for _ in range(5):
            store.create(name, 1) if store.topic(name) is None else None
            store.log(name, 0).append(plain(b"x" * 200, timestamp=clock.now_ms()))
    clock.advance(60)
    arm("log.delete_before_unlink=error@1-1")
    with pytest.raises(OSError, match="failpoint"):
        store.housekeeping()
    assert store.log("b", 0).log_start == 5
    store.housekeeping()
    assert store.log("a", 0).size == 0


def test_a_second_store_on_the_same_directory_is_refused(started):
    started()
    with pytest.raises(Locked, match="in use by another process"):
        started()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("meta.properties", "version=2\ncluster.id=x\n"),
        ("meta.properties", "version=1\ntailrace.format=9\ncluster.id=x\n"),
        ("tailrace-topics.json", '{"version": 2}'),
    ],
)
def test_a_directory_of_a_newer_version_is_refused_and_left_alone(started, tmp_path, file, text):
    started().close()
    path = tmp_path / "a" / "data" / file
    path.write_text(text)
    with pytest.raises(NewerDataDirectory, match="made by a newer version"):
        started()
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("meta.properties", "version=1\n", "no cluster.id"),
        ("tailrace-topics.json", "{", "remove it and the topics are found again"),
        (
            "tailrace-topics.json",
            '{"version":1,"topics":{"../x":{"id":"0","partitions":1,"config":{}}},"going":[]}',
            "damaged",
        ),
        ("t-0/partition.metadata", "version: 0\ntopic_id: short", "damaged"),
    ],
)
def test_damaged_files_are_named_with_a_remedy(started, tmp_path, file, text, said):
    store = started()
    store.create("t", 1)
    store.close()
    (tmp_path / "a" / "data" / file).write_text(text)
    with pytest.raises(Corrupt, match=said):
        started()


def test_without_the_catalogue_topics_are_found_by_their_directories(started, tmp_path):
    store = started()
    topic = store.create("my-topic.x", 2)
    topic.partitions[1].append(numbered(1, 0, 0, b"a"))
    store.close()
    (tmp_path / "a" / "data" / "tailrace-topics.json").unlink()
    again = started()
    assert again.topic("my-topic.x").id == topic.id
    assert values(again.log("my-topic.x", 1)) == [b"a"]


def test_a_partition_of_another_topic_id_is_not_taken_for_ours(started, tmp_path):
    store = started()
    store.create("t", 1)
    store.close()
    meta.write_partition(store._fs, str(tmp_path / "a" / "data" / "t-0"), uuid.uuid4())
    with pytest.raises(Corrupt, match="another topic id"):
        started()


def test_a_full_disk_while_creating_leaves_no_topic_behind(started):
    store = started()
    arm("store.create_directory=enospc@2")
    with pytest.raises(OSError, match="No space"):
        store.create("t", 3)
    arm("")
    assert store.topic("t") is None
    assert len(store.create("t", 1).partitions) == 1
    store.housekeeping()
    store.abandon()
    assert len(started().topic("t").partitions) == 1


def test_a_full_disk_while_adding_partitions_keeps_those_there_were(started):
    store = started()
    store.create("t", 1)
    arm("store.create_directory=enospc@2")
    with pytest.raises(OSError, match="No space"):
        store.add_partitions("t", 4)
    arm("")
    assert len(store.topic("t").partitions) == 1
    assert len(store.add_partitions("t", 2).partitions) == 2
    store.abandon()
    assert len(started().topic("t").partitions) == 2


def test_dirty_logs_are_flushed_together_and_failures_are_told(started):
    store = started()
    logs = store.create("t", 3).partitions
    for log in logs[:2]:
        log.append(plain(b"a"))
    arm("log.flush_before_sync=error@1-1")
    failed = store.flush_dirty()
    assert [log for log, _ in failed] == [logs[0]]
    assert [log.flushed for log in logs] == [0, 1, 0]
    assert store.flush_dirty() == []


def test_a_log_that_failed_leaves_no_clean_marker(started):
    store = started()
    store.create("t", 1).partitions[0].append(plain(b"a"))
    arm("log.flush_before_sync=error")
    store.flush_dirty()
    arm("")
    store.close()
    assert not os.path.exists(os.path.join(store.data_dir, ".kafka_cleanshutdown"))
    assert started().unclean


def test_closing_twice_is_fine(started):
    store = started()
    store.close()
    store.close()
