"""The broker as a process: its ready line, its exit statuses, and how it ends."""

import json
import os
import select
import signal
import socket
import subprocess
import sys

import pytest

from tailrace.broker.wire.messages import request
from tests.support.batches import plain
from tests.support.live_broker import LiveBroker
from tests.support.wire_client import WireClient


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tailrace.broker", *arguments], capture_output=True, text=True, timeout=30
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_and_the_next_start_needs_no_recovery(tmp_path, number: int) -> None:
    with LiveBroker(tmp_path / "data") as broker, broker.client() as client:
        client.create("t")
        assert client.produce("t", plain(b"a"), acks=1).error == 0
        broker.process.send_signal(number)
        assert broker.process.wait(20) == 0
    assert (tmp_path / "data" / ".kafka_cleanshutdown").exists()
    with LiveBroker(tmp_path / "data") as again, again.client() as client:
        assert client.fetch("t", 0).high_watermark == 1
        assert client.call(3, 12, topics=[{"name": "t"}]).topics[0].partitions[0].leader_epoch == 0


def test_a_waiting_fetch_is_answered_when_the_broker_stops(tmp_path) -> None:
    with LiveBroker(tmp_path / "data") as broker, broker.client() as client:
        client.create("t")
        client.send_fetch("t", 0, max_wait_ms=15_000)
        client.send(18, 0, request(18, 0))
        with broker.client() as other:
            other.call(18, 0)
        broker.process.terminate()
        assert client.receive().topics[0].partitions[0].error == 0
        assert client.receive().error_code == 0
        assert client.closed_by_peer()
        assert broker.process.wait(20) == 0


def test_rows_answered_with_acks_all_survive_sigkill(tmp_path) -> None:
    with LiveBroker(tmp_path / "data", flush_interval=3600) as broker, broker.client() as client:
        client.create("t")
        for n in range(20):
            assert client.produce("t", plain(b"%d" % n), acks=-1).base_offset == n
        broker.kill()
    with LiveBroker(tmp_path / "data") as again, again.client() as client:
        assert client.fetch("t", 0, isolation_level=1).last_stable_offset == 20


def test_the_parents_end_is_the_brokers_end(tmp_path) -> None:
    ours, theirs = os.pipe()[::-1]
    broker = LiveBroker(tmp_path / "data", pass_fds=(theirs,), more=("--parent-fd", str(theirs)))
    os.close(theirs)
    os.close(ours)
    assert broker.process.wait(20) == 0
    broker.stop()


def test_it_dies_with_the_process_that_spawned_it(tmp_path) -> None:
    reader, writer = os.pipe()
    settings = json.dumps({"listen": "127.0.0.1:0", "data_dir": str(tmp_path / "data")})
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time\n"
            f"p = subprocess.Popen([sys.executable, '-m', 'tailrace.broker', '--settings', {settings!r},"
            f" '--parent-fd', '{reader}'], pass_fds=({reader},), stdout=subprocess.PIPE)\n"
            "p.stdout.readline(); print(p.pid, flush=True); time.sleep(60)",
        ],
        pass_fds=(reader,),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    death = os.pidfd_open(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    poll = select.poll()
    poll.register(death, select.POLLIN)
    assert poll.poll(20_000), "the broker outlived its parent"
    for fd in (reader, writer, death):
        os.close(fd)


def test_a_directory_in_use_is_refused_with_status_75(tmp_path) -> None:
    with LiveBroker(tmp_path / "data"):
        settings = json.dumps({"listen": "127.0.0.1:0", "data_dir": str(tmp_path / "data")})
        second = start("--settings", settings)
        assert second.returncode == 75
        assert "in use by another process" in second.stderr
        assert second.stdout == ""


def test_an_address_in_use_is_refused_with_status_75_and_named(tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = start("--settings", json.dumps({"listen": address, "data_dir": str(tmp_path / "data")}))
    assert refused.returncode == 75
    assert address in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_address_that_is_not_ours_is_refused_with_status_78_and_leaves_a_clean_directory(tmp_path) -> None:
    address = "192.0.2.1:9092"
    refused = start("--settings", json.dumps({"listen": address, "data_dir": str(tmp_path / "data")}))
    assert refused.returncode == 78
    assert address in refused.stderr
    assert (tmp_path / "data" / ".kafka_cleanshutdown").exists()


def test_a_directory_that_cannot_be_made_is_refused_with_status_78(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    refused = start(
        "--settings", json.dumps({"listen": "127.0.0.1:0", "data_dir": str(tmp_path / "file" / "d")})
    )
    assert refused.returncode == 78
    assert "make `data_dir` a directory that this user may write to" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_disk_that_fails_under_an_fsync_ends_the_process_and_the_next_one_recovers(tmp_path) -> None:
    """An fsync that failed may have dropped what it should have written: nobody may go on as if it had
    not.
    """
    with (
        LiveBroker(tmp_path / "data", failpoints="log.flush_before_sync=error@12") as broker,
        broker.client() as client,
    ):
        client.create("t")
        answered = 0
        while True:
            try:
                produced = client.produce("t", plain(b"%d" % answered), acks=-1)
            except (EOFError, ConnectionResetError, BrokenPipeError):
                break
            if produced.error:
                break
            answered += 1
        assert broker.process.wait(20) == 74
        assert "fsync failed" in broker.log()
    with LiveBroker(tmp_path / "data") as again, again.client() as client:
        assert client.fetch("t", 0).high_watermark >= answered
        assert client.produce("t", plain(b"more"), acks=-1).error == 0


def test_localhost_with_a_free_port_is_served_where_it_is_advertised(tmp_path) -> None:
    with LiveBroker(tmp_path / "data", listen="localhost:0") as broker, broker.client() as client:
        answer = client.call(3, 1, topics=[])
        assert (answer.brokers[0].host, answer.brokers[0].port) == ("localhost", broker.port)


def test_a_data_directory_of_a_newer_version_is_refused_with_status_78(tmp_path) -> None:
    with LiveBroker(tmp_path / "data"):
        pass
    meta = tmp_path / "data" / "meta.properties"
    meta.write_text(meta.read_text().replace("version=1", "version=99"))
    refused = start("--settings", json.dumps({"listen": "127.0.0.1:0", "data_dir": str(tmp_path / "data")}))
    assert refused.returncode == 78
    assert "newer" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_wrong_settings_are_refused_with_status_78(tmp_path) -> None:
    refused = start("--settings", json.dumps({"listen": "nowhere", "data_dir": str(tmp_path)}))
    assert refused.returncode == 78
    assert "listen" in refused.stderr


def test_ipv6_is_served_and_advertised(tmp_path) -> None:
    with LiveBroker(tmp_path / "data", listen="[::1]:0") as broker:
        assert broker.address.startswith("[::1]:")
        with WireClient("::1", broker.port) as client:
            assert client.call(3, 1, topics=[]).brokers[0].host == "::1"


def test_listening_on_every_address_advertises_the_one_the_client_came_by(tmp_path) -> None:
    with LiveBroker(tmp_path / "data", listen="0.0.0.0:0") as broker:
        with WireClient("127.0.0.2", broker.port) as client:
            assert client.call(3, 1, topics=[]).brokers[0].host == "127.0.0.2"
        with WireClient("127.0.0.1", broker.port) as client:
            assert client.call(3, 1, topics=[]).brokers[0].host == "127.0.0.1"
