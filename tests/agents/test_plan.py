"""Routes, their guarantees and their order."""

import pytest

from tailrace.agents.plan import chains, check, order, routes
from tailrace.config.load import parse
from tailrace.config.pipeline import Pipeline, parse_pipeline


def plan(text: str) -> Pipeline:
    parsed = parse_pipeline(parse(text, "p.yaml", {}))
    assert parsed.pipeline is not None and check(parsed) == []
    return parsed.pipeline


def kafka_to_kafka(name: str, read: str, write: str, sink: str = "") -> str:
    return f"""
  {name}:
    sources: {{in: {{type: kafka, topics: [{read}], group: {name}, channels: [c]}}}}
    channels: {{c: {{type: memory}}}}
    sinks: {{out: {{type: kafka, topic: {write}, channel: c{sink}}}}}"""


COLLECT = """
  collect:
    sources: {files: {type: tail, files: [/a], channels: [c, d]}}
    channels: {c: {type: memory}, d: {type: memory}}
    sinks:
      wire: {type: kafka, topic: raw, channel: c}
      seen: {type: logger, channel: d}"""
LAND = """
  land:
    sources: {in: {type: kafka, topics: [cooked], group: land, channels: [c]}}
    channels: {c: {type: memory}}
    sinks: {lake: {type: parquet, channel: c, path: /lake}}"""


def test_each_source_channel_sink_path_is_a_route_with_its_own_guarantee() -> None:
    found = routes(plan("broker: {}\nagents:" + COLLECT))
    assert [(str(route), route.guarantee) for route in found] == [
        ("collect: files -> c -> wire", "exactly-once"),
        ("collect: files -> d -> seen", "at-least-once"),
    ]
    assert found[0].reasons == ()
    assert found[1].reasons == (
        "seen: a line that is logged cannot be taken back, so a crash right after it repeats it",
    )


def test_rows_of_aborted_transactions_weaken_a_route() -> None:
    land = LAND.replace("type: kafka,", "type: kafka, isolation: read_uncommitted,")
    (route,) = routes(plan("broker: {}\nagents:" + land))
    assert route.guarantee == "at-least-once"
    assert route.reasons == (
        "in: isolation: read_uncommitted hands on rows of transactions that are aborted and written again",
    )


def test_routes_through_topics_make_chains_as_strong_as_their_weakest() -> None:
    text = (
        "broker: {}\nagents:"
        + COLLECT
        + kafka_to_kafka("cook", "raw", "cooked", ", transactional: false")
        + LAND
    )
    found = chains(plan(text))
    assert [([str(r) for r in chain.routes], chain.topics, chain.guarantee) for chain in found] == [
        (
            ["collect: files -> c -> wire", "cook: in -> c -> out", "land: in -> c -> lake"],
            ("raw", "cooked"),
            "at-least-once",
        )
    ]


def test_agents_are_ordered_by_the_topics_between_them() -> None:
    text = (
        "broker: {}\nagents:"
        + LAND
        + kafka_to_kafka("cook", "raw", "cooked")
        + COLLECT
        + kafka_to_kafka("other", "x", "y")
    )
    pipeline = plan(text)
    assert order(pipeline) == ([["collect", "other"], ["cook"], ["land"]], [])
    assert order(pipeline, ["land", "collect"]) == ([["land", "collect"]], [])


def test_a_circle_of_topics_ends_no_chain_search_and_has_no_order() -> None:
    pipeline = plan("broker: {}\nagents:" + kafka_to_kafka("a", "x", "y") + kafka_to_kafka("b", "y", "x"))
    assert chains(pipeline) == []
    assert order(pipeline) == ([], ["a", "b"])


@pytest.mark.parametrize("demand", ["exactly-once", "at-least-once", "at-most-once"])
def test_a_route_may_be_better_than_demanded(demand: str) -> None:
    text = "broker: {}\nagents:" + COLLECT.replace("topic: raw,", f"topic: raw, delivery: {demand},")
    assert check(parse_pipeline(parse(text, "p.yaml", {}))) == []
