"""The command line as a user meets it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from tailrace.cli import main

PIPELINE = """
state_dir: {root}/state
agents:
  a:
    sources:
      n: {{type: sequence, events: 50, channels: [c]}}
    channels:
      c: {{type: memory}}
    sinks:
      out: {{type: 'null', channel: c}}
"""


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


class Cli:
    """Commands in this process, but for `run`, which has children and signals."""

    def __init__(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.file = root / "p.yaml"
        self.file.write_text(PIPELINE.format(root=root))
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Done:
        if arguments[0] == "run":
            command = [sys.executable, "-m", "tailrace", *arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            return Done(done.returncode, done.stdout, done.stderr)
        self._monkeypatch.setattr(sys, "argv", ["tailrace", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capsys.readouterr()
        return Done(int(ended.value.code or 0), out, err)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    yield Cli(tmp_path, monkeypatch, capsys)
    structlog.reset_defaults()


def test_validate_says_what_is_in_it(cli: Cli) -> None:
    done = cli("validate", str(cli.file))
    assert (done.returncode, done.stdout) == (0, f"{cli.file}: correct: 1 agent, 1 route\n")


def test_mistakes_end_with_status_78_one_a_line(cli: Cli) -> None:
    cli.file.write_text(cli.file.read_text().replace("events: 50", "event: 50").replace("'null'", "nul"))
    done = cli("validate", str(cli.file))
    assert done.returncode == 78 and done.stdout == ""
    assert done.stderr.splitlines() == [
        f"{cli.file}:6:27: agents.a.sources.n.event: unknown field; did you mean 'events'?",
        f"{cli.file}:10:19: agents.a.sinks.out.type: no sink is called 'nul'; did you mean 'null'?",
    ]
    assert cli("run", str(cli.file)).returncode == 78
    assert cli("explain", str(cli.file)).returncode == 78


def test_a_file_that_is_not_there(cli: Cli) -> None:
    done = cli("run", "/nowhere.yaml")
    assert (done.returncode, done.stderr) == (
        78,
        "/nowhere.yaml:1:1: cannot be read: No such file or directory\n",
    )


def test_explain_gives_each_routes_guarantee_and_why(cli: Cli) -> None:
    done = cli("explain", str(cli.file))
    assert done.stdout.splitlines() == [
        "a: n -> c -> out: at-least-once",
        "    because out: it keeps nothing, so rows dropped right before a crash are read and dropped again",
    ]
    (route,) = json.loads(cli("explain", str(cli.file), "--json").stdout)
    assert route["guarantee"] == "at-least-once" and route["reasons"]


def test_run_once_then_positions_then_reset_then_once_more(cli: Cli) -> None:
    first = cli("run", str(cli.file), "--once")
    assert first.returncode == 0, first.stderr
    assert first.stdout.split()[:5] == ["agent", "rows", "read", "rows", "landed"]
    assert first.stdout.splitlines()[2].split()[:5] == ["a", "50", "50", "0", "0"]
    (position,) = [
        json.loads(line) for line in cli("positions", "list", str(cli.file), "--json").stdout.splitlines()
    ]
    assert position["position"] == "50" and position["name"] == "n"
    assert cli("positions", "reset", str(cli.file), "--agent", "a", "--sink", "out").returncode == 2
    wrong = cli(
        "positions", "reset", str(cli.file), "--agent", "a", "--sink", "out", "--partition", "stream/x/0"
    )
    assert wrong.returncode == 2 and "has no partition 'stream/x/0'" in wrong.stderr
    reset = cli(
        "positions",
        "reset",
        str(cli.file),
        "--agent",
        "a",
        "--sink",
        "out",
        "--partition",
        position["partition"],
    )
    assert reset.returncode == 0, reset.stderr
    assert cli("positions", "list", str(cli.file)).stdout == ""
    again = json.loads(cli("run", str(cli.file), "--once", "--json").stdout)
    assert again["agents"]["a"]["rows_read"] == 50


def test_positions_in_a_durable_channel_are_not_reset_but_its_directory_can_go(
    cli: Cli, tmp_path: Path
) -> None:
    cli.file.write_text(cli.file.read_text().replace("type: memory", "type: file"))
    assert cli("run", str(cli.file), "--once").returncode == 0
    refused = cli("positions", "reset", str(cli.file), "--agent", "a", "--sink", "out", "--all")
    directory = tmp_path / "state" / "a" / "channels" / "c"
    assert refused.returncode == 1
    assert f"in the channel c; to have their rows read once more, remove {directory} while" in refused.stderr
    shutil.rmtree(directory)
    again = json.loads(cli("run", str(cli.file), "--once", "--json").stdout)
    assert again["agents"]["a"]["rows_landed"] == 50


def test_positions_before_the_first_run(cli: Cli) -> None:
    done = cli("positions", "list", str(cli.file))
    assert done.returncode == 1 and "a has never run with the state directory" in done.stderr


def test_what_only_a_person_can_decide_is_a_sentence_and_no_traceback(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "state" / "a").mkdir(parents=True)
    (tmp_path / "state" / "a" / "instance.json").write_text("{}")
    done = cli("positions", "list", str(cli.file))
    assert done.returncode == 1
    assert done.stderr == (
        f"{tmp_path}/state/a/instance.json is damaged; restore it, or remove it to begin as a new instance\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--agent", "b"), "--agent: no agent is called 'b'; there is a"),
        (("positions", "list", "--agent", "b"), "no agent is called 'b'; there is a"),
        (("positions", "list", "--sink", "ou"), "no sink is called 'ou'; did you mean 'out'?"),
    ],
)
def test_names_that_are_not_there(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    command = 2 if arguments[0] == "positions" else 1
    done = cli(*arguments[:command], str(cli.file), *arguments[command:])
    assert (done.returncode, done.stderr) == (2, said + "\n")


def test_list_and_describe_know_every_component(cli: Cli) -> None:
    listed = cli("list").stdout
    assert [line.split(":")[0] for line in listed.splitlines()] == ["sources", "channels", "sinks"]
    assert "sequence" in listed and "memory" in listed and "parquet" in listed
    both = cli("describe", "kafka").stdout
    assert "# kafka source" in both and "# kafka sink" in both
    one = cli("describe", "sink", "kafka").stdout
    assert "# kafka sink" in one and "# kafka source" not in one
    assert "| `topic` | text | required |" in one
    assert "| `topics.<name>.partitions` | integer | `1` |" in cli("describe", "broker").stdout
    done = cli("describe", "kafak")
    assert done.returncode == 2 and "did you mean 'kafka'?" in done.stderr


def test_the_schema_is_json_and_names_every_type(cli: Cli) -> None:
    schema = json.loads(cli("schema").stdout)
    sinks = schema["$defs"]["AgentSections"]["properties"]["sinks"]["additionalProperties"]
    assert {"kafka", "logger", "null", "parquet"} <= set(sinks["properties"]["type"]["enum"])


def test_version(cli: Cli) -> None:
    assert cli("version").stdout.startswith("tailrace ")
