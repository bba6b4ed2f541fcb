"""One agent's run with real threads: each row once, whatever its sinks do."""

import threading
from pathlib import Path

import pytest

from tailrace.agents.patience import Patience
from tailrace.agents.positions import KeptOrigins
from tailrace.agents.runner import Runner
from tailrace.agents.sink_loop import SinkLoop
from tailrace.agents.source_loop import SourceLoop
from tailrace.agents.target import SinkTarget
from tailrace.agents.wiring import WiredAgent, WiredChannel
from tailrace.clock import SystemClock
from tailrace.component import Assigned, Revoked, Source
from tailrace.errors import Corrupt, Fenced, Halt, Retry, Rewind
from tailrace.event import Record
from tests.support.doubles import Numbers, Queue, Store, StoringSink, partition

CLOCK = SystemClock()


def agent(sources: list[Source], sinks: list[StoringSink], origins: KeptOrigins | None = None) -> WiredAgent:
    """Every source into every sink, each sink with a channel of its own."""
    leave = threading.Event()
    channels = [Queue() for _ in sinks]
    sink_loops = [
        SinkLoop(f"sink{i}", sink, channel, durable=None, origins=origins, leave=leave, clock=CLOCK)
        for i, (sink, channel) in enumerate(zip(sinks, channels, strict=True))
    ]
    source_loops = []
    for i, source in enumerate(sources):
        loop = SourceLoop(f"source{i}", source, leave, CLOCK)
        for sink_loop, channel in zip(sink_loops, channels, strict=True):
            loop.add(SinkTarget(loop, channel, sink_loop, leave))
        source_loops.append(loop)
    wired = [WiredChannel(channel, None, Patience("c", leave, CLOCK)) for channel in channels]
    return WiredAgent("a", wired, source_loops, sink_loops, leave)


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
