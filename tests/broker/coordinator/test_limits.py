"""What clients may make the coordinator keep is bounded, and what it cannot keep it says at once."""

from dataclasses import replace

import pytest

from tailrace.broker.coordinator.group_messages import Joined, JoinRequest, Synced, SyncRequest
from tailrace.broker.coordinator.group_step import GroupLimits
from tailrace.broker.wire.errors import ErrorCode
from tests.support.group_world import GroupWorld


def ask(group: str, ticket: int, metadata: bytes, member_id: str = "") -> JoinRequest:
    return JoinRequest(
        group,
        member_id,
        None,
        "c",
        "/h",
        10_000,
        60_000,
        "consumer",
        (("p", metadata),),
        f"c-{ticket}",
        False,
    )


def answer_of(world: GroupWorld, ticket: int) -> Joined | Synced:
    return next(answer for to, answer in world.answers if to == ticket)


@pytest.fixture
def world() -> GroupWorld:
    return GroupWorld(GroupLimits(max_bytes=1000, max_members=3))


def test_members_are_counted(world: GroupWorld) -> None:
    for ticket in range(3):
        world.join(ask("g", ticket, b""), ticket)
    world.join(ask("g", 3, b""), 3)
    assert answer_of(world, 3).error is ErrorCode.group_max_size_reached
    world.join(ask("other", 4, b""), 4)
    assert all(to != 4 for to, _ in world.answers)


def test_ids_that_were_given_out_are_counted(world: GroupWorld) -> None:
    needs_id = JoinRequest("g", "", None, "c", "/h", 10_000, 60_000, "consumer", (("p", b""),), "x", True)
    for ticket in range(5):
        world.join(replace(needs_id, fresh_id=f"x{ticket}"), ticket)
    errors = [answer_of(world, ticket).error for ticket in range(5)]
    assert errors == [ErrorCode.member_id_required] * 3 + [ErrorCode.group_max_size_reached] * 2


def test_bytes_are_counted_over_all_groups_and_given_back(world: GroupWorld) -> None:
    world.join(ask("g", 1, b"x" * 700), 1)
    world.join(ask("h", 2, b"x" * 700), 2)
    assert answer_of(world, 2).error is ErrorCode.group_max_size_reached
    world.advance(200)
    joined = answer_of(world, 1)
    assert isinstance(joined, Joined)
    world.sync(SyncRequest("g", joined.member_id, None, 1, [(joined.member_id, b"y" * 400)]), 3)
    assert answer_of(world, 3).error is ErrorCode.unknown_server_error
    world.sync(SyncRequest("g", joined.member_id, None, 1, [(joined.member_id, b"y" * 200)]), 4)
    assert answer_of(world, 4).error is ErrorCode.none
    world.crash()
    world.join(ask("h", 5, b"x" * 200), 5)
    assert answer_of(world, 5).error is ErrorCode.group_max_size_reached
    world.advance(60_000)
    assert not world.coordinator.group("g").members
    world.join(ask("h", 6, b"x" * 700), 6)
    assert all(to != 6 for to, _ in world.answers)
