"""The built-in broker under the supervisor: it comes back where it was, and only one run has it."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.support.ports import free_port
from tests.support.running import Tailrace, eventually, gone

Run = Callable[..., Tailrace]

PIPELINE = """
restart: {{initial: 100ms, max: 1s}}
broker: {{listen: "127.0.0.1:{port}", data_dir: {root}/broker, topics: {{numbers: {{partitions: 1}}}}}}
agents:
  make:
    sources:
      n: {{type: sequence, {amount}, batch_size: 10, channels: [c]}}
    channels:
      c: {{type: memory}}
    sinks:
      wire: {{type: kafka, channel: c, topic: numbers}}
  show:
    sources:
      numbers: {{type: kafka, topics: [numbers], group: show, channels: [c]}}
    channels:
      c: {{type: memory}}
    sinks:
      out: {{type: logger, channel: c}}
"""


def logged_rows(log: str) -> list[int]:
    return [int(n) for n in re.findall(r"event=row .*?body=(\d+)", log)]


def broker_of(run: Tailrace) -> psutil.Process:
    (found,) = [child for child in run.children() if "tailrace.broker" in child.cmdline()]
    return found


def test_agents_run_in_the_order_of_their_topics_and_the_broker_stops_last(
    tailrace: Run, tmp_path: Path
) -> None:
    run = tailrace(PIPELINE.format(port=0, root=tmp_path, amount="events: 300"), "--once", "--json")
    assert run.wait() == 0, run.log
    assert logged_rows(run.log) == list(range(300))
    assert [a["rows_landed"] for a in run.summary()["agents"].values()] == [300, 300]


def test_rows_go_on_through_a_killed_broker(tailrace: Run, tmp_path: Path) -> None:
    run = tailrace(PIPELINE.format(port=0, root=tmp_path, amount="rate: 200"))
    run.logged("event=row")
    address = run.logged(r"the broker serves.*address=(\S+)")[1]
    broker = broker_of(run)
    broker.send_signal(signal.SIGKILL)
    assert gone([broker])
    run.logged("the broker has failed")
    seen = max(logged_rows(run.log))
    eventually(lambda: max(logged_rows(run.log)) > seen + 100, f"rows after {seen}")
    assert set(re.findall(r"the broker serves.*address=(\S+)", run.log)) == {address}
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 0
    rows = logged_rows(run.log)
    assert sorted(set(rows)) == list(range(max(rows) + 1))


def test_a_broker_that_runs_elsewhere_is_used_by_a_run_of_one_agent(tailrace: Run, tmp_path: Path) -> None:
    text = PIPELINE.format(port=free_port(), root=tmp_path, amount="events: 300")
    first = tailrace(text, "--agent", "make")
    first.logged("the broker serves")
    second = tailrace(text, "--agent", "show")
    second.logged("another run has the broker")
    eventually(lambda: logged_rows(second.log)[-1:] == [299])
    refused = tailrace(text)
    assert refused.wait() == 75
    for run in (second, first):
        run.process.send_signal(signal.SIGTERM)
        assert run.wait() == 0


def test_a_broker_that_cannot_use_its_directory_ends_the_run(tailrace: Run, tmp_path: Path) -> None:
    text = PIPELINE.format(port=0, root=tmp_path, amount="events: 300")
    first = tailrace(text, "--once")
    assert first.wait() == 0
    properties = tmp_path / "broker" / "meta.properties"
    properties.write_text(re.sub(r"(?m)^version=.*$", "version=99", properties.read_text()))
    second = tailrace(text, "--once")
    assert second.wait() == 78, second.log
    assert "newer" in second.log


def test_positions_in_the_brokers_topic_can_be_listed_and_reset_while_nothing_runs(
    tailrace: Run, tmp_path: Path
) -> None:
    text = PIPELINE.format(port=0, root=tmp_path, amount="events: 300")
    first = tailrace(text, "--once")
    assert first.wait() == 0, first.log

    def positions(*arguments: str) -> str:
        file = str(tmp_path / "pipeline.yaml")
        command = [sys.executable, "-m", "tailrace", "positions", arguments[0], file, *arguments[1:]]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    (line,) = positions("list", "--agent", "make").splitlines()
    agent, sink, key, name, position = line.split()
    assert (agent, sink, name, position) == ("make", "wire", "n", "300")
    positions("reset", "--agent", "make", "--sink", "wire", "--partition", key)
    assert positions("list", "--agent", "make") == ""
    again = tailrace(text, "--once", "--json")
    assert again.wait() == 0, again.log
    assert again.summary()["agents"]["make"]["rows_landed"] == 300
