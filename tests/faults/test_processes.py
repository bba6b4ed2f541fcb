"""A broker that dies, agents started twice, a ledger that is somebody else's."""

import signal

from tests.faults.conftest import World


def test_a_killed_broker_comes_back_and_nothing_is_lost(world: World) -> None:
    world.write("a.log", 2000)
    run = world.start()
    run.logged("the broker serves")
    (broker,) = [child for child in run.children() if "tailrace.broker" in child.cmdline()]
    broker.send_signal(signal.SIGKILL)
    world.write("a.log", 2000)
    run.logged("the broker has failed")
    world.all_land()


def test_the_same_agents_started_twice_are_refused(world: World) -> None:
    world.write("a.log", 100)
    first = world.start()
    world.all_land()
    second = world.start()
    assert second.wait() == 75, second.log
    world.write("a.log", 100)
    world.all_land()
    assert first.process.poll() is None


def test_a_ledger_of_another_pipeline_is_left_alone(world: World) -> None:
    world.write("a.log", 100)
    assert world.start("--once").wait() == 0
    world.pipeline = "another"
    run = world.start("--once")
    assert run.wait() == 1, run.log
    assert "say `pipeline: faults` when it is the same" in run.log
    assert sorted(world.landed()) == sorted(world.written)
