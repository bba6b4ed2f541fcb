"""Real processes: started again when killed, gone when their supervisor is, drained when told to stop."""

import re
import signal
from collections.abc import Callable
from pathlib import Path

from tests.support.running import Tailrace, eventually, gone

Run = Callable[..., Tailrace]

ENDLESS = """
restart: {initial: 100ms, max: 1s}
agents:
  a:
    sources:
      n: {type: sequence, rate: 200, batch_size: 10, channels: [c]}
    channels:
      c: {type: memory}
    sinks:
      l: {type: logger, channel: c}
"""
FINITE = ENDLESS.replace("rate: 200", "events: 500")


def logged_rows(log: str) -> list[int]:
    return [int(n) for n in re.findall(r"event=row .*?position=(\d+)", log)]


def test_once_ends_with_what_it_did_and_a_second_time_with_nothing(tailrace: Run) -> None:
    first = tailrace(FINITE, "--once", "--json")
    assert first.wait() == 0, first.log
    timing = {"seconds": 0, "mb_per_second": 0, "busy_seconds": 0, "first_read": 0, "last_commit": 0}
    assert first.summary()["agents"]["a"]["first_read"] <= first.summary()["agents"]["a"]["last_commit"]
    assert first.summary()["agents"]["a"] | {**timing, "lag": 0} == {
        "rows_read": 500, "rows_landed": 500, "bytes_read": 10 + 90 * 2 + 400 * 3,
        "dead_letters": 0, "files": 0,
        "rows_waiting": 0, "lag": 0, "problems": [], "how": "finished", "reason": "", "restarts": 0, **timing,
    }  # fmt: skip
    assert logged_rows(first.log) == list(range(500))
    second = tailrace(FINITE, "--once", "--json")
    assert second.wait() == 0
    assert second.summary()["agents"]["a"]["rows_read"] == 0


def test_a_killed_agent_is_started_again_and_goes_on(tailrace: Run) -> None:
    run = tailrace(ENDLESS)
    for _ in range(2):
        seen = len(logged_rows(run.log))
        eventually(lambda seen=seen: len(logged_rows(run.log)) > seen + 50, "rows")  # type: ignore[misc]
        (agent,) = run.children()
        agent.send_signal(signal.SIGKILL)
        assert gone([agent])
    assert run.logged(r"the agent has failed.*killed by signal 9")
    rows = logged_rows(run.log)
    eventually(lambda: max(logged_rows(run.log)) > max(rows) + 50, "rows after the kill")
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 0
    rows = logged_rows(run.log)
    assert set(rows) == set(range(max(rows) + 1))  # at-least-once: nothing is missing


def test_sigterm_drains(tailrace: Run) -> None:
    run = tailrace(ENDLESS)
    run.logged("event=row")
    children = run.children()
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 0
    assert gone(children)
    rows = logged_rows(run.log)
    assert rows == list(range(len(rows)))
    again = tailrace(FINITE.replace("500", str(len(rows))), "--once", "--json")
    assert again.wait() == 0
    assert again.summary()["agents"]["a"]["rows_read"] == 0  # all that was logged had been committed


def test_no_child_outlives_a_killed_supervisor(tailrace: Run) -> None:
    run = tailrace(ENDLESS)
    run.logged("event=row")
    children = run.children()
    assert len(children) == 1
    run.process.kill()
    assert gone(children)


def test_a_stopped_child_does_not_outlive_it_either(tailrace: Run) -> None:
    run = tailrace(ENDLESS)
    run.logged("event=row")
    children = run.children()
    children[0].suspend()
    run.process.kill()
    assert gone(children)


def test_a_second_start_is_refused_and_the_first_goes_on(tailrace: Run) -> None:
    first = tailrace(ENDLESS)
    first.logged("event=row")
    second = tailrace(ENDLESS)
    assert second.wait() == 75
    assert re.search(r"state/a is in use by another run of this agent \(process \d+\)", second.log)
    assert first.process.poll() is None


def test_a_start_right_after_a_kill_waits_for_the_children_to_be_gone(tailrace: Run) -> None:
    first = tailrace(ENDLESS)
    first.logged("event=row")
    first.process.kill()
    second = tailrace(FINITE, "--once")
    assert second.wait() == 0, second.log


def test_ctrl_c_drains_as_sigterm_does_and_a_second_one_kills(tailrace: Run) -> None:
    run = tailrace(ENDLESS)
    run.logged("event=row")
    run.children()[0].suspend()  # cannot drain
    run.process.send_signal(signal.SIGINT)
    run.logged("event=stopping signal=SIGINT")
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 0
    assert "event=killing" in run.log


def test_an_agent_that_cannot_drain_is_killed_when_its_time_is_over(tailrace: Run) -> None:
    run = tailrace("shutdown_timeout: 1s\n" + ENDLESS)
    run.logged("event=row")
    run.children()[0].suspend()
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 0
    assert "how=unfinished" in run.log


def test_once_gives_up_when_its_time_is_over_and_says_what_is_open(tailrace: Run) -> None:
    run = tailrace(
        "once_timeout: 3s\n" + ENDLESS.replace("rate: 200", "events: 100000, rate: 50"), "--once", "--json"
    )
    assert run.wait() == 75
    (what,) = run.summary()["open"]
    assert re.fullmatch(r"a: up, \d+ rows in channels(, \d+ not read)?", what)


def test_an_agent_that_finds_it_cannot_work_here_is_not_started_again(tailrace: Run) -> None:
    run = tailrace(ENDLESS, "--once", "--json")  # an endless sequence cannot end
    assert run.wait() == 78
    assert run.summary()["agents"]["a"]["restarts"] == 0
    assert "an endless sequence cannot run with --once" in run.summary()["agents"]["a"]["reason"]


def test_only_the_named_agent_runs(tailrace: Run) -> None:
    two = FINITE + FINITE.partition("agents:\n")[2].replace("  a:", "  b:", 1)
    run = tailrace(two, "--once", "--json", "--agent", "b")
    assert run.wait() == 0, run.log
    assert list(run.summary()["agents"]) == ["b"]
    both = tailrace(two, "--once", "--json")
    assert both.wait() == 0
    assert {name: a["rows_read"] for name, a in both.summary()["agents"].items()} == {"a": 500, "b": 0}


def test_an_agent_that_halts_is_left_and_the_others_go_on(tailrace: Run, tmp_path: Path) -> None:
    two = ENDLESS + ENDLESS.partition("agents:\n")[2].replace("  a:", "  b:", 1)
    (tmp_path / "state" / "a").mkdir(parents=True)
    (tmp_path / "state" / "a" / "instance.json").write_text("damaged")
    run = tailrace(two)
    run.logged(r"agent=a .*how=halt .*instance.json is damaged")
    seen = len(logged_rows(run.log))
    eventually(lambda: len(logged_rows(run.log)) > seen + 50, "rows of b")
    assert len(run.children()) == 1
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 1


def test_a_stop_right_after_the_start_is_an_orderly_one(tailrace: Run) -> None:
    run = tailrace(ENDLESS, "--json")
    eventually(run.children, "a child")
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 0
    assert run.summary()["agents"]["a"]["how"] == "stopped"


def test_a_hang_up_that_nohup_ignores_is_ignored(tailrace: Run) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = tailrace(ENDLESS)
    finally:
        signal.signal(signal.SIGHUP, before)
    run.logged("event=row")
    run.process.send_signal(signal.SIGHUP)
    seen = len(logged_rows(run.log))
    eventually(lambda: len(logged_rows(run.log)) > seen + 20, "rows after the hang-up")
    assert "event=stopping" not in run.log


def test_a_state_directory_that_cannot_be_used_is_a_mistake_at_its_place(
    tailrace: Run, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("a file")
    run = tailrace(ENDLESS)
    assert run.wait() == 78
    assert f"pipeline.yaml:1:12: state_dir: cannot be used: {tmp_path}/state/a: Not a directory" in run.log
