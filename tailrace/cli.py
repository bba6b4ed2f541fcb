"""The command line: runs, checks and explains pipelines, and describes what there is to build them from.

Exit statuses: 0, 1 (something failed), 70 (a fault of ours), 75 (locked, or out of time), 78 (configuration).
"""

import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from tailrace import __version__, registry
from tailrace.agents.broker_process import BrokerRefused
from tailrace.agents.logs import log_to_stderr
from tailrace.agents.plan import chains, check, routes, unknown_agents
from tailrace.agents.progress import LineView, LiveView
from tailrace.agents.summary import CONFIG, CRASHED, FAILED, TEMPORARY, show
from tailrace.agents.supervisor import Supervisor
from tailrace.clock import SystemClock
from tailrace.config.describe import SECTIONS, find, page, section_page
from tailrace.config.load import load
from tailrace.config.mistakes import nearest
from tailrace.config.pipeline import KINDS, Pipeline, parse_pipeline
from tailrace.config.schema import pipeline_schema
from tailrace.errors import ConfigError, Locked, TailraceError
from tailrace.inspection import ledger, positions
from tailrace.peek import first_rows
from tailrace.peek import table as peek_table

app = typer.Typer(
    help="Log pipelines defined by YAML, each row exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(positions, name="positions")
app.add_typer(ledger, name="ledger")

File = Annotated[Path, typer.Argument(metavar="FILE", help="The pipeline's YAML file.")]
Once = Annotated[
    bool, typer.Option("--once", help="Read what there is now, land it, print a summary and end.")
]
Agent = Annotated[
    list[str] | None, typer.Option("--agent", metavar="NAME", help="Run only this agent; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> NoReturn:
    """What the `tailrace` script calls."""
    log_to_stderr()
    try:
        app(standalone_mode=True)
    except ConfigError as error:
        _fail(str(error), CONFIG)
    except BrokerRefused:
        _fail("the broker cannot run with this configuration; it says why above", CONFIG)
    except Locked as error:
        _fail(str(error), TEMPORARY)
    except TailraceError as error:
        _fail(str(error), FAILED)
    except Exception:  # noqa: BLE001 - whatever it is, it is a fault of ours and says where
        traceback.print_exc()
        sys.exit(CRASHED)
    sys.exit(0)


@app.command()
def run(file: File, once: Once = False, agent: Agent = None, as_json: Json = False) -> None:
    """Run a pipeline: the broker and every agent, each in a process of its own."""
    pipeline = _pipeline(file, once=once, only=agent or ())
    terminal = Console(stderr=True)
    view = LiveView(terminal) if terminal.is_terminal else LineView()
    summary = Supervisor(pipeline, once=once, only=agent or (), view=view, clock=SystemClock()).run()
    if as_json:
        typer.echo(json.dumps(summary.to_json()))
    elif once:
        show(summary, Console(width=None if sys.stdout.isatty() else 100))
    raise typer.Exit(summary.status)


@app.command()
def validate(file: File, once: Once = False) -> None:
    """Check a pipeline without running it; all mistakes are listed, each with its line and column."""
    pipeline = _pipeline(file, once=once)
    typer.echo(f"{file}: correct: {_count(pipeline)}")


@app.command()
def explain(file: File, as_json: Json = False) -> None:
    """Say for every route what it guarantees, and why it is not more."""
    pipeline = _pipeline(file)
    if as_json:
        fields = ("agent", "source", "channel", "sink", "guarantee", "reasons", "notes")
        typer.echo(
            json.dumps([{field: getattr(route, field) for field in fields} for route in routes(pipeline)])
        )
        return
    for route in routes(pipeline):
        typer.echo(f"{route}: {route.guarantee}")
        for reason in route.reasons:
            typer.echo(f"    because {reason}")
        for note in route.notes:
            typer.echo(f"    note: {note}")
    for chain in chains(pipeline):
        way = chain.routes[0].agent + "." + chain.routes[0].source
        for topic, route in zip(chain.topics, chain.routes[1:], strict=True):
            way += f" -> topic {topic} -> {route.agent}.{route.sink}"
        typer.echo(f"end to end: {way}: {chain.guarantee}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of pipeline files, for editors."""
    typer.echo(json.dumps(pipeline_schema(), indent=2))


@app.command("list")
def list_types() -> None:
    """List the sources, channels and sinks that are installed."""
    for kind in KINDS:
        typer.echo(f"{kind}s: {', '.join(registry.types(kind))}")


@app.command()
def describe(
    words: Annotated[
        list[str], typer.Argument(metavar="[KIND] TYPE", help="`tail`, `sink kafka`, `broker`.")
    ],
) -> None:
    """Describe a component and its fields, or a section of the file (pipeline, broker)."""
    kind, name = (words[0], words[1]) if len(words) == 2 else (None, words[0])
    if len(words) > 2 or (kind is not None and kind not in KINDS):
        _fail("expected a type, or source, channel or sink and a type", 2)
    if kind is None and name in SECTIONS:
        typer.echo(section_page(name))
        return
    found = find(name, kind)
    if not found:
        every = {type_name for k in KINDS if kind in (None, k) for type_name in registry.types(k)}
        _fail(f"no {kind or 'component'} is called {name!r}{nearest(name, every)}", 2)
    typer.echo("\n".join(page(*one) for one in found))


@app.command()
def peek(
    folder: Annotated[Path, typer.Argument(help="A folder that a parquet sink writes to.", exists=True)],
    rows: Annotated[int, typer.Option("--rows", min=1, help="How many rows.")] = 5,
) -> None:
    """Show the first rows that have landed in a folder on this machine."""
    Console(width=None if sys.stdout.isatty() else 120).print(peek_table(first_rows(folder, rows)))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"tailrace {__version__}")


def _pipeline(file: Path, *, once: bool = False, only: Sequence[str] = ()) -> Pipeline:
    parsed = parse_pipeline(load(str(file)))
    mistakes = check(parsed, once=once, only=only)
    if mistakes or parsed.pipeline is None:
        raise ConfigError(mistakes)
    for name, near in unknown_agents(parsed.pipeline, only).items():
        _fail(f"--agent: no agent is called {name!r}{near}", 2)
    return parsed.pipeline


def _count(pipeline: Pipeline) -> str:
    agents, ways = len(pipeline.agents), len(routes(pipeline))
    broker = "the built-in broker, " if pipeline.sections.broker is not None else ""
    return f"{broker}{agents} agent{'s' * (agents != 1)}, {ways} route{'s' * (ways != 1)}"


def _fail(text: str, status: int = FAILED) -> NoReturn:
    typer.echo(text, err=True)
    sys.exit(status)
