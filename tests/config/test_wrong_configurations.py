"""Wrong configurations and what each is told: the place, the field, what was expected, the nearest valid name."""
# ruff: noqa: E501 - a message is one line

import textwrap

import pytest

from tailrace.agents.plan import check
from tailrace.config.load import parse
from tailrace.config.pipeline import parse_pipeline
from tailrace.errors import ConfigError

GOOD = """
broker: {listen: "127.0.0.1:9092", topics: {logs: {partitions: 2}}}
agents:
  collect:
    sources:
      files: {type: tail, files: ["/var/log/*.log"], channels: [c1]}
    channels:
      c1: {type: memory}
    sinks:
      wire: {type: kafka, channel: c1, topic: logs}
  land:
    sources:
      logs: {type: kafka, topics: [logs], group: land, channels: [c1]}
    channels:
      c1: {type: memory}
    sinks:
      lake: {type: parquet, channel: c1, path: "/lake/%{topic}"}
""".lstrip()


def told(text: str, *, once: bool = False) -> list[str]:
    try:
        return [
            str(m) for m in check(parse_pipeline(parse(text, "p.yaml", {"SECRET": "hunter2"})), once=once)
        ]
    except ConfigError as error:
        return [str(m) for m in error.mistakes]


def test_the_good_one_is_good() -> None:
    assert told(GOOD) == []
    assert told(GOOD, once=True) == []


WRONG = {
    "a misspelt section": (
        ("agents:", "agent:"),
        ["p.yaml:2:1: agent: unknown field; did you mean 'agents'?"],
    ),
    "a misspelt field": (
        ("topic: logs}", "topik: logs}"),
        [
            "p.yaml:9:13: agents.collect.sinks.wire.topic: is required: Topic to write to; made when it is not there.",
            "p.yaml:9:40: agents.collect.sinks.wire.topik: unknown field; did you mean 'topic'?",
        ],
    ),
    "an unknown type": (
        ("{type: tail,", "{type: tial,"),
        ["p.yaml:5:21: agents.collect.sources.files.type: no source is called 'tial'; did you mean 'tail'?"],
    ),
    "a type of another kind": (
        ("{type: parquet,", "{type: memory,"),
        [
            "p.yaml:16:20: agents.land.sinks.lake.type: no sink is called 'memory'; there is kafka, logger, null, parquet"
        ],
    ),
    "no type": (
        ("{type: parquet, channel", "{channel"),
        ["p.yaml:16:13: agents.land.sinks.lake.type: is required: one of kafka, logger, null, parquet"],
    ),
    "a type that YAML takes for nothing": (
        ("{type: parquet,", "{type: null,"),
        [
            'p.yaml:16:20: agents.land.sinks.lake.type: is required: one of kafka, logger, null, parquet; the one called "null" needs its quotes'
        ],
    ),
    "a channel that is not there": (
        ("channel: c1, topic", "channel: c2, topic"),
        [
            "p.yaml:7:7: agents.collect.channels.c1: no sink takes from this channel",
            "p.yaml:9:36: agents.collect.sinks.wire.channel: no channel is called 'c2'; there is c1",
        ],
    ),
    "a source without a channel": (
        ('"/var/log/*.log"], channels: [c1]', '"/var/log/*.log"], channels: []'),
        ["p.yaml:5:64: agents.collect.sources.files.channels: expected at least 1 of them, not 0"],
    ),
    "a channel twice": (
        ('"/var/log/*.log"], channels: [c1]', '"/var/log/*.log"], channels: [c1, c1]'),
        ["p.yaml:5:69: agents.collect.sources.files.channels[1]: 'c1' is here twice"],
    ),
    "two sinks on a channel": (
        ("      wire:", "      more: {type: null_, channel: c1}\n      wire:".replace("null_", "'null'")),
        [
            "p.yaml:10:36: agents.collect.sinks.wire.channel: 'c1' is emptied by 'more' already; "
            "to send every row to both, give each sink a channel of its own"
        ],
    ),
    "a channel nobody fills": (
        (
            "      c1: {type: memory}\n    sinks:\n      lake",
            "      c1: {type: memory}\n      c2: {type: memory}\n    sinks:\n      lake",
        ),
        [
            "p.yaml:15:7: agents.land.channels.c2: no sink takes from this channel",
            "p.yaml:15:7: agents.land.channels.c2: no source puts into this channel",
        ],
    ),
    "an agent without sinks": (
        ("    sinks:\n      wire: {type: kafka, channel: c1, topic: logs}\n", ""),
        [
            "p.yaml:4:5: agents.collect.sinks: is required: Sinks by name.",
            "p.yaml:7:7: agents.collect.channels.c1: no sink takes from this channel",
        ],
    ),
    "a group twice": (
        (
            "    channels:\n      c1: {type: memory}\n    sinks:\n      lake",
            "      more: {type: kafka, topics: [x], group: land, channels: [c1]}\n    channels:\n      c1: {type: memory}\n    sinks:\n      lake",
        ),
        [
            "p.yaml:13:47: agents.land.sources.more.group: 'land' is the group of land.logs already: "
            "give each source a group of its own (to share the work, run the same agent on several hosts)"
        ],
    ),
    "no broker and no cluster": (
        ('broker: {listen: "127.0.0.1:9092", topics: {logs: {partitions: 2}}}', ""),
        [
            "p.yaml:9:20: agents.collect.sinks.wire.type: needs a `broker:` or a `kafka:` section at the top of the file",
            "p.yaml:12:20: agents.land.sources.logs.type: needs a `broker:` or a `kafka:` section at the top of the file",
        ],
    ),
    "a broker and a cluster": (
        ("agents:", "kafka: {bootstrap: 'k:9092'}\nagents:"),
        ["p.yaml:2:1: kafka: a file has `broker:` or `kafka:`, not both"],
    ),
    "a number that is none": (
        ("partitions: 2", "partitions: two"),
        ["p.yaml:1:64: broker.topics.logs.partitions: expected a whole number, not 'two'"],
    ),
    "a number too small": (
        ("partitions: 2", "partitions: 0"),
        ["p.yaml:1:64: broker.topics.logs.partitions: expected at least 1, not 0"],
    ),
    "a size with an unknown unit": (
        ("{type: memory}\n    sinks:\n      wire", "{type: memory, capacity: 64Mb}\n    sinks:\n      wire"),
        [
            "p.yaml:7:36: agents.collect.channels.c1.capacity: expected a size such as 64MiB, 10MB or a number of bytes, not '64Mb'"
        ],
    ),
    "a duration that is none": (
        ("broker:", "shutdown_timeout: soon\nbroker:"),
        [
            "p.yaml:1:19: shutdown_timeout: expected a duration such as 5m, 1h30m, 200ms or a number of seconds, not 'soon'"
        ],
    ),
    "an address that is none": (
        ('"127.0.0.1:9092"', "localhost"),
        [
            r"p.yaml:1:18: broker.listen: expected text that matches ^(\[[0-9a-fA-F:]+\]|[^:\s]+):[0-9]{1,5}$, not 'localhost'"
        ],
    ),
    "a list that is none": (
        ("topics: [logs]", "topics: logs"),
        ["p.yaml:12:35: agents.land.sources.logs.topics: expected a list, not 'logs'"],
    ),
    "text that YAML takes for a number": (
        ("group: land", "group: 7"),
        [
            "p.yaml:12:50: agents.land.sources.logs.group: expected text (a number or a boolean needs quotes around it), not 7"
        ],
    ),
    "a name with a slash": (
        ("  collect:", "  col/lect:"),
        ["p.yaml:3:3: agents.col/lect: expected a name that matches ^[A-Za-z0-9][A-Za-z0-9_-]*$"],
    ),
    "a guarantee that does not exist": (
        ("topic: logs}\n  land", "topic: logs, delivery: exactly-one}\n  land"),
        [
            "p.yaml:9:63: agents.collect.sinks.wire.delivery: expected 'exactly-once', 'at-least-once' or 'at-most-once', "
            "not 'exactly-one'; did you mean 'exactly-once'?"
        ],
    ),
    "a guarantee that cannot be kept": (
        ("topic: logs}\n  land", "topic: logs, transactional: false, delivery: exactly-once}\n  land"),
        [
            "p.yaml:9:85: agents.collect.sinks.wire.delivery: exactly-once is demanded, but from files it is at-least-once: "
            "wire: transactional: false stores positions after the rows: a crash in between sends rows again"
        ],
    ),
    "an unset variable": (
        ("group: land", "group: '${env:GROUP}'"),
        [
            "p.yaml:12:50: agents.land.sources.logs.group: the environment variable GROUP is not set; "
            "${env:GROUP:-default} gives a default"
        ],
    ),
    "a reference without quotes between braces": (
        ("group: land", "group: ${env:GROUP}"),
        [
            "p.yaml:12:51: while parsing a flow mapping, expected ',' or '}', but got '{' "
            "(inside { } or [ ] a ${reference} needs quotes around it)"
        ],
    ),
    "a secret in the wrong place": (
        ("partitions: 2", "partitions: '${env:SECRET}'"),
        ["p.yaml:1:64: broker.topics.logs.partitions: expected a whole number, not '${env:SECRET}'"],
    ),
    "a duplicate": (
        ("  land:", "  collect:"),
        ["p.yaml:10:3: 'collect' is here twice: first on line 3"],
    ),
    "a tab": (
        ("  land:", "\tland:"),
        ["p.yaml:10:1: while scanning for the next token, found character '\\t' that cannot start any token"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_is_told_at_its_place(name: str) -> None:
    (old, new), expected = WRONG[name]
    assert GOOD.count(old) >= 1
    assert told(GOOD.replace(old, new, 1)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["p.yaml:1:1: expected a mapping with `agents:`, `broker:` or both"]),
        ("[1]", ["p.yaml:1:1: expected a mapping with `agents:`, `broker:` or both"]),
        ("pipeline: x", ["p.yaml:1:1: expected `agents:`, `broker:` or both"]),
        ("agents: [a]", ["p.yaml:1:9: agents: expected a mapping (name: value), not a list"]),
        ("agents: {a: 3}", ["p.yaml:1:13: agents.a: expected a mapping (field: value), not 3"]),
        (
            "agents: {a: {sources: {s: 3}, channels: {c: null}, sinks: {}}}",
            [
                "p.yaml:1:27: agents.a.sources.s: expected a mapping (name: value), not 3",
                "p.yaml:1:45: agents.a.channels.c: expected a mapping (name: value), not nothing",
                "p.yaml:1:59: agents.a.sinks: expected at least 1 of them, not 0",
            ],
        ),
    ],
)
def test_files_of_another_shape(text: str, expected: list[str]) -> None:
    assert told(text) == expected


def test_agents_that_wait_for_each_other_have_no_order() -> None:
    agent = """
      sources: {{s: {{type: kafka, topics: [{0}], group: {0}, channels: [c]}}}}
      channels: {{c: {{type: memory}}}}
      sinks: {{k: {{type: kafka, topic: {1}, channel: c}}}}"""
    text = f"broker: {{}}\nagents:\n    a:{agent.format('x', 'y')}\n    b:{agent.format('y', 'x')}\n"
    assert told(text) == []
    assert told(text, once=True) == [
        "p.yaml:3:5: agents.a: --once has no order: a, b read topics of one another"
    ]


def test_all_are_told_at_once_in_the_order_of_the_file() -> None:
    text = GOOD
    chosen = ("a number that is none", "an unknown type", "two sinks on a channel", "a list that is none")
    for name in chosen:
        text = text.replace(*WRONG[name][0], 1)
    lines = [int(mistake.split(":")[1]) for mistake in told(text)]
    assert len(lines) == 4 and lines == sorted(lines)


def test_the_place_of_what_an_alias_brings_in_is_where_it_stands() -> None:
    text = textwrap.dedent("""
        agents:
          a: &a
            sources: {s: {type: sequence, events: many, channels: [c]}}
            channels: {c: {type: memory}}
            sinks: {l: {type: logger, channel: c}}
          b: *a
    """).lstrip()
    assert told(text) == [
        "p.yaml:3:43: agents.a.sources.s.events: expected a whole number, not 'many'",
        "p.yaml:3:43: agents.b.sources.s.events: expected a whole number, not 'many'",
    ]
