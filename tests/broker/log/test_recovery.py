"""What recovery makes of torn tails, damage, missing indexes and interrupted steps."""

import pytest

from tailrace.broker.log.names import file_path
from tailrace.broker.log.recovery import Start
from tailrace.errors import Corrupt
from tests.support.batches import plain, read_all, values

SIZE = len(plain(b"00" * 20))


def filled(opened, count=20, **config):
    log = opened(segment_bytes=400, index_interval_bytes=100, **config)
    for i in range(count):
        log.append(plain(b"%02d" % i * 20))
    log.flush()
    log.abandon()
    return log


def again(opened, start=None):
    return opened(start or Start(), segment_bytes=400, index_interval_bytes=100)


@pytest.mark.parametrize("cut", [1, 50, SIZE, SIZE + 1, SIZE + 50])
def test_a_torn_tail_is_cut_at_the_last_whole_batch(opened, cut):
    log = filled(opened)
    path = file_path(log.directory, log.bases[-1], ".log")
    with open(path, "r+b") as file:
        size = file.seek(0, 2)
        file.truncate(max(0, size - cut))
    found = again(opened)
    whole = size - cut >= 0 and (size - cut) // SIZE
    assert found.leo == log.bases[-1] + whole
    assert values(found) == [b"%02d" % i * 20 for i in range(found.leo)]
    assert found.append(plain(b"on")).first_offset == found.leo - 1


def test_garbage_behind_the_last_batch_is_cut_also_after_a_clean_stop(opened):
    log = filled(opened)
    for start in (Start(clean=True), Start()):
        with open(file_path(log.directory, log.bases[-1], ".log"), "ab") as file:
            file.write(b"\0" * 5000)
        found = again(opened, start)
        assert (found.leo, len(values(found))) == (20, 20)
        assert found.cuts
        found.close()


def test_the_log_ends_before_the_first_bad_batch_and_later_segments_go(opened, tmp_path):
    log = filled(opened)
    path = file_path(log.directory, log.bases[2], ".log")
    with open(path, "r+b") as file:
        file.seek(SIZE + 80)
        file.write(b"\xff")
    found = again(opened)
    assert found.leo == log.bases[2] + 1
    assert values(found) == [b"%02d" % i * 20 for i in range(found.leo)]
    assert {p.name for p in tmp_path.rglob("*.log")} == {f"{b:020d}.log" for b in log.bases[:3]}


@pytest.mark.parametrize("field", [(0, 8), (12, 4)], ids=["offset", "leader epoch"])
def test_damage_outside_the_crc_is_seen_as_well(opened, field):
    log = filled(opened)
    at, size = field
    with open(file_path(log.directory, log.bases[-1], ".log"), "r+b") as file:
        file.seek(SIZE + at)
        file.write(b"\x00" + b"\x77" * (size - 1))
    assert again(opened).leo == log.bases[-1] + 1


def test_nothing_below_the_recovery_point_is_scanned_or_cut(opened):
    log = filled(opened)
    path = file_path(log.directory, log.bases[1], ".log")
    with open(path, "r+b") as file:
        file.seek(80)
        file.write(b"\xff")
    found = again(opened, Start(recovery_point=20))
    assert found.leo == 20
    with pytest.raises(Corrupt):
        read_all(found)


def test_rows_missing_between_segments_end_the_log(opened):
    log = filled(opened)
    path = file_path(log.directory, log.bases[1], ".log")
    with open(path, "r+b") as file:
        file.truncate(SIZE)
    assert again(opened).leo == log.bases[1] + 1


def test_lost_and_damaged_indexes_are_made_again(opened, tmp_path):
    log = filled(opened)
    log = again(opened)
    log.close()
    files = sorted((tmp_path / "t-0").glob("*.*index"))
    assert len(files) > 8
    for i, path in enumerate(files):
        path.unlink() if i % 2 else path.write_bytes(b"\0" * 100)
    found = again(opened, Start(clean=True))
    assert values(found) == [b"%02d" % i * 20 for i in range(20)]
    assert found.offset_for_time(0) is not None


def test_kafkas_preallocated_indexes_of_a_crashed_broker_are_made_again(opened, tmp_path):
    log = filled(opened)
    for path in (tmp_path / "t-0").glob("*.*index"):
        path.write_bytes(path.read_bytes() + bytes(1 << 16))
    found = again(opened, Start(recovery_point=log.leo))
    assert [values(found, start=i)[0] for i in range(20)] == [b"%02d" % i * 20 for i in range(20)]


def test_recovering_twice_is_recovering_once(opened):
    log = filled(opened)
    with open(file_path(log.directory, log.bases[-1], ".log"), "ab") as file:
        file.write(b"junk" * 100)
    first = again(opened)
    rows, epoch = values(first), first.leader_epoch
    first.abandon()
    second = again(opened)
    assert (values(second), second.cuts) == (rows, [])
    assert second.leader_epoch == epoch + 1


def test_every_unclean_start_is_a_new_leader_epoch_that_is_never_used_again(opened):
    epochs = []
    for i in range(4):
        log = opened()
        epochs.append(log.leader_epoch)
        if i % 2:
            log.append(plain(b"x"))
        log.abandon()
    assert epochs == [0, 1, 2, 3]


def test_a_lost_epoch_checkpoint_is_read_from_the_batches(opened, tmp_path):
    log = opened()
    log.append(plain(b"a"))
    log.append(plain(b"b"), leader_epoch=4)
    log.abandon()
    (tmp_path / "t-0" / "leader-epoch-checkpoint").unlink()
    found = opened()
    assert found.leader_epoch == 5
    assert found.epoch_end(2) == (0, 1)


def test_a_damaged_epoch_checkpoint_is_named(opened, tmp_path):
    opened().close()
    (tmp_path / "t-0" / "leader-epoch-checkpoint").write_text("0\n9\nx\n")
    with pytest.raises(Corrupt, match="leader-epoch-checkpoint is damaged; remove it"):
        opened()


def test_leftovers_of_interrupted_steps_are_swept(opened, tmp_path):
    log = filled(opened)
    directory = tmp_path / "t-0"
    for name in ("00000000000000000000.log.cleaned", "00000000000000000000.index.swap", "x.new"):
        (directory / name).write_bytes(b"?")
    (directory / "00000000000000000777.index").write_bytes(b"")
    (directory / "00000000000000000000.log.deleted").write_bytes(b"?")
    found = again(opened)
    assert len(values(found)) == 20
    assert not [
        p
        for p in directory.iterdir()
        if p.suffix in (".cleaned", ".swap", ".new", ".deleted") or "777" in p.name
    ]
    assert found.leo == log.leo


def test_a_record_batch_larger_than_every_window_is_read_and_recovered(opened):
    log = opened()
    large = bytes(range(256)) * 4096 * 5
    log.append(plain(b"first"))
    log.append(plain(large))
    log.append(plain(b"last"))
    log.flush()
    log.abandon()
    assert values(opened()) == [b"first", large, b"last"]
