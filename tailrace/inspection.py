"""`tailrace positions` and `tailrace ledger`: what sinks have stored, and how to have rows read again."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from tailrace.agents.plan import check
from tailrace.agents.stored import NotLookedInto, context_of, forget_positions, stored_positions
from tailrace.clock import SystemClock
from tailrace.config.load import load
from tailrace.config.mistakes import nearest
from tailrace.config.pipeline import Pipeline, parse_pipeline
from tailrace.errors import ConfigError

if TYPE_CHECKING:
    from tailrace.sinks.parquet.settings import ParquetSettings

positions = typer.Typer(
    help="Look at and reset what sinks have stored: the next position of every partition.",
    no_args_is_help=True,
)
ledger = typer.Typer(help="Look at and check the ledger of the landing sinks.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The pipeline's YAML file.")]
Agent = Annotated[str | None, typer.Option("--agent", metavar="NAME", help="Only this agent.")]
Sink = Annotated[str | None, typer.Option("--sink", metavar="NAME", help="Only this sink.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, a line a position.")]


@positions.command("list")
def list_positions(file: File, agent: Agent = None, sink: Sink = None, as_json: Json = False) -> None:
    """List the next position of every partition, by agent and sink."""
    pipeline, failed = _pipeline(file), False
    for agent_name, sink_name in _chosen(pipeline, agent, sink):
        try:
            stored = stored_positions(pipeline, agent_name, sink_name, SystemClock())
        except NotLookedInto as why:
            typer.echo(str(why), err=True)
            failed = True
            continue
        for partition in sorted(stored, key=lambda p: (p.name, p)):
            line = {
                "agent": agent_name,
                "sink": sink_name,
                "partition": partition.key,
                "name": partition.name,
            }
            line |= {"position": str(stored[partition].position)}
            typer.echo(json.dumps(line) if as_json else "  ".join(line.values()))
    if failed:
        raise typer.Exit(1)


@positions.command("reset")
def reset_positions(
    file: File,
    agent: Annotated[str, typer.Option("--agent", metavar="NAME", help="The agent; it must be stopped.")],
    sink: Annotated[str, typer.Option("--sink", metavar="NAME", help="The sink.")],
    partition: Annotated[
        list[str] | None,
        typer.Option("--partition", metavar="KEY", help="As `list` shows it; may be repeated."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every partition of the sink.")] = False,
) -> None:
    """Forget positions: the rows of these partitions are read, and stored, once more from their start."""
    pipeline = _pipeline(file)
    _chosen(pipeline, agent, sink)
    if every == bool(partition):
        _fail("expected --partition KEY (see `tailrace positions list`) or --all", 2)
    _refuse_behind_durable(pipeline, agent, sink)
    try:
        stored = stored_positions(pipeline, agent, sink, SystemClock())
        by_key = {p.key: p for p in stored}
        for key in partition or ():
            if key not in by_key:
                _fail(f"{agent}.{sink} has no partition {key!r}{nearest(key, by_key)}", 2)
        chosen = list(stored) if every else [by_key[key] for key in partition or ()]
        forget_positions(pipeline, agent, sink, chosen, SystemClock())
    except NotLookedInto as why:
        _fail(str(why), 1)
    typer.echo(
        f"{agent}.{sink}: {len(chosen)} positions forgotten; what is stored of them will be stored once more"
    )


@ledger.command("show")
def show_ledger(file: File, agent: Agent = None, sink: Sink = None) -> None:
    """Show what the ledger has of every landing sink: its owners, batches and partitions."""
    # Here and below: SQLAlchemy takes a third of a second to import, and no other command needs it.
    from tailrace.sinks.ledger.looking import NoLedger
    from tailrace.sinks.ledger.show import show

    pipeline = _pipeline(file)
    for agent_name, sink_name, settings in _landing(pipeline, agent, sink):
        try:
            lines = show(settings, context_of(pipeline, agent_name, sink_name, SystemClock()))
        except (NotLookedInto, NoLedger) as why:
            _fail(f"{agent_name}.{sink_name}: {why}", 1)
        typer.echo("\n".join(lines))


@ledger.command("verify")
def verify_ledger(file: File, agent: Agent = None, sink: Sink = None) -> None:
    """Compare the ledger with the files that landed; status 1 when something cannot be right."""
    from tailrace.sinks.ledger.looking import NoLedger
    from tailrace.sinks.ledger.verify import verify

    pipeline, faulty = _pipeline(file), False
    for agent_name, sink_name, settings in _landing(pipeline, agent, sink):
        name = f"{agent_name}.{sink_name}"
        try:
            found = verify(settings, context_of(pipeline, agent_name, sink_name, SystemClock()))
        except (NotLookedInto, NoLedger, OSError) as why:
            _fail(f"{name}: {why}", 1)
        for fault in found.faults:
            typer.echo(f"{name}: fault: {fault}")
        for note in found.notes:
            typer.echo(f"{name}: note: {note}")
        faulty = faulty or bool(found.faults)
        counts = f"{found.files:,} files, {found.rows:,} rows, {found.dead_letters:,} dead letters"
        typer.echo(f"{name}: {counts}, {len(found.faults)} faults")
    if faulty:
        raise typer.Exit(1)


def _landing(
    pipeline: Pipeline, agent: str | None, sink: str | None
) -> Iterator[tuple[str, str, "ParquetSettings"]]:
    from tailrace.sinks.parquet.settings import ParquetSettings

    for agent_name, sink_name in _chosen(pipeline, agent, sink):
        settings = pipeline.agents[agent_name].sinks[sink_name]
        if isinstance(settings, ParquetSettings):
            yield agent_name, sink_name, settings


def _chosen(pipeline: Pipeline, agent: str | None, sink: str | None) -> list[tuple[str, str]]:
    """(agent, sink) pairs; ends the command when there is none of that name."""
    if agent is not None and agent not in pipeline.agents:
        _fail(f"no agent is called {agent!r}{nearest(agent, pipeline.agents)}", 2)
    pairs = [(a.name, name) for a in pipeline.agents.values() if agent in (None, a.name) for name in a.sinks]
    chosen = [pair for pair in pairs if sink in (None, pair[1])]
    if not chosen:
        _fail(f"no sink is called {sink!r}{nearest(sink or '', (name for _, name in pairs))}", 2)
    return chosen


def _refuse_behind_durable(pipeline: Pipeline, agent: str, sink: str) -> None:
    """The sources' positions are the channel's then, and it does not have the rows any more."""
    channel = pipeline.agents[agent].sinks[sink].channel
    directory = pipeline.agents[agent].channels[channel].directory(pipeline.state_dir / agent, channel)
    if directory is not None:
        _fail(
            f"{agent}.{sink}: the positions of the sources are in the channel {channel}; to have their rows read"
            f" once more, remove {directory} while {agent} is stopped",
            1,
        )


def _pipeline(file: Path) -> Pipeline:
    parsed = parse_pipeline(load(str(file)))
    mistakes = check(parsed)
    if mistakes or parsed.pipeline is None:
        raise ConfigError(mistakes)
    return parsed.pipeline


def _fail(text: str, status: int) -> NoReturn:
    typer.echo(text, err=True)
    sys.exit(status)
