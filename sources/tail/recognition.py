"""Which file holds which content: decided anew at every look, by inode and content, whatever the names did.

The order matters. First the files already followed: renamed, grown, cut or gone. Then those that nothing is known
of: the file of a record, or a possible copy, which has to be compared before it is read, or a new file.
"""

from collections.abc import Iterable, Iterator

import structlog

from tailrace.component import Problem
from tailrace.sources.chunks import ChunkReader
from tailrace.sources.content import BadContentError, Content, GzipContent, PlainContent
from tailrace.sources.tail.catalog import Catalog
from tailrace.sources.tail.descriptors import Descriptors, MovedError
from tailrace.sources.tail.following import Fate, follow
from tailrace.sources.tail.names import rotated_from
from tailrace.sources.tail.outsiders import is_missed_generation, outsiders
from tailrace.sources.tail.patterns import Found, Key, Seen
from tailrace.sources.tail.suspects import Finding, Kinship, Patience, RelativeCutError, Suspect
from tailrace.sources.tail.tracked import Moment, Tracked, begin_at_end, new_tracked

_FIRST_STEP = 64 * 1024
"""Bytes compared at once when a possible copy turns up: most others differ within them."""
DELETED_FOR = 60.0
"""Seconds without a change after which a deleted file is let go: whoever has it open may still write."""
OUTSIDE_FOR = 3600.0
"""The same for a file that was renamed to what no pattern names."""


class Recognition:
    """Attaches contents to files. `take()` tells which are new, and which may have something to read."""

    def __init__(
        self, catalog: Catalog, descriptors: Descriptors, reader: ChunkReader, patience: Patience
    ) -> None:
        self.problems: list[Problem] = []
        """Files that could not be opened at the last look."""
        self.must_look = False
        """A file was found to hold something else than before: only a new look can tell what."""
        self._looked: set[Key] = set()
        """Files that the last look found."""
        self._only: set[Key] | None = None
        self._catalog = catalog
        self._descriptors = descriptors
        self._reader = reader
        self._patience = patience
        self._log = structlog.get_logger()
        self._new: list[Tracked] = []
        self._active: list[Tracked] = []
        self._suspects: dict[Key, Suspect] = {}
        self._judged: dict[Key, tuple[int, int]] = {}
        """Size and mtime of files that are none of ours, and of those that can be left alone until they change."""
        self._cleared: dict[Key, frozenset[Tracked]] = {}
        """Files that are of their own, and what they were compared with to know."""
        self._literals: set[str] = set()
        self._paths: set[str] = set()
        """What the last look found under the patterns."""
        self._begins_at_end = False

    def take(self) -> tuple[list[Tracked], list[Tracked]]:
        """(to be assigned, perhaps with something to read), since the last call."""
        new, active = self._new, self._active
        self._new, self._active = [], []
        return new, active

    def take_no_others(self) -> None:
        """From now on only files that the last look found are new; of others, only what continues a known content."""
        self._only = self._looked

    def look(self, found: Found, now: Moment, *, is_first: bool, begins_at_end: bool = False) -> None:
        """Compares what was found with what is known. begins_at_end: new files are begun at their present end."""
        self._begins_at_end = begins_at_end
        self._literals = found.literals
        self._paths = {seen.path for seen in found.files}
        self.problems = []
        by_key: dict[Key, Seen] = {}
        for seen in found.files:
            tracked = self._catalog.at(seen.key)
            if seen.key not in by_key or (tracked is not None and seen.path == tracked.path):
                by_key[seen.key] = seen
        for tracked in self._catalog.attached():
            self._follow(tracked, by_key.get(tracked.key), found, now)
        self.must_look = False
        beside = {seen.key: seen for seen in outsiders(found, self._catalog, is_first=is_first)}
        candidates = beside | by_key
        self._looked = set(candidates)
        unknown = [f for f in candidates.values() if self._catalog.at(f.key) is None and f.size > 0]
        self._drop_suspects_besides({seen.key for seen in unknown})
        # The files of records before copies of them, and of those the oldest first: when several begin like a
        # lost content, the oldest is its copy.
        unknown = [seen for seen in unknown if not self._is_same(seen, now)]
        new = [seen for seen in sorted(unknown, key=lambda seen: seen.mtime_ns) if self._is_new(seen, now)]
        if not self.must_look:
            # `app.log` before `app.log.1`, so that what appeared together can be compared.
            for seen in sorted(new, key=lambda seen: len(seen.path)):
                self._begin(seen, now)
        self._catalog.forget_oldest()

    def lose(self, tracked: Tracked, *, was_cut: bool) -> None:
        """Its file is gone, or holds something else now. If a copy turns up, reading goes on there."""
        if was_cut or tracked.unread:
            event = "cut" if was_cut else "gone"
            self._log.info(event, path=tracked.path, position=tracked.progress.position, size=tracked.size)
        self._descriptors.close(tracked)
        self._catalog.detach(tracked)
        tracked.was_cut = was_cut
        self.must_look |= was_cut

    def _follow(self, tracked: Tracked, seen: Seen | None, found: Found, now: Moment) -> None:
        fate = follow(tracked, seen, found, self._catalog, now)
        if fate is Fate.DOUBTFUL:
            # As a lost one it is recognised by its content, if it is the same.
            self._descriptors.close(tracked)
            self._catalog.detach(tracked)
        elif fate in (Fate.CUT, Fate.GONE):
            self.lose(tracked, was_cut=fate is Fate.CUT)
        elif self._has_ended(tracked, now):
            self._judged[tracked.key] = tracked.stamp[:2]
            self.lose(tracked, was_cut=False)
        elif fate is Fate.CHANGED or tracked.rest or tracked.failed_reason:
            if tracked.rest:
                tracked.is_old_name = self._has_old_name(tracked)
            self._active.append(tracked)

    def _has_old_name(self, tracked: Tracked) -> bool:
        """`a.log.1` is a rotated file where there is an `a.log`, or a younger `a.log.2`."""
        for base in rotated_from(tracked.path):
            if base in self._paths or any(t.modified > tracked.modified for t in self._catalog.named(base)):
                return True
        return False

    def _has_ended(self, tracked: Tracked, now: Moment) -> bool:
        """Everything of it is committed, and nothing more is expected."""
        if not (tracked.is_outside and tracked.at_end) or tracked.committed < tracked.progress.position:
            return False
        wait = DELETED_FOR if tracked.is_deleted else OUTSIDE_FOR
        return now.monotonic - tracked.still_since >= wait

    # Files that nothing is known of.

    def _is_same(self, seen: Seen, now: Moment) -> bool:
        """Whether a lost content is in this very file; it is attached then."""
        if not self._catalog.lost_at_inode(seen.key[1]) or self._is_judged(seen):
            return False
        content = self._open(seen)
        if content is None:
            return False
        tracked = self._same_file(seen, content)
        if tracked is None:
            content.close()
            return False
        self._drop_suspect(seen.key)
        self._attach(tracked, seen, content, now)
        return True

    def _is_new(self, seen: Seen, now: Moment) -> bool:
        """True when it is a file of its own that has to be read, and no copy of one that is known."""
        suspect = self._suspects.get(seen.key)
        if suspect is not None and seen.size >= suspect.seen.size:
            suspect.look_at(seen, now)
            suspect.consider(self._relatives(seen))
            return self._resolve(suspect, _FIRST_STEP, now)
        self._drop_suspect(seen.key)
        if self._is_judged(seen):
            return False
        content = self._open(seen)
        if content is None:
            return False
        relatives = self._relatives(seen) - self._cleared.get(seen.key, frozenset())
        if not relatives:
            content.close()
            return self._is_wanted(seen)
        kinships = [Kinship(relative) for relative in relatives]
        return self._resolve(self._suspect(seen, content, kinships, now), _FIRST_STEP, now)

    def _is_judged(self, seen: Seen) -> bool:
        return self._judged.get(seen.key) == (seen.size, seen.mtime_ns)

    def _open(self, seen: Seen) -> Content | None:
        """None, and perhaps a problem, when it cannot be opened; the next look tries again."""
        try:
            return self._descriptors.open(seen.path, seen.key)
        except (FileNotFoundError, MovedError):
            return None
        except (OSError, BadContentError) as error:
            problem = Problem(seen.path, f"cannot be read: {error}", seen.path in self._literals)
            if problem not in self.problems:
                self.problems.append(problem)
            return None

    def _relatives(self, seen: Seen) -> set[Tracked]:
        return {t for t in self._catalog.relatives(seen.path) if t.attached or t.progress.position > 0}

    def _same_file(self, seen: Seen, content: Content) -> Tracked | None:
        """The lost content that is in this very file: same inode, and same content as far as it was read."""
        is_gzip = isinstance(content, GzipContent)
        same = [
            tracked
            for tracked in self._catalog.lost_at_inode(seen.key[1])
            if tracked.is_gzip == is_gzip
            and self._may_be_at(tracked, seen)
            and self._has_read(tracked, content)
        ]
        return max(same, key=lambda t: (t.progress.position, t.first_seen), default=None)

    def _has_read(self, tracked: Tracked, content: Content) -> bool:
        if tracked.is_gzip and not tracked.skip:
            return True  # an archive is compared when it is decompressed up to the position
        return self._reader.check(PlainContent(content.fd), tracked.progress)

    def _may_be_at(self, tracked: Tracked, seen: Seen) -> bool:
        if tracked.progress.position == 0:
            return False  # nothing tells it from another file that got its inode
        if tracked.key == seen.key:
            return not tracked.was_cut
        # Device numbers may change when the machine starts anew.
        return tracked.path == seen.path

    def _is_wanted(self, seen: Seen) -> bool:
        if self._only is not None and seen.key not in self._only:
            return False
        if seen.group >= 0:
            return True
        return is_missed_generation(seen, self._catalog) is not None

    def _begin(self, seen: Seen, now: Moment) -> None:
        """A new file, unless one that was not compared with it yet begins with all that it holds."""
        content = self._open(seen)
        if content is None:
            return
        twins = self._relatives(seen) - self._cleared.get(seen.key, frozenset())
        if twins and not self._begins_at_end:
            suspect = self._suspect(seen, content, [Kinship(twin, is_twin=True) for twin in twins], now)
            if not self._resolve(suspect, _FIRST_STEP, now):
                return
            content = self._open(seen)
            if content is None:
                return
        self._cleared.pop(seen.key, None)
        born = seen.path if seen.group >= 0 else is_missed_generation(seen, self._catalog)
        tracked = new_tracked(seen, now.ms, born)
        if self._begins_at_end:
            begin_at_end(tracked, seen, content)
            tracked.at_first_start = True
        self._catalog.add(tracked)
        self._attach(tracked, seen, content, now)

    def _attach(self, tracked: Tracked, seen: Seen, content: Content, now: Moment) -> None:
        self._catalog.attach(tracked, seen.path, seen.key)
        self._descriptors.keep(tracked, content)
        tracked.is_gzip = isinstance(content, GzipContent)
        tracked.is_outside, tracked.is_deleted, tracked.was_cut = seen.group < 0, False, False
        if seen.group >= 0:
            tracked.group = seen.group
        tracked.look_at(seen.stamp, now)
        tracked.rest, tracked.at_end, tracked.is_finished = 0, False, False
        (self._active if tracked.assigned else self._new).append(tracked)

    # Possible copies.

    def _suspect(self, seen: Seen, content: Content, kinships: Iterable[Kinship], now: Moment) -> Suspect:
        suspect = Suspect(seen, content, kinships, now)
        self._suspects[seen.key] = suspect
        return suspect

    def compare(self, budget: int, now: Moment) -> bool:
        """Compares possible copies on, about `budget` bytes of them; false when no comparison is under way."""
        for suspect in list(self._suspects.values()):
            if suspect.finding is Finding.MORE:
                # A file of its own is begun by the next look: it may have to be compared with what is new then.
                self.must_look |= self._resolve(suspect, budget, now)
                return True
        return False

    def undecided(self) -> Iterator[str]:
        """Paths of files that may be unfinished copies, and of which nothing was read for that reason."""
        for suspect in self._suspects.values():
            if suspect.finding in (Finding.MORE, Finding.WAIT):
                yield suspect.seen.path

    def _resolve(self, suspect: Suspect, budget: int, now: Moment) -> bool:
        """Steps, and does what follows; true when the file is one of its own that has to be read."""
        seen = suspect.seen
        try:
            original = suspect.step(self._descriptors, self._reader, budget, now, self._patience)
        except RelativeCutError as error:
            self.lose(error.relative, was_cut=True)
            suspect.finding = Finding.MORE
            return False
        except BadContentError as error:
            self._judged[seen.key] = (seen.size, seen.mtime_ns)
            self._log.warning("an archive is left alone", path=seen.path, reason=str(error))
            self._drop_suspect(seen.key)
            return False
        except OSError as error:
            self.problems.append(Problem(seen.path, f"cannot be compared with what was read: {error}"))
            self._drop_suspect(seen.key)
            return False
        if suspect.finding is Finding.TAKES_OVER and original is not None:
            content = suspect.release()
            self._drop_suspect(seen.key)
            self._log.info(
                "goes on in a copy", path=original.path, copy=seen.path, position=original.progress.position
            )
            self._attach(original, seen, content, now)
            original.is_recalled = True
        elif suspect.finding is Finding.OTHER:
            self._drop_suspect(seen.key)
            if self._is_wanted(seen):
                self._cleared[seen.key] = suspect.considered | self._cleared.get(seen.key, frozenset())
                return True
            self._judged[seen.key] = (seen.size, seen.mtime_ns)
        elif suspect.finding is Finding.READ:
            content = suspect.release()
            self._drop_suspect(seen.key)
            copy = new_tracked(seen, now.ms)
            begin_at_end(copy, seen, content, is_known=True)
            self._catalog.add(copy)
            self._attach(copy, seen, content, now)
        return False

    def _drop_suspects_besides(self, keys: set[Key]) -> None:
        for key in self._suspects.keys() - keys:
            self._drop_suspect(key)
        self._cleared = {key: relatives for key, relatives in self._cleared.items() if key in keys}
        if len(self._judged) > 10_000:
            self._judged = {key: stamp for key, stamp in self._judged.items() if key in keys}

    def _drop_suspect(self, key: Key) -> None:
        suspect = self._suspects.pop(key, None)
        if suspect is not None:
            suspect.close()

    def close(self) -> None:
        for key in list(self._suspects):
            self._drop_suspect(key)
