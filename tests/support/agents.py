"""Agents wired from test doubles."""

import threading
from collections.abc import Sequence

from tailrace.agents.patience import Patience
from tailrace.agents.positions import KeptOrigins
from tailrace.agents.sink_loop import SinkLoop
from tailrace.agents.source_loop import SourceLoop
from tailrace.agents.target import DurableTarget, SinkTarget
from tailrace.agents.wiring import WiredAgent, WiredChannel
from tailrace.clock import SystemClock
from tailrace.component import Sink, Source
from tests.support.doubles import Disk, Log, Queue

CLOCK = SystemClock()


def agent(sources: Sequence[Source], sinks: Sequence[Sink], origins: KeptOrigins | None = None) -> WiredAgent:
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


def agent_with_log(sources: Sequence[Source], disk: Disk, sink: Sink) -> WiredAgent:
    """Every source into one durable channel, and from there into one sink."""
    leave = threading.Event()
    log, patience = Log(disk), Patience("c", leave, CLOCK)
    sink_loop = SinkLoop("sink", sink, log, durable=log, origins=None, leave=leave, clock=CLOCK)
    source_loops = []
    for i, source in enumerate(sources):
        loop = SourceLoop(f"source{i}", source, leave, CLOCK)
        loop.add(DurableTarget(loop, log, patience, leave))
        source_loops.append(loop)
    return WiredAgent("a", [WiredChannel(log, log, patience)], source_loops, [sink_loop], leave)
