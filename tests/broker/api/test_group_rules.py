"""The finer rules of groups over sockets; each runs on Apache Kafka too (tests/interop)."""

from typing import Any

import pytest

from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.messages import request
from tests.broker.api.test_groups import (
    commit,
    group,
    join,
    join_body,
    member_of,
    other,
    sync,
    until_a_rebalance,
)
from tests.support.wire_client import WireClient

__all__ = ["group", "other"]
REBALANCE = ErrorCode.rebalance_in_progress


def beat(
    client: WireClient, group: str, joined: Any, generation: int | None = None, **more: Any
) -> ErrorCode:
    error: ErrorCode = client.call(
        12,
        4,
        group_id=group,
        member_id=joined.member_id,
        generation_id=joined.generation_id if generation is None else generation,
        **more,
    ).error_code
    return error


def commit_as(
    client: WireClient, group: str, topic: str, joined: Any, generation: int | None = None
) -> ErrorCode:
    who = joined.generation_id if generation is None else generation
    return commit(client, group, topic, 1, generation_id_or_member_epoch=who, member_id=joined.member_id)


def leave(client: WireClient, group: str, *members: tuple[str, str | None]) -> list[ErrorCode]:
    named = [{"member_id": m, "group_instance_id": i} for m, i in members]
    answer = client.call(13, 5, group_id=group, members=named)
    assert answer.error_code == 0
    return [member.error_code for member in answer.members]


def two_members(client: WireClient, other: WireClient, group: str) -> tuple[Any, Any]:
    """Both in generation 2, before anybody has sent SyncGroup; the first one leads."""
    first = member_of(client, group)
    given = other.call(11, 9, **join_body(group)).member_id
    other.send(11, 9, request(11, 9, **join_body(group, given)))
    until_a_rebalance(client, group, first.member_id)
    return client.call(11, 9, **join_body(group, first.member_id)), other.receive()


def share_out(client: WireClient, other: WireClient, group: str, first: Any, second: Any) -> None:
    other.send(14, 5, request(14, 5, **_sync_body(group, second)))
    shares = {first.member_id: b"one", second.member_id: b"two"}
    assert client.call(14, 5, **_sync_body(group, first, shares)).assignment == b"one"
    assert other.receive().assignment == b"two"


def _sync_body(
    group: str, joined: Any, shares: dict[str, bytes] | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "group_id": group,
        "generation_id": joined.generation_id,
        "member_id": joined.member_id,
        "protocol_type": "consumer",
        "protocol_name": "range",
        "assignments": [{"member_id": m, "assignment": share} for m, share in (shares or {}).items()],
        **more,
    }


def test_between_join_and_sync_a_member_lives_but_commits_nothing(
    client: WireClient, other: WireClient, group: str, topic: str
) -> None:
    first, second = two_members(client, other, group)
    assert beat(client, group, first) == beat(client, group, second) == 0
    assert commit_as(client, group, topic, first) == REBALANCE
    assert commit_as(client, group, topic, first, generation=1) == ErrorCode.illegal_generation
    share_out(client, other, group, first, second)
    assert commit_as(client, group, topic, first) == commit_as(client, group, topic, second) == 0


def test_a_member_may_commit_while_others_join(
    client: WireClient, other: WireClient, group: str, topic: str
) -> None:
    first = member_of(client, group)
    given = other.call(11, 9, **join_body(group)).member_id
    other.send(11, 9, request(11, 9, **join_body(group, given)))
    until_a_rebalance(client, group, first.member_id)
    assert commit_as(client, group, topic, first) == 0
    assert client.call(14, 5, **_sync_body(group, first)).error_code == REBALANCE


def test_a_follower_that_joins_a_stable_group_gets_the_generation_there_is(
    client: WireClient, other: WireClient, group: str
) -> None:
    first, second = two_members(client, other, group)
    share_out(client, other, group, first, second)
    again = other.call(11, 9, **join_body(group, second.member_id))
    assert (again.error_code, again.generation_id, again.members) == (0, 2, ())
    assert again.leader == first.member_id
    assert beat(client, group, first) == 0


def test_a_leader_that_joins_a_stable_group_starts_a_rebalance(
    client: WireClient, other: WireClient, group: str
) -> None:
    first, second = two_members(client, other, group)
    share_out(client, other, group, first, second)
    client.send(11, 9, request(11, 9, **join_body(group, first.member_id)))
    while beat(other, group, second) != REBALANCE:
        pass
    again = other.call(11, 9, **join_body(group, second.member_id))
    assert again.generation_id == client.receive().generation_id == 3


def test_a_join_that_is_repeated_before_sync_gets_the_same_answer(
    client: WireClient, other: WireClient, group: str
) -> None:
    first, second = two_members(client, other, group)
    again = client.call(11, 9, **join_body(group, first.member_id))
    assert (again.generation_id, again.leader) == (2, first.member_id)
    assert {m.member_id for m in again.members} == {first.member_id, second.member_id}
    assert other.call(11, 9, **join_body(group, second.member_id)).members == ()


def test_sync_is_for_this_generation_and_protocol(client: WireClient, group: str) -> None:
    joined = join(client, group)
    wrong = [
        ({"generation_id": 7}, ErrorCode.illegal_generation),
        ({"member_id": "nobody"}, ErrorCode.unknown_member_id),
        ({"group_instance_id": "i"}, ErrorCode.unknown_member_id),
        ({"protocol_name": "sticky"}, ErrorCode.inconsistent_group_protocol),
        ({"protocol_type": "connect"}, ErrorCode.inconsistent_group_protocol),
        ({"protocol_type": None}, ErrorCode.inconsistent_group_protocol),
        ({"group_id": "unheard"}, ErrorCode.unknown_member_id),
        ({"group_id": ""}, ErrorCode.invalid_group_id),
    ]
    for change, error in wrong:
        assert client.call(14, 5, **(_sync_body(group, joined) | change)).error_code == error, change
    assert sync(client, group, joined).assignment == b"all"


def test_members_leave_each_on_its_own(client: WireClient, group: str) -> None:
    unknown = ErrorCode.unknown_member_id
    assert leave(client, group, ("nobody", None), ("", "i")) == [unknown, unknown]
    joined = member_of(client, group, instance="i")
    assert leave(client, group, ("nobody", "i")) == [ErrorCode.fenced_instance_id]
    assert leave(client, group, (joined.member_id, "j")) == [unknown]
    assert leave(client, group, ("nobody", None), ("", "i")) == [unknown, 0]
    assert beat(client, group, joined, group_instance_id="i") == unknown
    given = client.call(11, 9, **join_body(group)).member_id
    assert leave(client, group, (given, None)) == [0]
    assert client.call(11, 9, **join_body(group, given)).error_code == unknown
    assert client.call(13, 5, group_id="", members=[]).error_code == ErrorCode.invalid_group_id


def test_who_stays_joins_again_when_a_member_leaves(
    client: WireClient, other: WireClient, group: str
) -> None:
    first, second = two_members(client, other, group)
    share_out(client, other, group, first, second)
    assert leave(client, group, (first.member_id, None)) == [0]
    assert beat(other, group, second) == REBALANCE
    again = other.call(11, 9, **join_body(group, second.member_id))
    assert (again.generation_id, again.leader) == (3, second.member_id)


def test_a_follower_waiting_in_sync_starts_over_when_the_leader_leaves(
    client: WireClient, other: WireClient, group: str
) -> None:
    first, second = two_members(client, other, group)
    other.send(14, 5, request(14, 5, **_sync_body(group, second)))
    assert leave(client, group, (first.member_id, None)) == [0]
    assert other.receive().error_code == REBALANCE


@pytest.mark.parametrize("version", [5, 8, 9])
def test_a_static_leader_comes_back(client: WireClient, group: str, version: int) -> None:
    first = member_of(client, group, instance="i")
    again = join(client, group, version, instance="i")
    assert (again.error_code, again.generation_id) == (0, 1)
    if version == 9:
        assert again.skip_assignment
        assert again.leader == again.member_id
        assert [m.member_id for m in again.members] == [again.member_id]
    else:
        assert again.leader == first.member_id
        assert again.members == ()
    got = client.call(14, 5, **_sync_body(group, again, group_instance_id="i"))
    assert (got.error_code, got.assignment) == (0, b"all")


def test_a_static_member_that_waits_is_fenced_by_its_next_life(
    client: WireClient, other: WireClient, group: str
) -> None:
    first = member_of(client, group)
    other.send(11, 9, request(11, 9, **join_body(group, instance="i")))
    until_a_rebalance(client, group, first.member_id)
    client.send(11, 9, request(11, 9, **join_body(group, instance="i")))
    assert other.receive().error_code == ErrorCode.fenced_instance_id
    again = other.call(11, 9, **join_body(group, first.member_id))
    next_life = client.receive()
    assert again.generation_id == next_life.generation_id == 2
    assert {m.group_instance_id for m in again.members} == {None, "i"}


def test_protocols_must_have_one_in_common(client: WireClient, other: WireClient, group: str) -> None:
    both = [{"name": "range", "metadata": b"r"}, {"name": "sticky", "metadata": b"s"}]
    first = join(client, group)
    assert sync(client, group, first).error_code == 0
    mismatch = ErrorCode.inconsistent_group_protocol
    for version in (3, 9):
        body = join_body(group) | {"protocols": both[1:]}
        assert other.call(11, version, **body).error_code == mismatch
        body = join_body(group) | {"protocol_type": "connect"}
        assert other.call(11, version, **body).error_code == mismatch
    other.send(11, 3, request(11, 3, **(join_body(group) | {"protocols": both[::-1]})))
    until_a_rebalance(client, group, first.member_id)
    again = client.call(11, 9, **join_body(group, first.member_id))
    assert again.protocol_name == other.receive().protocol_name == "range"
