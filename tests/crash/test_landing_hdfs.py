"""Landing on a real HDFS with its ledger in a real PostgreSQL: killed at each failpoint, namenode restarted."""

import shutil
import signal
import uuid

import psycopg
import pytest

from tests.support.hdfs_server import running_hdfs
from tests.support.lander import GroupFile, Plan, drive, make_sink, spawn, wait
from tests.support.landing_invariants import Landing
from tests.support.landing_stream import partitions
from tests.support.postgres import running_postgres
from tests.support.source_places import failpoints

pytestmark = pytest.mark.interop

NAMES = failpoints("sinks/stores/webhdfs.py")
NAMES += ["landing.staged", "landing.before_decide", "landing.after_decide", "landing.after_publish"]
NAMES += ["ledger.decide.before_commit", "ledger.decide.commit_reply", "publish.before_unstage"]


@pytest.fixture(scope="module")
def hdfs(tmp_path_factory):
    with running_hdfs(tmp_path_factory.mktemp("hdfs")) as server:
        yield server


@pytest.fixture(scope="module")
def postgres():
    with running_postgres() as server:
        yield server


@pytest.fixture
def plan(tmp_path, hdfs, postgres):
    name = f"l{uuid.uuid4().hex}"
    return Plan(
        tmp_path,
        seed=int(name[-4:], 16),
        root=f"{hdfs.url}/{name}/lake",
        ledger=postgres.create_database(name),
        every=5,
        settings={"path": f"{hdfs.url}/{name}/lake/dt=%Y-%m-%d", "user": "root", "timeout": "10s"},
    )


@pytest.fixture
def landing(plan, hdfs):
    def query(sql: str):
        with psycopg.connect(plan.ledger) as connection:
            try:
                return connection.execute(sql).fetchall()
            except psycopg.errors.UndefinedTable:
                return []

    def mirror() -> None:
        shutil.rmtree(plan.directory / "mirror", ignore_errors=True)
        root = plan.root.removeprefix(hdfs.url)
        client = hdfs.client()
        if client.status(root, strict=False) is None:
            return
        for place, _, files in client.walk(root):
            local = plan.directory / "mirror" / place.removeprefix(root).lstrip("/")
            local.mkdir(parents=True, exist_ok=True)
            for name in files:
                with client.read(f"{place}/{name}") as reader:
                    (local / name).write_bytes(reader.read())

    visible = {
        (one.partition.kind, one.partition.id, one.partition.number): {
            row.position: (row.body, row.dead) for row in one.visible.values()
        }
        for one in partitions(plan.kind, plan.seed)
    }
    return Landing(plan.directory / "mirror", query, visible, url=plan.root, mirror=mirror)


def recover_and_check(plan, landing, before):
    for _ in range(2):
        sink = make_sink(plan)
        drive(plan, sink)
        sink.close()
        group = GroupFile(plan.directory / "group.json").load()
        faults = landing.faults_recovered(group) + before.faults_after(landing.snapshot())
        assert not faults, "\n".join(faults)


@pytest.mark.parametrize("killed_at", NAMES)
def test_sigkill_keeps_the_nine_invariants(plan, landing, killed_at):
    child = spawn(Plan(**{**plan.__dict__, "failpoints": f"{killed_at}=kill@2"}))
    assert wait(child) == -signal.SIGKILL, plan.outcome.read_text()
    assert landing.faults_now() == []
    recover_and_check(plan, landing, landing.snapshot())


def test_a_namenode_in_safe_mode_is_waited_for(plan, landing, hdfs):
    sink = make_sink(plan)
    sink.open()
    hdfs.safe_mode(True)
    try:
        with pytest.raises(Exception, match=r"(?i)safe ?mode"):
            drive(plan, sink)
        assert "afe mode" in sink.problems()[0].text
        assert landing.faults_now() == []
    finally:
        hdfs.safe_mode(False)
    sink.close()
    recover_and_check(plan, landing, landing.snapshot())


def test_a_namenode_that_dies_in_the_middle_is_waited_for(plan, landing, hdfs):
    child = spawn(Plan(**{**plan.__dict__, "failpoints": "store.webhdfs.after_rename=kill@4"}))
    assert wait(child) == -signal.SIGKILL
    hdfs.kill()
    sink = make_sink(plan)
    try:
        with pytest.raises(Exception, match=r"webhdfs://127\.0\.0\.1"):
            drive(plan, sink)
    finally:
        hdfs.start()
        sink.close()
    recover_and_check(plan, landing, landing.snapshot())


def test_a_file_landed_on_hdfs_reads_back_as_it_was(plan, landing):
    drive(plan, make_sink(plan))
    assert landing.faults_recovered(GroupFile(plan.directory / "group.json").load()) == []
