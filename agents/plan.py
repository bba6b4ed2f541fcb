"""What a configuration means before anything runs: its routes, their guarantees, and whether its parts fit.

Pure: settings in, routes and mistakes out.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from tailrace.component import Guarantee
from tailrace.config.mistakes import nearest
from tailrace.config.pipeline import Agent, Parsed, Pipeline
from tailrace.errors import Mistake

STRENGTH: dict[Guarantee, int] = {"at-most-once": 0, "at-least-once": 1, "exactly-once": 2}


@dataclass(frozen=True, slots=True)
class Route:
    """One source -> channel -> sink path, and what it keeps when a process is killed anywhere."""

    agent: str
    source: str
    channel: str
    sink: str
    guarantee: Guarantee
    reasons: tuple[str, ...]
    """Why it is not exactly-once; empty when it is."""
    notes: tuple[str, ...]
    """Conditions that the guarantee stands on."""

    def __str__(self) -> str:
        return f"{self.agent}: {self.source} -> {self.channel} -> {self.sink}"


@dataclass(frozen=True, slots=True)
class Chain:
    """Routes joined by topics of the pipeline; it keeps what the weakest of them keeps."""

    routes: tuple[Route, ...]
    topics: tuple[str, ...]

    @property
    def guarantee(self) -> Guarantee:
        return min((route.guarantee for route in self.routes), key=STRENGTH.__getitem__)


def routes(pipeline: Pipeline) -> list[Route]:
    """Every route, in the order of the file."""
    return [route for agent in pipeline.agents.values() for route in _routes_of(agent)]


def _routes_of(agent: Agent) -> Iterator[Route]:
    sinks = {sink.channel: (name, sink) for name, sink in agent.sinks.items()}
    for name, source in agent.sources.items():
        for channel in source.channels:
            if channel not in agent.channels or channel not in sinks:
                continue
            durable = agent.channels[channel].durable
            sink_name, sink = sinks[channel]
            hops = [
                _unless(name, source.weakness()),
                _unless(sink_name, sink.weakness_from(source)),
            ]
            if source.pushes and not durable:
                hops.append(
                    (
                        "at-most-once",
                        f"{name}'s rows are pushed and cannot be read again, and {channel} is memory only",
                    )
                )
            weakest = min((guarantee for guarantee, _ in hops), key=STRENGTH.__getitem__)
            reasons = tuple(reason for _, reason in hops if reason)
            yield Route(agent.name, name, channel, sink_name, weakest, reasons, tuple(sink.notes()))


def _unless(name: str, weakness: str | None) -> tuple[Guarantee, str]:
    return ("exactly-once", "") if weakness is None else ("at-least-once", f"{name}: {weakness}")


def chains(pipeline: Pipeline) -> list[Chain]:
    """Routes that follow one another through the pipeline's topics, from where rows enter to their end."""
    all_routes = routes(pipeline)
    written = {
        route: set(pipeline.agents[route.agent].sinks[route.sink].topics_written()) for route in all_routes
    }
    read = {
        route: set(pipeline.agents[route.agent].sources[route.source].topics_read()) for route in all_routes
    }
    inside = set().union(*written.values()) if written else set()
    found: list[Chain] = []

    def follow(chain: Chain) -> None:
        last = chain.routes[-1]
        nexts = [
            (topic, route)
            for route in all_routes
            for topic in sorted(written[last] & read[route])
            if route not in chain.routes
        ]
        for topic, route in nexts:
            follow(Chain((*chain.routes, route), (*chain.topics, topic)))
        if not nexts and len(chain.routes) > 1:
            found.append(chain)

    for route in all_routes:
        if not read[route] & inside:
            follow(Chain((route,), ()))
    return found


def order(pipeline: Pipeline, only: Collection[str] = ()) -> tuple[list[list[str]], list[str]]:
    """For `--once`: agents in the order of the topics between them, and those that wait for one another.

    The agents of one inner list may run at the same time, when all before it have ended.
    """
    agents = {name: agent for name, agent in pipeline.agents.items() if not only or name in only}
    written = {
        name: {t for sink in agent.sinks.values() for t in sink.topics_written()}
        for name, agent in agents.items()
    }
    read = {
        name: {t for source in agent.sources.values() for t in source.topics_read()}
        for name, agent in agents.items()
    }
    waiting = {
        name: {other for other in agents if other != name and written[other] & read[name]} for name in agents
    }
    generations: list[list[str]] = []
    while ready := [name for name, before in waiting.items() if not before]:
        generations.append(ready)
        waiting = {name: before - set(ready) for name, before in waiting.items() if name not in ready}
    return generations, list(waiting)


def check(parsed: Parsed, *, once: bool = False, only: Collection[str] = ()) -> list[Mistake]:
    """All mistakes: those of parsing, and where the parts do not fit."""
    pipeline = parsed.pipeline
    if pipeline is None:
        return sorted(parsed.mistakes)
    mistakes = [*parsed.mistakes, *_check_top(pipeline), *_check_groups(pipeline)]
    for agent in pipeline.agents.values():
        mistakes += _check_channels(pipeline, agent)
        mistakes += _check_kafka(pipeline, agent)
    if not parsed.mistakes:
        mistakes += _check_demands(pipeline)
        if once:
            mistakes += _check_once(pipeline, only)
    return sorted(mistakes)


def _check_top(pipeline: Pipeline) -> Iterator[Mistake]:
    document = pipeline.document
    if pipeline.sections.broker is not None and pipeline.sections.kafka is not None:
        yield document.mistake(("kafka",), "a file has `broker:` or `kafka:`, not both", at_key=True)
    if not pipeline.agents and "broker" not in document.data and not document.data.get("agents"):
        yield document.mistake((), "expected `agents:`, `broker:` or both")


def _check_groups(pipeline: Pipeline) -> Iterator[Mistake]:
    """Positions are a sink's: a partition that moves to another agent's source would be read from its start."""
    users: dict[str, str] = {}
    for agent in pipeline.agents.values():
        for name, source in agent.sources.items():
            group = getattr(source, "group", None)
            if not isinstance(group, str) or not source.topics_read():
                continue
            if group in users:
                yield pipeline.document.mistake(
                    ("agents", agent.name, "sources", name, "group"),
                    f"{group!r} is the group of {users[group]} already: give each source a group of its own"
                    " (to share the work, run the same agent on several hosts)",
                )
            users.setdefault(group, f"{agent.name}.{name}")


def _check_channels(pipeline: Pipeline, agent: Agent) -> Iterator[Mistake]:
    mistake = pipeline.document.mistake
    at = ("agents", agent.name)
    fed: set[str] = set()
    emptied: dict[str, str] = {}
    for name, source in agent.sources.items():
        for i, channel in enumerate(source.channels):
            if channel not in agent.declared:
                yield mistake(
                    (*at, "sources", name, "channels", i),
                    f"no channel is called {channel!r}{nearest(channel, agent.declared)}",
                )
            if channel in source.channels[:i]:
                yield mistake((*at, "sources", name, "channels", i), f"{channel!r} is here twice")
            fed.add(channel)
    for name, sink in agent.sinks.items():
        where = (*at, "sinks", name, "channel")
        if sink.channel not in agent.declared:
            yield mistake(
                where, f"no channel is called {sink.channel!r}{nearest(sink.channel, agent.declared)}"
            )
        if sink.channel in emptied:
            yield mistake(
                where,
                f"{sink.channel!r} is emptied by {emptied[sink.channel]!r} already;"
                " to send every row to both, give each sink a channel of its own",
            )
        emptied.setdefault(sink.channel, name)
    if agent.complete:
        for name in agent.channels:
            if name not in emptied:
                yield mistake((*at, "channels", name), "no sink takes from this channel", at_key=True)
            if name not in fed:
                yield mistake((*at, "channels", name), "no source puts into this channel", at_key=True)


def _check_kafka(pipeline: Pipeline, agent: Agent) -> Iterator[Mistake]:
    if pipeline.bootstrap or "broker" in pipeline.document.data or "kafka" in pipeline.document.data:
        return
    for section, components in (("sources", agent.sources), ("sinks", agent.sinks)):
        for name, settings in components.items():
            if settings.needs_bootstrap():
                yield pipeline.document.mistake(
                    ("agents", agent.name, section, name, "type"),
                    "needs a `broker:` or a `kafka:` section at the top of the file",
                )


def _check_demands(pipeline: Pipeline) -> Iterator[Mistake]:
    for route in routes(pipeline):
        demanded = pipeline.agents[route.agent].sinks[route.sink].delivery
        if demanded is not None and STRENGTH[route.guarantee] < STRENGTH[demanded]:
            yield pipeline.document.mistake(
                ("agents", route.agent, "sinks", route.sink, "delivery"),
                f"{demanded} is demanded, but from {route.source} it is {route.guarantee}:"
                f" {'; '.join(route.reasons)}",
            )


def _check_once(pipeline: Pipeline, only: Collection[str]) -> Iterator[Mistake]:
    for agent in pipeline.agents.values():
        for name, source in agent.sources.items():
            if source.pushes and (not only or agent.name in only):
                yield pipeline.document.mistake(
                    ("agents", agent.name, "sources", name, "type"),
                    "--once cannot end: nobody knows when this source has all its rows",
                )
    circle = order(pipeline, only)[1]
    if circle:
        yield pipeline.document.mistake(
            ("agents", circle[0]),
            f"--once has no order: {', '.join(circle)} read topics of one another",
            at_key=True,
        )


def unknown_agents(pipeline: Pipeline, only: Collection[str]) -> Mapping[str, str]:
    """Names given with --agent that the file does not have, each with the nearest that it has."""
    return {name: nearest(name, pipeline.agents) for name in only if name not in pipeline.agents}
