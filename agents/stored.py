"""Looks at the positions that a sink has stored, and resets them.

Resets of the consumer group are not obeyed (the sink's own positions are): this is how rows are read again.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Protocol

from tailrace import registry
from tailrace.agents.broker_process import BROKER_STOP, BrokerProcess
from tailrace.agents.children import Children
from tailrace.agents.instance import instance_id, machine_id
from tailrace.agents.lock import lock
from tailrace.agents.positions import KeptOrigins
from tailrace.clock import Clock
from tailrace.component import Context
from tailrace.config.pipeline import Agent, Pipeline
from tailrace.errors import Retry, TailraceError
from tailrace.event import Partition, Record
from tailrace.fs import LocalFileSystem

BROKER_START = 30.0
"""Seconds that the built-in broker may take to serve, when the positions are in it."""


class NotLookedInto(TailraceError):
    """This sink cannot tell now, or never can; the text says why."""


class StoredOrigins(Protocol):
    """What `tailrace positions` asks of a sink that keeps origins, instead of acquire: looking fences nobody.

    open() was called, and no other verb. A sink without these verbs cannot be looked into.
    """

    def stored(self) -> Mapping[Partition, Record]:
        """What acquire() would answer, for every partition that this sink of this agent has ever stored."""
        ...

    def forget(self, partitions: Collection[Partition]) -> None:
        """Makes them new again: their rows will be read, and stored, once more. The agent does not run."""
        ...


def stored_positions(pipeline: Pipeline, agent: str, sink: str, clock: Clock) -> Mapping[Partition, Record]:
    """All that `sink` has stored. Raises NotLookedInto; Locked when the broker runs where we cannot know."""
    with _opened(pipeline, pipeline.agents[agent], sink, clock) as origins:
        return origins.stored()


def forget_positions(
    pipeline: Pipeline, agent: str, sink: str, partitions: Collection[Partition], clock: Clock
) -> None:
    """Has the rows of `partitions` read and stored again. Raises as above; Locked while the agent runs."""
    with ExitStack() as held:
        held.callback(os.close, lock(pipeline.state_dir / agent, clock, grace=0))
        held.enter_context(_opened(pipeline, pipeline.agents[agent], sink, clock)).forget(partitions)


def context_of(pipeline: Pipeline, agent: str, sink: str, clock: Clock, bootstrap: str = "") -> Context:
    """What the sink was given when its agent last ran. Raises NotLookedInto when that never was."""
    directory, fs = pipeline.state_dir / agent, LocalFileSystem()
    if not (directory / "instance.json").exists():
        raise NotLookedInto(f"{agent} has never run with the state directory {pipeline.state_dir}")
    instance = instance_id(directory, fs, machine_id(), pipeline.name)
    return Context(pipeline.name, agent, sink, instance, directory, bootstrap, clock=clock, fs=fs)


@contextmanager
def _opened(pipeline: Pipeline, agent: Agent, name: str, clock: Clock) -> Iterator[StoredOrigins]:
    settings = agent.sinks[name]
    context = context_of(pipeline, agent.name, name, clock, pipeline.bootstrap)
    with ExitStack() as stack:
        if not settings.keeps_origins():
            yield stack.enter_context(closing(KeptOrigins(context.state_dir / "positions.db", name)))
            return
        if settings.needs_bootstrap() and pipeline.sections.broker is not None:
            context = replace(context, bootstrap=stack.enter_context(_broker(pipeline, clock)))
        sink = registry.component("sink", getattr(settings, "type"))(settings, context)  # noqa: B009 - see wiring
        stack.callback(sink.close)
        if not (hasattr(sink, "stored") and hasattr(sink, "forget")):
            raise NotLookedInto(f"{agent.name}.{name}: this type of sink does not show its positions")
        try:
            sink.open()
            yield sink
        except Retry as error:
            raise NotLookedInto(f"{agent.name}.{name}: {error}") from None


@contextmanager
def _broker(pipeline: Pipeline, clock: Clock) -> Iterator[str]:
    """The address of the built-in broker: the one that runs, or one that runs as long as this is open."""
    assert pipeline.sections.broker is not None
    broker = BrokerProcess(pipeline.sections.broker, pipeline.sections.restart, None, may_be_elsewhere=True)
    with Children(clock) as children:
        children.add(broker)
        if not children.run_until(lambda: bool(broker.address), clock.monotonic() + BROKER_START):
            raise NotLookedInto(f"the broker did not serve within {BROKER_START:.0f} s")
        yield broker.address
        broker.stop()
        children.run_until(lambda: broker.state == "ended", clock.monotonic() + BROKER_STOP)
