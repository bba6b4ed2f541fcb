"""Replays a transcript: commands at the margin, what they must print indented below.

    join a [id=M] [instance=I] [protocols=range,rr] [session=MS] [rebalance=MS] [version=9] [type=consumer]
    sync a id=M gen=N [assign=M:text,M:text] [instance=I]
    heartbeat M gen=N [instance=I]      leave M... [instance=I]
    commit t-0=5 [id=M gen=N] [instance=I] [producer=7]      fetch [stable]      marker 7 commit|abort
    tick MS      crash      fail      state      expire      delete TOPIC

`a` names the request: its answer begins with `a:`. New members get the ids a-1, a-2, ... Run pytest with
TAILRACE_REWRITE=1 to write what came out into the file, and read the difference.
"""

from collections.abc import Iterator
from itertools import count

from tailrace.broker.coordinator.commit import CommitRequest
from tailrace.broker.coordinator.group_messages import (
    Joined,
    JoinRequest,
    LeaveRequest,
    Left,
    Synced,
    SyncRequest,
)
from tailrace.broker.wire.coordinator_records import (
    GroupMetadataValue,
    OffsetCommitKey,
    OffsetCommitValue,
    decode_group_key,
    decode_value,
)
from tailrace.broker.wire.errors import ErrorCode
from tests.support.group_world import Entry, GroupWorld

GROUP = "g"


class GroupTranscript:
    def __init__(self) -> None:
        self.world = GroupWorld()
        self._serial = count(1)
        self._logged = 0
        self._answered = 0

    def play(self, text: str) -> str:
        """The transcript again, with what really came out."""
        out: list[str] = []
        for line in text.splitlines():
            if line.startswith("    "):
                continue
            out.append(line)
            if line and not line.startswith("#"):
                out += ["    " + printed for printed in self._execute(line)]
        return "\n".join(out) + "\n"

    def _execute(self, line: str) -> Iterator[str]:
        verb, *words = line.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        yield from getattr(self, "_" + verb)(plain, options) or ()
        for entry in self.world.log[self._logged :]:
            yield from describe_entry(entry)
        self._logged = len(self.world.log)
        for ticket, answer in self.world.answers[self._answered :]:
            yield f"{ticket}: {describe_answer(answer)}"
        self._answered = len(self.world.answers)

    def _join(self, plain: list[str], options: dict[str, str]) -> None:
        version = int(options.get("version", 9))
        client = plain[0]
        self.world.join(
            JoinRequest(
                options.get("group", GROUP),
                options.get("id", ""),
                options.get("instance"),
                client,
                "/127.0.0.1",
                int(options.get("session", 10_000)),
                int(options.get("rebalance", 60_000)),
                options.get("type", "consumer"),
                tuple(
                    (p, f"{client}/{p}".encode()) for p in options.get("protocols", "range").split(",") if p
                ),
                "" if "id" in options else f"{client}-{next(self._serial)}",
                needs_known_id=version >= 4,
                can_skip_assignment=version >= 9,
            ),
            client,
        )

    def _sync(self, plain: list[str], options: dict[str, str]) -> None:
        shares = [pair.split(":") for pair in options.get("assign", "").split(",") if pair]
        self.world.sync(
            SyncRequest(
                GROUP,
                options["id"],
                options.get("instance"),
                int(options["gen"]),
                [(member, share.encode()) for member, share in shares],
                options.get("type"),
                options.get("protocol"),
            ),
            plain[0],
        )

    def _heartbeat(self, plain: list[str], options: dict[str, str]) -> Iterator[str]:
        error = self.world.heartbeat(GROUP, plain[0], options.get("instance"), int(options["gen"]))
        yield error.name.upper()

    def _leave(self, plain: list[str], options: dict[str, str]) -> None:
        members = [(member, options.get("instance")) for member in plain] or [("", options["instance"])]
        self.world.leave(LeaveRequest(GROUP, members), "leave")

    def _commit(self, plain: list[str], options: dict[str, str]) -> Iterator[str]:
        names = {"id", "gen", "instance", "producer", "metadata"}
        offsets = {
            _place(k): (int(v), -1, options.get("metadata", "")) for k, v in options.items() if k not in names
        }
        producer = (int(options["producer"]), 0) if "producer" in options else None
        request = CommitRequest(
            GROUP,
            options.get("id", ""),
            options.get("instance"),
            int(options.get("gen", -1)),
            offsets,
            producer,
        )
        for (topic, partition), error in self.world.commit(request).items():
            yield f"{topic}-{partition}: {error.name.upper()}"

    def _fetch(self, plain: list[str], options: dict[str, str]) -> Iterator[str]:
        stable = "stable" in plain
        for (topic, partition), a in self.world.coordinator.fetch(GROUP, None, require_stable=stable):
            yield (
                f"{topic}-{partition}: {a.offset}"
                if a.error is ErrorCode.none
                else f"{topic}-{partition}: {_name(a.error)}"
            )

    def _marker(self, plain: list[str], options: dict[str, str]) -> None:
        self.world.end_transaction(int(plain[0]), commit=plain[1] == "commit")

    def _tick(self, plain: list[str], options: dict[str, str]) -> None:
        self.world.advance(int(plain[0]))

    def _crash(self, plain: list[str], options: dict[str, str]) -> None:
        self.world.crash()

    def _fail(self, plain: list[str], options: dict[str, str]) -> None:
        self.world.fail_next = True

    def _expire(self, plain: list[str], options: dict[str, str]) -> None:
        self.world.expire()

    def _delete(self, plain: list[str], options: dict[str, str]) -> None:
        self.world.delete_topics(set(plain))

    def _state(self, plain: list[str], options: dict[str, str]) -> Iterator[str]:
        group = self.world.coordinator.group(GROUP)
        members = ",".join(group.members)
        yield f"{group.state.value} gen={group.generation} leader={group.leader} members={members}"


def describe_entry(entry: Entry) -> Iterator[str]:
    held = "" if entry.producer_id is None else f" held for {entry.producer_id}"
    for key_bytes, value in entry.records:
        key = decode_group_key(key_bytes)
        if isinstance(key, OffsetCommitKey):
            shown = "gone" if value is None else str(decode_value(OffsetCommitValue, value).offset)
            yield f"log: offset {key.topic}-{key.partition} {shown}{held}"
        elif value is None:
            yield "log: group gone"
        else:
            group = decode_value(GroupMetadataValue, value)
            members = ", ".join(f"{m.member_id}={bytes(m.assignment).decode()}" for m in group.members)
            yield f"log: group gen={group.generation} leader={group.leader} [{members}]"
    if entry.marker is not None:
        yield f"log: marker {entry.producer_id} {'commit' if entry.marker else 'abort'}"


def describe_answer(answer: object) -> str:
    match answer:
        case Joined(ErrorCode.none):
            members = "".join(f" {m.member_id}({m.metadata.decode()})" for m in answer.members)
            skip = " skip" if answer.skip_assignment else ""
            return (
                f"{answer.member_id} joined gen={answer.generation} {answer.protocol} "
                f"leader={answer.leader}{skip}{' with' + members if members else ''}"
            )
        case Joined(ErrorCode.member_id_required):
            return f"MEMBER_ID_REQUIRED {answer.member_id}"
        case Synced(ErrorCode.none):
            return f"got '{answer.assignment.decode()}'"
        case Left():
            return " ".join([_name(answer.error), *(f"{m or i}={_name(e)}" for m, i, e in answer.members)])
        case Joined() | Synced():
            return _name(answer.error)
        case ErrorCode():
            return _name(answer)
    raise AssertionError(answer)


def _name(error: ErrorCode) -> str:
    return error.name.upper()


def _place(text: str) -> tuple[str, int]:
    topic, _, partition = text.rpartition("-")
    return topic, int(partition)
