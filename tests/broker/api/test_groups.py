"""Groups over sockets, in every version of their API keys: membership, offsets, and what each refusal is."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.messages import encode_request, request
from tests.support.live_broker import LiveBroker
from tests.support.wire_client import WireClient

_numbers = itertools.count()


@pytest.fixture
def group() -> str:
    return f"group-{next(_numbers)}"


@pytest.fixture
def other(broker: LiveBroker) -> Iterator[WireClient]:
    with broker.client() as connected:
        yield connected


def join_body(
    group: str, member: str = "", *, instance: str | None = None, session: int = 10_000
) -> dict[str, Any]:
    return {
        "group_id": group,
        "session_timeout": session,
        "rebalance_timeout": 20_000,
        "member_id": member,
        "group_instance_id": instance,
        "protocol_type": "consumer",
        "protocols": [{"name": "range", "metadata": b"meta"}],
    }


def join(client: WireClient, group: str, version: int = 9, **more: Any) -> Any:
    """The answer of the generation that the client gets into, member id and all."""
    answer = client.call(11, version, **join_body(group, **more))
    if answer.error_code == ErrorCode.member_id_required:
        answer = client.call(11, version, **join_body(group, answer.member_id, **more))
    return answer


def sync(client: WireClient, group: str, joined: Any, share: bytes = b"all", version: int = 5) -> Any:
    assignments = [{"member_id": joined.member_id, "assignment": share}]
    return client.call(
        14,
        version,
        group_id=group,
        protocol_type="consumer",
        protocol_name="range",
        generation_id=joined.generation_id,
        member_id=joined.member_id,
        assignments=assignments,
    )


def member_of(client: WireClient, group: str, **more: Any) -> Any:
    joined = join(client, group, **more)
    assert joined.error_code == 0, joined
    assert sync(client, group, joined).assignment == b"all"
    return joined


def until_a_rebalance(client: WireClient, group: str, member: str) -> None:
    """Heartbeats of a member of generation 1 until they tell it to join again."""
    deadline = time.monotonic() + 20
    beat = {"group_id": group, "generation_id": 1, "member_id": member}
    while client.call(12, 4, **beat).error_code != ErrorCode.rebalance_in_progress:
        assert time.monotonic() < deadline


def commit_body(
    topic: str, offset: int, partition: int = 0, metadata: str | None = "note"
) -> list[dict[str, Any]]:
    place = {
        "partition_index": partition,
        "committed_offset": offset,
        "committed_leader_epoch": 3,
        "committed_metadata": metadata,
    }
    return [{"name": topic, "partitions": [place]}]


def commit(
    client: WireClient, group: str, topic: str, offset: int, version: int = 9, **more: Any
) -> ErrorCode:
    values = {"generation_id_or_member_epoch": -1, "member_id": ""} | more
    answer = client.call(8, version, group_id=group, topics=commit_body(topic, offset), **values)
    error: ErrorCode = answer.topics[0].partitions[0].error_code
    return error


def fetch(client: WireClient, group: str, topics: Any = None, version: int = 9, **more: Any) -> Any:
    """Topics of the answer, whatever the version."""
    if version >= 8:
        answer = client.call(9, version, groups=[{"group_id": group, "topics": topics}], **more)
        assert answer.groups[0].group_id == group
        return answer.groups[0].topics
    return client.call(9, version, group_id=group, topics=topics, **more).topics


@pytest.mark.parametrize("version", range(10))
def test_a_member_joins_syncs_and_leaves_in_every_version(
    client: WireClient, group: str, version: int
) -> None:
    joined = join(client, group, version)
    assert (joined.error_code, joined.generation_id) == (0, 1)
    assert joined.leader == joined.member_id
    assert [(m.member_id, m.metadata) for m in joined.members] == [(joined.member_id, b"meta")]
    assert joined.protocol_name == "range"
    synced = sync(client, group, joined, version=min(version, 5))
    assert (synced.error_code, synced.assignment) == (0, b"all")
    beat = {"group_id": group, "generation_id": 1, "member_id": joined.member_id}
    assert client.call(12, min(version, 4), **beat).error_code == 0
    leave = min(version, 5)
    if leave < 3:
        assert client.call(13, leave, group_id=group, member_id=joined.member_id).error_code == 0
    else:
        left = client.call(13, leave, group_id=group, members=[{"member_id": joined.member_id}])
        assert (left.error_code, left.members[0].error_code) == (0, 0)
    assert client.call(12, min(version, 4), **beat).error_code == ErrorCode.unknown_member_id


@pytest.mark.parametrize("version", range(2, 10))
def test_offsets_come_back_as_they_went_in(client: WireClient, group: str, topic: str, version: int) -> None:
    assert commit(client, group, topic, 42, version) == 0
    for fetched in range(1, 10):
        found = fetch(client, group, [{"name": topic, "partition_indexes": [0, 1]}], fetched)[0].partitions
        assert [(p.committed_offset, p.metadata) for p in found] == [(42, "note"), (-1, "")]
        if fetched >= 5:
            assert found[0].committed_leader_epoch == (3 if version >= 6 else -1)
        if fetched >= 2:
            assert [t.name for t in fetch(client, group, None, fetched)] == [topic]


def test_several_groups_are_fetched_at_once(client: WireClient, group: str, topic: str) -> None:
    commit(client, group, topic, 1)
    commit(client, group + "b", topic, 2)
    wanted = [{"group_id": g, "topics": None} for g in (group, group + "b", group + "c")]
    answer = client.call(9, 8, groups=wanted)
    found = [[p.committed_offset for t in g.topics for p in t.partitions] for g in answer.groups]
    assert found == [[1], [2], []]


def test_a_commit_for_a_partition_that_is_not_there_spoils_no_other(
    client: WireClient, group: str, topic: str
) -> None:
    [known], [far] = commit_body(topic, 5), commit_body(topic, 7, partition=99)
    known["partitions"] += far["partitions"]
    topics = [known, *commit_body("no-such-topic", 6)]
    answer = client.call(8, 9, group_id=group, generation_id_or_member_epoch=-1, member_id="", topics=topics)
    errors = {(t.name, p.partition_index): p.error_code for t in answer.topics for p in t.partitions}
    unknown = ErrorCode.unknown_topic_or_partition
    assert errors == {(topic, 0): 0, (topic, 99): unknown, ("no-such-topic", 0): unknown}
    assert [p.committed_offset for t in fetch(client, group) for p in t.partitions] == [5]


def test_metadata_is_null_or_bounded(client: WireClient, group: str, topic: str) -> None:
    for metadata, error in (
        (None, 0),
        ("x" * 4096, 0),
        ("x" * 4097, 12),
        ("é" * 4096, 0),
        ("\U0001f600" * 2049, 12),
    ):
        answer = client.call(
            8,
            9,
            group_id=group,
            generation_id_or_member_epoch=-1,
            member_id="",
            topics=commit_body(topic, 1, metadata=metadata),
        )
        assert answer.topics[0].partitions[0].error_code == error


def test_a_second_member_waits_until_the_first_joins_again(
    client: WireClient, other: WireClient, group: str
) -> None:
    first = member_of(client, group)
    given = other.call(11, 9, **join_body(group)).member_id
    other.send(11, 9, request(11, 9, **join_body(group, given)))
    until_a_rebalance(client, group, first.member_id)
    again = client.call(11, 9, **join_body(group, first.member_id))
    second = other.receive()
    assert again.generation_id == second.generation_id == 2
    assert again.leader == second.leader == first.member_id
    assert {m.member_id for m in again.members} == {first.member_id, given}
    assert second.members == ()


def test_commits_of_members_are_checked(client: WireClient, group: str, topic: str) -> None:
    joined = member_of(client, group)

    def attempt(member: str, generation: int, instance: str | None = None) -> ErrorCode:
        return commit(
            client,
            group,
            topic,
            1,
            member_id=member,
            generation_id_or_member_epoch=generation,
            group_instance_id=instance,
        )

    assert attempt(joined.member_id, 1) == 0
    assert attempt(joined.member_id, 2) == ErrorCode.illegal_generation
    assert attempt("somebody", 1) == ErrorCode.unknown_member_id
    assert attempt("", -1) == ErrorCode.unknown_member_id
    assert attempt(joined.member_id, 1, "i") == ErrorCode.unknown_member_id


def test_a_static_member_is_fenced_by_its_next_life(client: WireClient, group: str) -> None:
    first = member_of(client, group, instance="i")
    second = join(client, group, instance="i")
    assert (second.error_code, second.generation_id, second.skip_assignment) == (0, 1, True)
    assert second.member_id != first.member_id
    beat = {"group_id": group, "generation_id": 1, "group_instance_id": "i"}
    assert client.call(12, 4, **beat, member_id=first.member_id).error_code == ErrorCode.fenced_instance_id
    assert client.call(12, 4, **beat, member_id=second.member_id).error_code == 0


def test_bad_joins_are_refused(client: WireClient, group: str) -> None:
    assert join(client, "").error_code == ErrorCode.invalid_group_id
    assert join(client, group, session=100).error_code == ErrorCode.invalid_session_timeout
    assert client.call(11, 9, **join_body(group, "nobody")).error_code == ErrorCode.unknown_member_id
    nothing = join_body(group) | {"protocols": []}
    for version in range(10):
        assert client.call(11, version, **nothing).error_code == ErrorCode.inconsistent_group_protocol


@pytest.mark.parametrize("version", range(6))
def test_the_coordinator_is_this_broker(broker: LiveBroker, client: WireClient, version: int) -> None:
    kinds = (0, 1, 2) if version >= 1 else (0,)
    for kind in kinds:
        if version >= 4:
            found = client.call(10, version, key_type=kind, coordinator_keys=["a", "b"]).coordinators
            assert [c.key for c in found] == ["a", "b"]
        else:
            found = [client.call(10, version, key="a", key_type=kind)]
        for coordinator in found:
            if kind == 2:
                assert coordinator.error_code == ErrorCode.invalid_request
            else:
                place = (coordinator.host, coordinator.port)
                assert (coordinator.error_code, *place) == (0, broker.host, broker.port)


def test_a_topic_made_anew_has_no_offsets(client: WireClient, group: str, topic: str) -> None:
    commit(client, group, topic, 9)
    deleted = client.call(20, 5, topic_names=[topic], timeout=10_000)
    assert deleted.responses[0].error_code == 0
    client.create(topic, 2)
    assert fetch(client, group) == ()


def test_names_that_kafka_has_no_room_for_are_refused(broker: LiveBroker) -> None:
    with broker.client() as client:
        client.send(11, 9, request(11, 9, **join_body("g" * 40_000)))
        assert client.closed_by_peer()


def test_a_long_client_name_does_no_harm(broker: LiveBroker, group: str) -> None:
    with broker.client() as client:
        body = request(11, 0, **join_body(group))
        frame = b"".join(bytes(p) for p in encode_request(11, 0, 1, "ü" * 16_000, body))
        client.socket.sendall(frame)
        client._expected.append((1, 11, 0))
        joined = client.receive()
        assert joined.error_code == 0
        assert sync(client, group, joined).error_code == 0


def test_a_broker_that_stops_does_not_wait_for_members_that_wait(tmp_path: Path) -> None:
    with LiveBroker(tmp_path / "data") as live, live.client() as client, live.client() as other:
        first = member_of(client, "g")
        given = other.call(11, 9, **join_body("g")).member_id
        other.send(11, 9, request(11, 9, **join_body("g", given)))
        until_a_rebalance(client, "g", first.member_id)
        assert live.stop() == 0
        assert other.receive().error_code == ErrorCode.coordinator_not_available


@pytest.mark.parametrize("kill", [False, True])
def test_groups_and_offsets_survive_a_restart(tmp_path: Path, kill: bool) -> None:
    with LiveBroker(tmp_path / "data") as live, live.client() as client:
        client.create("t", 1)
        joined = member_of(client, "g", instance="i")
        beat = {
            "member_id": joined.member_id,
            "group_instance_id": "i",
        }
        assert commit(client, "g", "t", 5, generation_id_or_member_epoch=1, **beat) == 0
        live.kill() if kill else live.stop()
    with LiveBroker(tmp_path / "data") as live, live.client() as client:
        assert [p.committed_offset for t in fetch(client, "g") for p in t.partitions] == [5]
        assert client.call(12, 4, group_id="g", generation_id=1, **beat).error_code == 0
        again = client.call(14, 4, group_id="g", generation_id=1, assignments=[], **beat)
        assert (again.error_code, again.assignment) == (0, b"all")
