"""The nine invariants of landing.md, checked against real Parquet files and a real ledger.

Files are read with pyarrow and the ledger with plain SQL; nothing of the landing code is used.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

Query = Callable[[str], Sequence[tuple]]
Key = tuple[str, str, int]
"""kind, stream, number of a partition."""


@dataclass(frozen=True)
class Snapshot:
    """What the ledger says at one moment."""

    next: Mapping[int, int | None]
    retired: frozenset[int]
    """Rows of `next` that a reset has replaced."""
    epochs: Mapping[int, int]
    batches: frozenset[str]
    files: frozenset[tuple]

    def faults_after(self, later: "Snapshot") -> list[str]:
        """5: `next` and `epoch` never go back, and no batch is decided under an epoch that was over here."""
        faults = []
        for row, position in self.next.items():
            now = later.next.get(row)
            if position is not None and (now is None or now < position):
                faults.append(f"invariant 5: next of {row} went back from {position} to {now}")
            if row in self.retired and now != position:
                faults.append(f"invariant 5: {row} was replaced at {position}, and went on to {now}")
        for row, epoch in self.epochs.items():
            if later.epochs.get(row, -1) < epoch:
                faults.append(
                    f"invariant 5: the epoch of {row} went back from {epoch} to {later.epochs.get(row)}"
                )
        for one in later.files:
            batch, ownership, epoch = one[0], one[1], one[2]
            if batch not in self.batches and epoch < self.epochs.get(ownership, 0):
                faults.append(f"invariant 5: batch {batch} was decided under epoch {epoch}, which was over")
        return faults


@dataclass
class Landing:
    """One root and its ledger.

    root     a local directory; for another store a mirror of it, made anew by `mirror` before each look
    url      what stands in front of the ledger's paths in the place of `root`
    visible  of each partition: the position of every row that can be seen, and (body, dead letter or not)
    """

    root: Path
    query: Query
    visible: Mapping[Key, Mapping[int, tuple[bytes, bool]]]
    url: str = ""
    mirror: Callable[[], None] = field(default=lambda: None)
    again: Mapping[Key, int] = field(default_factory=dict)
    """Partitions that were reset, and where: every row before it is expected twice."""
    read: dict[str, Counter] = field(default_factory=dict)

    def snapshot(self) -> Snapshot:
        batches = self.query("SELECT id, ownership, epoch, state FROM batch")
        return Snapshot(
            dict(self.query("SELECT id, next FROM partition_state")),
            frozenset(row for (row,) in self.query("SELECT id FROM partition_state WHERE retired")),
            dict(self.query("SELECT id, epoch FROM ownership")),
            frozenset(row[0] for row in batches),
            frozenset(tuple(row) for row in batches),
        )

    def faults_now(self) -> list[str]:
        """What must hold at every instant, whatever has just died: 1, 3, 5 and 6."""
        self.mirror()
        return [*self._ranges(), *self._final_files(), *self._epochs()]

    def faults_recovered(self, group: Mapping[str, Sequence]) -> list[str]:
        """What must hold when a lander has recovered and landed everything: all (8 is for the caller).

        group  the consumer group's offsets: `kind/id/number` -> (offset, metadata)
        """
        return [
            *self.faults_now(),
            *self._rows(),
            *self._nothing_left(),
            *self._group(group),
        ]

    def _ranges(self) -> list[str]:
        faults = []
        names = {row: (kind, stream, number) for row, kind, stream, number in self._states()}
        following = dict(self.query("SELECT id, next FROM partition_state"))
        at: dict[int, int] = {}
        ranges = self.query(
            'SELECT partition_state, start, "end", kind, "rows", dead_lettered, filtered FROM batch_range '
            "ORDER BY partition_state, start"
        )
        for row, start, end, kind, rows, dead, filtered in ranges:
            if end <= start or at.get(row, start) != start:
                faults.append(f"invariant 1: {names[row]}: [{start}, {end}) comes after {at.get(row)}")
            at[row] = end
            if (kind == "DATA") != (rows + dead > 0) or (kind == "GAP" and filtered):
                faults.append(
                    f"invariant 6: {names[row]}: [{start}, {end}) is {kind} with {rows} rows and {dead} dead"
                )
        for row, end in at.items():
            if following[row] != end:
                faults.append(f"invariant 1: {names[row]}: ranges end at {end}, next is {following[row]}")
        faults += [
            f"invariant 6: {names[row]}: next is {position} without a range"
            for row, position in following.items()
            if position is not None and row not in at
        ]
        for batch, rows, in_files in self.query(
            'SELECT b.id, (SELECT SUM("rows" + dead_lettered) FROM batch_range r WHERE r.batch = b.id), '
            '(SELECT SUM("rows") FROM file f WHERE f.batch = b.id) FROM batch b'
        ):
            if int(rows or 0) != int(in_files or 0):
                faults.append(
                    f"invariant 6: batch {batch} has {rows} rows by its ranges and {in_files} by its files"
                )
        return faults

    def _final_files(self) -> list[str]:
        faults = []
        known = {
            self._local(final): (size, rows)
            for final, size, rows in self.query(
                'SELECT f.final, f.bytes, f."rows" FROM file f JOIN batch b ON f.batch = b.id'
            )
        }
        for path in self._on_disk():
            if str(path) not in known:
                faults.append(f"invariant 3: {path} belongs to no decided batch")
                continue
            size, rows = known[str(path)]
            try:
                complete = path.stat().st_size == size and sum(self._read(path).values()) == rows
            except (OSError, ValueError):
                complete = False
            if not complete:
                faults.append(f"invariant 3: {path} is not complete")
        return faults

    def _epochs(self) -> list[str]:
        faults, last = [], {}
        for ownership, sequence, epoch in self.query(
            "SELECT ownership, sequence, epoch FROM batch ORDER BY ownership, sequence"
        ):
            if epoch < last.get(ownership, 0):
                faults.append(
                    f"invariant 5: batch {sequence} of {ownership} has epoch {epoch} after {last[ownership]}"
                )
            last[ownership] = epoch
        return faults

    def _rows(self) -> list[str]:
        """2: what is in decided files is what can be seen in the ranges, each once."""
        landed: dict[Key, Counter] = {key: Counter() for key in self.visible}
        for (final,) in self.query("SELECT final FROM file"):
            try:
                for (key, position, body, dead), times in self._read(Path(self._local(final))).items():
                    landed.setdefault(key, Counter())[position, body, dead] += times
            except FileNotFoundError:
                return [f"invariant 4: {final} is in the ledger and not on disk"]
        faults = []
        for key, rows in self.visible.items():
            gaps = self.query(
                'SELECT r.start, r."end" FROM batch_range r JOIN partition_state p ON p.id = r.partition_state'
                f" WHERE r.kind = 'GAP' AND p.kind = '{key[0]}' AND p.stream = '{key[1]}'"
                f" AND p.number = {key[2]}"
            )
            expected = Counter(
                {
                    (position, body, dead): 2 if position < self.again.get(key, 0) else 1
                    for position, (body, dead) in rows.items()
                    if not any(start <= position < end for start, end in gaps)
                }
            )
            for name, wrong in (
                ("lost", expected - landed[key]),
                ("doubled or wrong", landed[key] - expected),
            ):
                if wrong:
                    faults.append(f"invariant 2: {key}: {len(wrong)} rows {name}: {sorted(wrong)[:3]}")
        return faults

    def _nothing_left(self) -> list[str]:
        """4, and 9: a batch that had to be given up would need a rebuild."""
        faults = [
            f"invariant {'4' if state == 'DECIDED' else '9'}: batch {batch} is {state}"
            for batch, state in self.query("SELECT id, state FROM batch WHERE state <> 'PUBLISHED'")
        ]
        on_disk = {str(path) for path in self._on_disk()}
        in_ledger = {self._local(final) for (final,) in self.query("SELECT final FROM file")}
        if on_disk != in_ledger:
            faults.append(
                f"invariant 4: files on disk and in the ledger differ: {sorted(on_disk ^ in_ledger)[:3]}"
            )
        left = [path for path in (self.root / "_staging").rglob("*") if path.is_file()]
        if left:
            faults.append(f"invariant 4: orphans in staging: {left[:3]}")
        return faults

    def _group(self, group: Mapping[str, Sequence]) -> list[str]:
        decided = {f"{kind}/{stream}/{number}": 0 for _, kind, stream, number in self._states()}
        for kind, stream, number, position in self.query(
            "SELECT kind, stream, number, next FROM partition_state"
        ):
            key = f"{kind}/{stream}/{number}"
            decided[key] = max(decided[key], position or 0)
        return [
            f"invariant 7: the group is at {offset} of {key}, the ledger at {decided.get(key)}"
            for key, (offset, _) in group.items()
            if offset > decided.get(key, 0)
        ]

    def _local(self, final: str) -> str:
        return str(self.root) + final.removeprefix(self.url) if self.url else final

    def _states(self) -> Sequence[tuple]:
        return self.query("SELECT id, kind, stream, number FROM partition_state")

    def _on_disk(self) -> list[Path]:
        return [
            path
            for path in self.root.rglob("*")
            if path.is_file()
            and path.suffix == ".parquet"
            and "_staging" not in path.relative_to(self.root).parts
        ]

    def _read(self, path: Path) -> Counter:
        """(partition, position, body, dead) of each row; a file never changes, so it is read once."""
        if str(path) not in self.read or not path.exists():
            table = pq.read_table(path, partitioning=None)
            words = {k.decode(): v.decode() for k, v in pq.read_metadata(path).metadata.items()}
            dead = words["tailrace.bucket"] == "dead"
            assert dead == ("reason" in table.column_names), path
            self.read[str(path)] = Counter(
                (self._key(row), row["offset" if "offset" in row else "position"], _bytes(row["body"]), dead)
                for row in table.to_pylist()
            )
        return self.read[str(path)]

    def _key(self, row: dict) -> Key:
        """Partitions are found by the names that stand in the rows."""
        if "topic" in row:
            return next(key for key in self.visible if key[0] == "topic" and key[2] == row["partition"])
        ids = {name: (kind, stream, number) for kind, stream, number, name in self.query(
            "SELECT kind, stream, number, name FROM partition_state"
        )}  # fmt: skip
        return ids[row["file"]]


def _bytes(body: str | bytes | None) -> bytes | None:
    return body.encode() if isinstance(body, str) else body
