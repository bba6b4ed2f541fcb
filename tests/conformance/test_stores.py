"""What every landing store must do: the local one always, a real HDFS over WebHDFS in the interop run."""

import os
import uuid

import pytest

from tailrace.fs import LocalFileSystem
from tailrace.sinks.stores.local import LocalStore
from tailrace.sinks.stores.store import StoreError
from tailrace.sinks.stores.webhdfs import WebHdfsStore
from tests.support.hdfs_server import running_hdfs


@pytest.fixture(scope="module")
def hdfs(tmp_path_factory):
    with running_hdfs(tmp_path_factory.mktemp("hdfs")) as server:
        yield server


@pytest.fixture(params=["local", pytest.param("webhdfs", marks=pytest.mark.interop)])
def store(request, tmp_path):
    if request.param == "local":
        made = LocalStore(LocalFileSystem())
        made.open(f"{tmp_path}/lake")
        made.root = f"{tmp_path}/lake"
    else:
        server = request.getfixturevalue("hdfs")
        made = WebHdfsStore(
            f"127.0.0.1:{server.http}",
            user="root",
            timeout=10,
            spool=tmp_path / "spool",
            fs=LocalFileSystem(),
        )
        made.root = f"/{uuid.uuid4().hex}/lake"
        made.open(made.root)
    yield made
    made.close()


def stage(store, name, data):
    staging = store.stage(f"{store.root}/_staging/{name}")
    for at in range(0, len(data), 1000):
        staging.write(memoryview(data)[at : at + 1000])
    assert staging.size == len(data)
    return staging


DATA = os.urandom(2_500_000)


def test_a_staged_file_is_found_by_size_and_checksum(store):
    sealed = stage(store, "a", DATA).seal()
    assert store.look(sealed.path) == sealed.look
    assert sealed.look.size == len(DATA)
    assert store.read(sealed.path, 10) == DATA[:10]
    assert store.read(sealed.path, 100, len(DATA) - 7) == DATA[-7:]
    other = stage(store, "b", DATA[:-1] + b"x").seal()
    assert other.look.checksum != sealed.look.checksum
    assert stage(store, "c", DATA).seal().look == sealed.look


def test_publishing_makes_the_directories_and_never_overwrites(store):
    one, two = stage(store, "a", b"one").seal(), stage(store, "b", b"two").seal()
    final = f"{store.root}/dt=2026-01-01/h%20x=1/f.parquet"
    store.publish(one.path, final)
    store.sync([final])
    assert store.look(final) == one.look
    assert store.publish(two.path, final) is False
    assert store.look(final) == one.look
    assert store.look(two.path) == two.look


def test_publishing_twice_or_what_is_not_there_changes_nothing(store):
    one = stage(store, "a", b"one").seal()
    final = f"{store.root}/f.parquet"
    store.publish(one.path, final)
    store.remove(one.path)
    store.remove(one.path)
    store.publish(one.path, final)
    assert store.look(final) == one.look
    try:
        store.publish(f"{store.root}/_staging/none", f"{store.root}/g.parquet")
    except OSError:
        pass  # it may say so, but only a look counts
    assert store.look(f"{store.root}/g.parquet") is None


def test_a_file_is_never_moved_into_a_directory_of_its_name(store):
    one, two = stage(store, "a", b"one").seal(), stage(store, "b", b"two").seal()
    store.publish(one.path, f"{store.root}/x/f.parquet")
    try:
        store.publish(two.path, f"{store.root}/x")
    except OSError:
        pass
    assert [entry.name for entry in store.entries(f"{store.root}/x")] == ["f.parquet"]


def test_a_look_at_a_directory_or_nothing_finds_no_file(store):
    stage(store, "a", b"one").seal()
    assert store.look(f"{store.root}/nothing") is None
    assert store.entries(f"{store.root}/nothing") == []
    assert store.read(f"{store.root}/nothing", 5) is None


def test_a_tree_is_removed_as_a_whole(store):
    stage(store, "t/1/a", b"one").seal()
    stage(store, "t/1/b", b"two").seal()
    store.remove_tree(f"{store.root}/_staging/t")
    store.remove_tree(f"{store.root}/_staging/t")
    assert store.entries(f"{store.root}/_staging/t") == []
    again = stage(store, "t/1/a", b"three").seal()
    assert store.look(again.path) == again.look


def test_a_directory_that_somebody_removed_is_made_again(store):
    one, two = stage(store, "a", b"one").seal(), stage(store, "b", b"two").seal()
    store.publish(one.path, f"{store.root}/d/e/f.parquet")
    store.remove_tree(f"{store.root}/d")
    store.publish(two.path, f"{store.root}/d/e/f.parquet")
    store.publish(two.path, f"{store.root}/d/e/f.parquet")
    assert store.look(f"{store.root}/d/e/f.parquet") == two.look


def test_what_is_discarded_is_gone(store):
    staging = stage(store, "a", b"one")
    staging.discard()
    sealed = stage(store, "b", b"two")
    sealed.seal()
    sealed.discard()
    assert [entry.name for entry in store.entries(f"{store.root}/_staging") if not entry.is_directory] == []


def test_a_marker_is_made_once(store):
    assert store.create(f"{store.root}/_tailrace", b"mine") is True
    assert store.create(f"{store.root}/_tailrace", b"yours") is False
    assert store.read(f"{store.root}/_tailrace", 100) == b"mine"
    assert [entry.name for entry in store.entries(store.root)] == ["_tailrace"]


def test_entries_tell_files_from_directories(store):
    stage(store, "d/a", b"one").seal()
    stage(store, "b", b"four").seal()
    found = [
        (entry.name, entry.is_directory, entry.size) for entry in store.entries(f"{store.root}/_staging")
    ]
    assert found == [("b", False, 4), ("d", True, 0)]


def test_nobody_answering_is_an_error_with_the_place_and_no_retry(tmp_path):
    store = WebHdfsStore("127.0.0.1:1", user="root", timeout=2, spool=tmp_path / "s", fs=LocalFileSystem())
    with pytest.raises(StoreError, match=r"MKDIRS webhdfs://127\.0\.0\.1:1/lake"):
        store.open("/lake")
    store.close()
