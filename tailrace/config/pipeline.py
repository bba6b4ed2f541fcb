"""A pipeline's settings, from the document of one file: the sections, and every component's own model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from tailrace import registry
from tailrace.component import ChannelSettings, Settings, SinkSettings, SourceSettings
from tailrace.config.broker import BrokerSettings
from tailrace.config.load import Document
from tailrace.config.load import Path as Place
from tailrace.config.mistakes import mistakes_of, nearest
from tailrace.errors import Mistake
from tailrace.units import Duration

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
Name = Annotated[str, StringConstraints(pattern=NAME, max_length=64)]
"""Of an agent or a component: it becomes part of paths, topics and transactional ids."""

Component = dict[str, Any]
KINDS: tuple[registry.Kind, ...] = ("source", "channel", "sink")


class KafkaSettings(Settings):
    """The Kafka cluster that the agents use instead of the built-in broker."""

    bootstrap: str = Field(
        pattern=r"^[^,:\s]+:[0-9]{1,5}(,\s*[^,:\s]+:[0-9]{1,5})*$",
        description="host:port of some of its brokers, with commas between.",
    )


class RestartSettings(Settings):
    """How long a broker or agent that failed stays down before it is started again."""

    initial: Duration = Field(
        default=1.0, gt=0, description="Wait after the first failure; doubled after each one that follows."
    )
    max: Duration = Field(default=60.0, gt=0, description="Longest wait.")


class AgentSections(Settings):
    """One agent as the file has it: its components by name, each checked by its own type's model."""

    sources: dict[Name, Component] = Field(min_length=1, description="Sources by name.")
    channels: dict[Name, Component] = Field(min_length=1, description="Channels by name.")
    sinks: dict[Name, Component] = Field(min_length=1, description="Sinks by name.")


class Sections(Settings):
    """The top of a pipeline file."""

    pipeline: Name | None = Field(
        default=None,
        description="Name of the pipeline; the file's stem by default. Origins are kept under it.",
    )
    state_dir: str = Field(
        default="data/state",
        min_length=1,
        description="Directory of locks, instance ids, positions and the SQLite ledger.",
    )
    shutdown_timeout: Duration = Field(
        default=10.0, description="Time to commit what was read, after SIGTERM."
    )
    once_timeout: Duration = Field(
        default=3600.0, gt=0, description="With --once: time after which the run gives up with status 75."
    )
    restart: RestartSettings = Field(
        default_factory=RestartSettings, description="Back-off of processes that fail."
    )
    broker: BrokerSettings | None = Field(default=None, description="The built-in broker.")
    kafka: KafkaSettings | None = Field(
        default=None, description="A Kafka cluster to use instead of the built-in broker."
    )
    agents: dict[Name, AgentSections] = Field(default_factory=dict, description="Agents by name.")


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent's components, parsed, by name in the order of the file.

    `declared` are all names in its `channels:`. Not `complete`: a component had a mistake and is missing.
    """

    name: str
    sources: Mapping[str, SourceSettings]
    channels: Mapping[str, ChannelSettings]
    sinks: Mapping[str, SinkSettings]
    declared: frozenset[str] = frozenset()
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A file's settings. `document` is what they were parsed from; a child process parses it again."""

    name: str
    state_dir: Path
    sections: Sections
    agents: Mapping[str, Agent]
    document: Document

    @property
    def bootstrap(self) -> str:
        """`host:port,...` of the cluster that the agents use; empty when there is none."""
        if self.sections.kafka is not None:
            return self.sections.kafka.bootstrap.replace(" ", "")
        return self.sections.broker.listen if self.sections.broker is not None else ""


@dataclass(slots=True)
class Parsed:
    """What could be made of a document: the pipeline lacks the components that have mistakes."""

    pipeline: Pipeline | None
    mistakes: list[Mistake] = field(default_factory=list)


def parse_pipeline(document: Document) -> Parsed:
    """Checks the sections and every component; never stops at the first mistake."""
    if not isinstance(document.data, dict):
        return Parsed(None, [document.mistake((), "expected a mapping with `agents:`, `broker:` or both")])
    sections, mistakes = _checked(Sections, document, ())
    agents: dict[str, Agent] = {}
    found = document.data.get("agents")
    for name, raw in found.items() if isinstance(found, dict) else ():
        agents[name] = _agent(name, raw, document, mistakes)
    if sections is None:
        sections = Sections.model_construct()
    name = sections.pipeline or _stem(document.file)
    return Parsed(Pipeline(name, Path(sections.state_dir), sections, agents, document), mistakes)


def _stem(file: str) -> str:
    """The file's stem as a name."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in Path(file).stem)
    return kept.lstrip("_-")[:64] or "pipeline"


def _agent(name: str, raw: object, document: Document, mistakes: list[Mistake]) -> Agent:
    before = len(mistakes)
    sources, channels, sinks = (
        _components(kind, raw, document, ("agents", name), mistakes) for kind in KINDS
    )
    named = raw.get("channels") if isinstance(raw, dict) else None
    declared = frozenset(named) if isinstance(named, dict) else frozenset[str]()
    return Agent(name, sources, channels, sinks, declared, complete=len(mistakes) == before)


def _components(
    kind: registry.Kind, agent: object, document: Document, at: Place, mistakes: list[Mistake]
) -> dict[str, Any]:
    section = f"{kind}s"
    raw = agent.get(section) if isinstance(agent, dict) else None
    parsed = {}
    for name, settings in raw.items() if isinstance(raw, dict) else ():
        here = (*at, section, name)
        model = _model(kind, settings, document, here, mistakes) if isinstance(settings, dict) else None
        if model is not None:
            component, wrong = _checked(model, document, here)
            mistakes += wrong
            if component is not None:
                parsed[name] = component
    return parsed


def _model(
    kind: registry.Kind, raw: Component, document: Document, at: Place, mistakes: list[Mistake]
) -> type[BaseModel] | None:
    known = registry.types(kind)
    name = raw.get("type")
    if name is None:
        hint = '; the one called "null" needs its quotes' if "type" in raw and "null" in known else ""
        mistakes.append(document.mistake((*at, "type"), f"is required: one of {', '.join(known)}{hint}"))
    elif not isinstance(name, str) or name not in known:
        mistakes.append(
            document.mistake((*at, "type"), f"no {kind} is called {name!r}{nearest(str(name), known)}")
        )
    else:
        try:
            model: type[BaseModel] = registry.component(kind, name).Settings
            return model
        except ImportError as error:
            mistakes.append(
                document.mistake(
                    (*at, "type"), f"the {kind} {name!r} needs a package that is not installed: {error}"
                )
            )
    return None


def _checked(model: type[Any], document: Document, at: Place) -> tuple[Any, list[Mistake]]:
    raw = document.data
    for step in at:
        raw = raw[step]
    try:
        return model.model_validate(raw), []
    except ValidationError as error:
        return None, mistakes_of(error, document, at, model)
