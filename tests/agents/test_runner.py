"""One agent's run with real threads: each row once, whatever its sinks do."""

import threading
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from tailrace.agents.positions import KeptOrigins
from tailrace.agents.runner import Runner
from tailrace.agents.wiring import WiredAgent, WiredChannel
from tailrace.component import Assigned, Revoked
from tailrace.errors import Corrupt, Fenced, Halt, Retry, Rewind
from tailrace.event import Partition, Record
from tests.support.agents import CLOCK, agent, agent_with_log
from tests.support.doubles import Disk, Numbers, Queue, Store, StoringSink, partition


def run(wired: WiredAgent, stop: threading.Event | None = None, timeout: float = 10) -> bool:
    return Runner(wired, CLOCK).run(stop or threading.Event(), timeout)


def complete(store: Store, count: int, *names: str) -> None:
    assert {p.id: rows for p, rows in store.rows.items()} == {name: list(range(count)) for name in names}


def test_every_row_is_stored_once_and_the_source_hears_of_it() -> None:
    store, source = Store(), Numbers([partition("a"), partition("b")], 100)
    sink = StoringSink(store)
    assert run(agent([source], [sink]))
    complete(store, 100, "a", "b")
    assert store.records[partition("a")] == Record(100, b"at 100")
    assert source.told == {partition("a"): 100, partition("b"): 100}
    assert set(source.stamps) == {"stamp"}
    assert source.closed and sink.closed


def test_a_second_run_reads_nothing_again() -> None:
    store = Store()
    run(agent([Numbers([partition()], 50)], [StoringSink(store)]))
    source = Numbers([partition()], 60)
    run(agent([source], [StoringSink(store)]))
    complete(store, 60, "p")
    assert source.seeks == [(partition(), Record(50, b"at 50"))]
    assert source.opened_with == [{partition(): Record(50, b"at 50")}]


@pytest.mark.parametrize("verb", ["open", "acquire", "write", "commit"])
def test_a_verb_that_asks_for_a_retry_is_called_again(verb: str) -> None:
    store, sink = Store(), StoringSink(Store())
    sink = StoringSink(store)
    sink.fail(verb, Retry("away", 0.01), Retry("still away", 0.01))
    run(agent([Numbers([partition()], 100)], [sink]))
    complete(store, 100, "p")


@pytest.mark.parametrize("verb", ["acquire", "write", "commit"])
@pytest.mark.parametrize("error", [Rewind, Fenced])
def test_what_a_sink_dropped_is_read_again(verb: str, error: type[Exception]) -> None:
    store = Store()
    sink = StoringSink(store)
    sink.fail(verb, error("gone"), Retry("meanwhile", 0.01), error("again"))
    source = Numbers([partition("a"), partition("b")], 200)
    run(agent([source], [sink]))
    complete(store, 200, "a", "b")
    assert source.told == {partition("a"): 200, partition("b"): 200}


def test_a_rewind_of_one_sink_does_not_double_rows_in_the_other() -> None:
    one, two = Store(), Store()
    rewinding, steady = StoringSink(one, every=2), StoringSink(two, every=7)
    rewinding.fail("commit", Rewind("gone"), Rewind("gone"), Rewind("gone"))
    run(agent([Numbers([partition("a"), partition("b")], 300)], [rewinding, steady]))
    complete(one, 300, "a", "b")
    complete(two, 300, "a", "b")


def test_sinks_that_are_not_equally_far_each_get_what_they_lack() -> None:
    far, near = Store(records={partition(): Record(70)}), Store(records={partition(): Record(25)})
    source = Numbers([partition()], 100)
    run(agent([source], [StoringSink(far), StoringSink(near)]))
    assert far.rows[partition()] == list(range(70, 100))
    assert near.rows[partition()] == list(range(25, 100))
    assert source.seeks[0] == (partition(), Record(25))


def test_several_sources_share_a_sink() -> None:
    store, sink = Store(), None
    sink = StoringSink(store)
    sink.fail("write", Rewind("gone"))
    sink.fail("commit", Rewind("gone"))
    run(agent([Numbers([partition("a")], 150), Numbers([partition("b")], 90)], [sink]))
    assert store.rows == {partition("a"): list(range(150)), partition("b"): list(range(90))}


def test_a_sink_without_a_store_goes_on_from_the_agents_own_positions(tmp_path: Path) -> None:
    first, second = Store(), Store()
    run(
        agent([Numbers([partition()], 40)], [StoringSink(first)], KeptOrigins(tmp_path / "positions.db", "s"))
    )
    sink = StoringSink(second)
    run(agent([Numbers([partition()], 55)], [sink], KeptOrigins(tmp_path / "positions.db", "s")))
    assert second.rows == {partition(): list(range(40, 55))}
    assert "acquire" not in sink.calls


def test_being_fenced_again_and_again_stops_the_agent_and_names_the_rival() -> None:
    sink = StoringSink(Store())
    sink.fail("commit", *[Fenced("producer 7 took over")] * 3)
    with pytest.raises(Halt, match=r"sink0: fenced 3 times .* producer 7 took over"):
        run(agent([Numbers([partition()], 100)], [sink]))


@pytest.mark.parametrize("verb", ["open", "acquire", "write", "commit", "abort"])
def test_a_sink_that_fails_stops_the_agent_without_another_commit(verb: str) -> None:
    store = Store()
    sink = StoringSink(store, every=1000)
    sink.fail("commit", Rewind("so that abort is called"))
    sink.faults.get("commit") if verb != "commit" else sink.faults.clear()
    sink.fail(verb, RuntimeError("bang"))
    source = Numbers([partition()], 100)
    with pytest.raises(RuntimeError, match="bang"):
        run(agent([source], [sink]))
    assert store.rows == {}
    assert sink.closed and source.closed


def test_a_source_that_fails_stops_the_agent() -> None:
    source = Numbers([partition()], 100)
    source.changes.append(RuntimeError("bang"))
    with pytest.raises(RuntimeError, match="bang"):
        run(agent([source, Numbers([partition("b")], 10**9)], [StoringSink(Store())]))


def test_stop_commits_what_was_read_and_ends() -> None:
    store, stop = Store(), threading.Event()
    source = Numbers([partition()], 10**9)
    sink = StoringSink(store, every=10**9)
    sink.due = lambda: bool(stop.is_set() or (len(sink.open_batches) > 50 and stop.set()))  # type: ignore[method-assign]
    assert run(agent([source], [sink]), stop)
    rows = store.rows[partition()]
    assert rows == list(range(source.next[partition()])) and len(rows) > 500
    assert source.told[partition()] == len(rows)


def test_stop_gives_up_on_a_sink_that_cannot_commit() -> None:
    store, stop = Store(), threading.Event()
    sink = StoringSink(store)
    sink.fail("commit", *[Retry("the disk is full", 0.01)] * 10_000)
    original = sink._called

    def called(verb: str) -> None:
        if verb == "commit":
            stop.set()
        original(verb)

    sink._called = called  # type: ignore[method-assign]
    assert not run(agent([Numbers([partition()], 100)], [sink]), stop, timeout=0.3)
    assert store.rows == {} and sink.closed


def test_revoked_partitions_are_committed_first_and_lost_ones_are_not() -> None:
    store = Store()
    source = Numbers([partition("a")], 30, size=10)
    wired = agent([source], [StoringSink(store, every=10**9)])
    events = iter(
        [
            Revoked((partition("a"),)),
            Assigned((partition("b"),)),
            "rows of b",
            Revoked((partition("b"),), lost=True),
        ]
    )
    read = source.read

    def reading(timeout: float) -> object:
        busy = any(start < source.count for start in source.next.values())
        if busy or source.changes:
            return read(timeout)
        step = next(events, None)
        if step is None or step == "rows of b":
            return read(timeout) if step is None else None
        source.changes.append(step)  # type: ignore[arg-type]
        return read(timeout)

    source.read = reading  # type: ignore[method-assign, assignment]
    run(wired)
    # Whatever of "a" had reached the sink is stored, without a hole; the rest is the next owner's.
    taken = store.rows.get(partition("a"), [])
    assert taken == list(range(len(taken)))
    assert source.told.get(partition("a"), 0) == len(taken)
    assert partition("b") not in store.rows


@pytest.mark.parametrize("lost", [True, False])
def test_a_sink_that_starts_over_because_partitions_go_loses_nothing_of_the_others(lost: bool) -> None:
    store = Store()
    source = Numbers([partition("a"), partition("b")], 300)
    sink = StoringSink(store, every=5)
    sink.fail("revoke", Rewind("uncommitted rows were of b"))
    original = source.read
    turns = iter(range(1000))

    def read(timeout: float) -> object:
        if next(turns, 0) == 12:
            source.changes.append(Revoked((partition("b"),), lost=lost))
        return original(timeout)

    source.read = read  # type: ignore[method-assign, assignment]
    run(agent([source], [sink]))
    assert store.rows[partition("a")] == list(range(300))
    rows_of_b = store.rows.get(partition("b"), [])
    assert rows_of_b == list(range(len(rows_of_b)))


def test_a_partition_that_comes_back_goes_on_where_it_was_committed() -> None:
    store = Store()
    source = Numbers([partition()], 100)
    original = source.read
    turns = iter(range(1000))

    def read(timeout: float) -> object:
        if next(turns, 0) == 5:
            source.changes.extend([Revoked((partition(),)), Assigned((partition(),))])
        return original(timeout)

    source.read = read  # type: ignore[method-assign, assignment]
    run(agent([source], [StoringSink(store)]))
    complete(store, 100, "p")


def test_a_batch_of_a_partition_that_was_never_assigned_is_refused() -> None:
    source = Numbers([partition()], 10)
    source.changes.clear()
    source.next[partition()] = 0
    with pytest.raises(Corrupt, match="not assigned"):
        run(agent([source], [StoringSink(Store())]))


def test_through_a_durable_channel_each_row_is_stored_once() -> None:
    store, disk = Store(), Disk()
    sink = StoringSink(store)
    sink.fail("write", Retry("away", 0.01), Rewind("gone"))
    sink.fail("commit", Rewind("gone"), Fenced("gone"))
    sink.fail("acquire", Retry("away", 0.01), Rewind("gone"))
    one, two = Numbers([partition("a")], 100), Numbers([partition("b")], 60)
    run(agent_with_log([one, two], disk, sink))
    assert {p: sorted(rows) for p, rows in store.rows.items()} == {
        disk.stream: sorted([*range(100), *range(60)])
    }
    assert one.told == {partition("a"): 100} and two.told == {partition("b"): 60}
    assert disk.released == disk.batches[-1].span.end


def test_what_a_durable_channel_has_is_not_read_again_and_what_the_sink_lacks_is_still_written() -> None:
    store, disk = Store(), Disk()
    broken = StoringSink(store, every=10**9)
    broken.fail("commit", RuntimeError("the power went out"))
    with pytest.raises(RuntimeError):
        run(agent_with_log([Numbers([partition()], 50)], disk, broken))
    assert store.rows == {} and disk.records == {partition(): Record(50, b"at 50")}
    source = Numbers([partition()], 70)
    run(agent_with_log([source], disk, StoringSink(store)))
    assert source.seeks == [(partition(), Record(50, b"at 50"))]
    assert store.rows == {disk.stream: list(range(70))}


def test_what_the_very_last_commit_dropped_is_read_again_too() -> None:
    store = Store()
    sink = StoringSink(store, every=10**9)  # only the drain commits
    sink.fail("commit", Rewind("gone"))
    run(agent([Numbers([partition()], 100)], [sink]))
    complete(store, 100, "p")


def test_what_the_very_last_commit_of_a_durable_channel_dropped_is_written_again_too() -> None:
    store, disk = Store(), Disk()
    sink = StoringSink(store, every=10**9)
    sink.fail("commit", Rewind("gone"))
    run(agent_with_log([Numbers([partition()], 100)], disk, sink))
    assert store.rows == {disk.stream: list(range(100))}


def test_a_sink_that_others_took_further_does_not_make_the_source_skip_rows_of_its_neighbour() -> None:
    ours, shared = Store(), Store()
    steady, fenced = StoringSink(ours, every=1), StoringSink(shared, every=1)
    commit = fenced.commit

    def taken_over() -> dict[Partition, int]:
        fenced.commit = commit  # type: ignore[method-assign]
        shared.rows[partition()] = list(range(80))  # by the rival
        shared.records[partition()] = Record(80)
        fenced.open_batches = []
        raise Fenced("a rival was here")

    fenced.commit = taken_over  # type: ignore[method-assign, assignment]
    run(agent([Numbers([partition()], 100)], [steady, fenced]))
    assert ours.rows == shared.rows == {partition(): list(range(100))}


def test_it_is_not_drained_when_a_source_was_woken_while_the_sinks_settled() -> None:
    wired = agent([Numbers([partition()], 10)], [StoringSink(Store())])
    source, sink = wired.sources[0], wired.sinks[0]
    runner = Runner(wired, CLOCK)
    answer: Future[bool] = Future()
    sink.settle = lambda: answer  # type: ignore[method-assign]
    source._rested_at = source._asked
    assert not runner._drained()
    source.rewind(source._targets[0])
    answer.set_result(True)
    assert not runner._drained()


class Stubborn(Queue):
    """Raises what it is given when it is opened."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def open(self) -> None:
        raise self.error


def test_a_channel_that_cannot_be_opened_fails_the_agent_before_anything_is_read() -> None:
    source = Numbers([partition()], 10)
    wired = agent([source], [StoringSink(Store())])
    broken = WiredChannel(Stubborn(Corrupt("segment 7")), None, wired.channels[0].patience)
    with pytest.raises(Corrupt, match="segment 7"):
        run(replace(wired, channels=[*wired.channels, broken]))
    assert source.opened_with is None
    assert wired.channels[0].channel.closed  # type: ignore[attr-defined]


def test_stop_is_heard_while_a_channel_cannot_be_opened_yet() -> None:
    wired, stop = agent([Numbers([partition()], 10)], [StoringSink(Store())]), threading.Event()
    waiting = WiredChannel(Stubborn(Retry("the disk is not mounted", 60)), None, wired.channels[0].patience)
    threading.Timer(0.2, stop.set).start()
    assert run(replace(wired, channels=[waiting]), stop)


def test_what_fails_while_closing_is_not_hidden() -> None:
    sink = StoringSink(Store())

    def close() -> None:
        raise RuntimeError("cannot close")

    sink.close = close  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="cannot close"):
        run(agent([Numbers([partition()], 10)], [sink]))
