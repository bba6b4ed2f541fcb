import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.broker.client.members import Member
from tailrace.broker.client.range_assignor import assign_range
from tailrace.broker.client.roundrobin_assignor import assign_roundrobin
from tailrace.broker.client.topics import TopicPartition

TOPICS = ("t", "u", "v")


def parts(topic, *numbers):
    return [TopicPartition(topic, number) for number in numbers]


def test_range_gives_neighbours_and_the_first_ones_get_one_more():
    members = [Member("b", None, ("t",)), Member("a", None, ("t",)), Member("c", None, ("t",))]
    assert assign_range(members, {"t": 7}) == {
        "a": parts("t", 0, 1, 2),
        "b": parts("t", 3, 4),
        "c": parts("t", 5, 6),
    }


def test_roundrobin_deals_all_topics_out_in_turn():
    members = [Member("a", None, ("t", "u")), Member("b", None, ("t", "u"))]
    assert assign_roundrobin(members, {"u": 2, "t": 3}) == {
        "a": [*parts("t", 0, 2), *parts("u", 1)],
        "b": [*parts("t", 1), *parts("u", 0)],
    }


@pytest.mark.parametrize("assign", [assign_range, assign_roundrobin])
def test_static_members_come_first_by_instance_id(assign):
    members = [Member("a", None, ("t",)), Member("z", "i1", ("t",)), Member("y", "i0", ("t",))]
    assert assign(members, {"t": 3}) == {"y": parts("t", 0), "z": parts("t", 1), "a": parts("t", 2)}


members = st.lists(
    st.builds(
        Member,
        st.text("abcdef", min_size=1, max_size=3),
        st.none() | st.text("xyz", min_size=1, max_size=2),
        st.lists(st.sampled_from(TOPICS), unique=True).map(tuple),
    ),
    max_size=6,
    unique_by=(lambda member: member.id, lambda member: member.instance_id or member.id),
)


@pytest.mark.parametrize("assign", [assign_range, assign_roundrobin])
@given(members=members, partitions=st.dictionaries(st.sampled_from(TOPICS), st.integers(1, 9)))
def test_every_wanted_partition_has_one_member_that_wants_it(assign, members, partitions):
    assignment = assign(members, partitions)
    assert set(assignment) == {member.id for member in members}
    given_out = [(p, member.id) for member in members for p in assignment[member.id]]
    wanted = {topic for member in members for topic in member.topics} & set(partitions)
    assert sorted(p for p, _ in given_out) == [
        TopicPartition(topic, n) for topic in sorted(wanted) for n in range(partitions[topic])
    ]
    topics = {member.id: member.topics for member in members}
    assert all(partition.topic in topics[member] for partition, member in given_out)


@given(members=members, count=st.integers(1, 20))
def test_range_shares_differ_by_one_at_the_most(members, count):
    sizes = [
        len(assigned)
        for member, assigned in assign_range(members, {"t": count}).items()
        if "t" in next(m for m in members if m.id == member).topics
    ]
    assert not sizes or max(sizes) - min(sizes) <= 1


@given(members=members, partitions=st.dictionaries(st.sampled_from(TOPICS), st.integers(1, 9)))
def test_the_order_in_which_members_joined_does_not_matter(members, partitions):
    for assign in (assign_range, assign_roundrobin):
        assert assign(members, partitions) == assign(members[::-1], partitions)
