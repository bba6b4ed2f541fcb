"""One place in a consumer group, from a rebalance to the next: what sinks and offset commits are checked
against."""

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from tailrace.broker.client.admin import committed_offsets
from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.errors import raise_for
from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.client.versions import HEARTBEAT, OFFSET_COMMIT
from tailrace.broker.wire.errors import ErrorCode
from tailrace.errors import Fenced, Retry


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """A member's place: valid until it joins the next generation, and only ever checked, never renewed.

    Any thread may call it.
    """

    group: str
    generation: int
    member_id: str
    instance_id: str | None
    cluster: Cluster
    _retired: threading.Event = field(default_factory=threading.Event)

    def heartbeat(self) -> None:
        """Asks the coordinator now. Fenced when this generation or member is no longer the group's.

        A rebalance that has begun is no reason: the generation holds until this member joins the next one.
        """

        def beat() -> None:
            answer = self._ask(
                HEARTBEAT,
                generation_id=self.generation,
                member_id=self.member_id,
                group_instance_id=self.instance_id,
            )
            if answer.error_code != ErrorCode.rebalance_in_progress:
                self._check(answer.error_code)

        self._patiently(beat)

    def committed(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, tuple[int, str]]:
        """The group's (offset, metadata), where there is one."""
        return committed_offsets(self.cluster, self.group, partitions)

    def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Stores next offsets and metadata for the group. Fenced as in heartbeat(); Retry while the group
        rebalances."""
        topics: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for partition, (offset, metadata) in offsets.items():
            topics[partition.topic].append(
                {
                    "partition_index": partition.partition,
                    "committed_offset": offset,
                    "committed_metadata": metadata,
                }
            )

        def commit() -> None:
            answer = self._ask(
                OFFSET_COMMIT,
                generation_id_or_member_epoch=self.generation,
                member_id=self.member_id,
                group_instance_id=self.instance_id,
                topics=[{"name": name, "partitions": entries} for name, entries in topics.items()],
            )
            for topic in answer.topics:
                for entry in topic.partitions:
                    if entry.error_code == ErrorCode.rebalance_in_progress:
                        raise Retry(f"group {self.group!r} rebalances", after=0.5)
                    self._check(entry.error_code)

        self._patiently(commit)

    def retire(self) -> None:
        """The member is about to join again, or has lost its place: every later check is Fenced."""
        self._retired.set()

    def _ask(self, api: int, /, **fields: Any) -> Any:
        if self._retired.is_set():
            raise Fenced(f"generation {self.generation} of group {self.group!r} is over")
        node = self.cluster.coordinator("group", self.group)
        return self.cluster.call(node, api, group_id=self.group, **fields)

    def _check(self, code: int) -> None:
        raise_for(code, f"generation {self.generation} of group {self.group!r}")

    def _patiently(self, verb: Callable[[], None]) -> None:
        def attempt() -> None:
            try:
                verb()
            except Retry:
                self.cluster.forget_coordinator("group", self.group)
                raise

        self.cluster.patiently(attempt)
