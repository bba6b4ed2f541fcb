"""Builds one agent from its settings: every component, the loops that drive them, and what joins them."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from tailrace import registry
from tailrace.agents.patience import Patience
from tailrace.agents.positions import KeptOrigins
from tailrace.agents.sink_loop import SinkLoop
from tailrace.agents.source_loop import SourceLoop
from tailrace.agents.target import DurableTarget, SinkTarget
from tailrace.component import Channel, Context, DurableChannel, SinkSettings
from tailrace.config.pipeline import Agent


@dataclass(frozen=True, slots=True)
class WiredChannel:
    """A channel, the same again when its settings call it durable, and the policy its puts are retried by."""

    channel: Channel
    durable: DurableChannel | None
    patience: Patience
    opened: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class WiredAgent:
    """An agent ready to run. `leave` ends every loop, whatever it waits for."""

    name: str
    channels: Sequence[WiredChannel]
    sources: Sequence[SourceLoop]
    sinks: Sequence[SinkLoop]
    leave: threading.Event


def wire(agent: Agent, context: Context) -> WiredAgent:
    """`context` is what all components of the agent share; each gets it with its own name."""
    leave = threading.Event()
    channels: dict[str, WiredChannel] = {}
    for name, settings in agent.channels.items():
        channel = registry.component("channel", _type(settings))(settings, replace(context, name=name))
        durable = cast(DurableChannel, channel) if settings.durable else None
        channels[name] = WiredChannel(
            channel, durable, Patience(f"{agent.name}.{name}", leave, context.clock)
        )
    sinks = {
        sink.channel: _sink_loop(name, sink, channels[sink.channel], leave, replace(context, name=name))
        for name, sink in agent.sinks.items()
    }
    sources = []
    for name, source in agent.sources.items():
        component = registry.component("source", _type(source))(source, replace(context, name=name))
        loop = SourceLoop(f"{agent.name}.{name}", component, leave, context.clock)
        for channel_name in source.channels:
            wired = channels[channel_name]
            if wired.durable is not None:
                loop.add(DurableTarget(loop, wired.durable, wired.patience, leave))
            else:
                loop.add(SinkTarget(loop, wired.channel, sinks[channel_name], leave))
        sources.append(loop)
    return WiredAgent(agent.name, list(channels.values()), sources, list(sinks.values()), leave)


def _sink_loop(
    name: str, settings: SinkSettings, channel: WiredChannel, leave: threading.Event, context: Context
) -> SinkLoop:
    sink = registry.component("sink", _type(settings))(settings, context)
    origins = None if settings.keeps_origins() else KeptOrigins(context.state_dir / "positions.db", name)
    return SinkLoop(
        f"{context.agent}.{name}",
        sink,
        channel.channel,
        durable=channel.durable,
        origins=origins,
        leave=leave,
        clock=context.clock,
    )


def _type(settings: object) -> str:
    return str(getattr(settings, "type"))  # noqa: B009 - every component's model declares it, the shared part cannot
