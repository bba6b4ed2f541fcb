"""Random histories of writing, rotating and killing against a simple model: each line that can be had, once.

A history is a seed; a failure prints it, and TAIL_SEED=<seed> runs that one alone.
"""

import gzip
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tailrace.clock import ManualClock
from tailrace.sources.tail.settings import TailSettings
from tailrace.sources.tail.source import TailSource
from tests.support.source_driver import Driver, Store

HISTORIES = 320
GROUPS = 8
OPERATIONS = 40


class World:
    """A directory with two logs and their rotated copies, written and rotated as operators do.

    Modification times follow the clock of the test, so that a second of it is a second for the source.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.clock = ManualClock()
        self.logs = root / "logs"
        self.logs.mkdir()
        self.root = root
        self.store = Store()
        self.required: Counter[bytes] = Counter()
        self.optional: set[bytes] = set()
        """Lines that were lost to the world before anyone had to have read them."""
        self.count = 0
        self.banner = b"# " + b"=" * self.random.choice([10, 1500]) if self.random.random() < 0.4 else b""
        self.banners = 0
        self.half: dict[Path, bytes] = {}
        """Of a log whose last line is half written: that half."""
        self.held: list[tuple[int, bytes, bool]] = []
        """Descriptors of renamed files with a half-written line, that half, and whether it must come."""
        self.pattern = self.random.choice(["*.log", "*.log*"])
        options = {
            "max_line": self.random.choice([40, 1_000_000]),
            "open_files": self.random.choice([1, 2, 512]),
        }
        self.settings = TailSettings(
            type="tail", files=[str(self.logs / self.pattern)], channels=["c"], watch=False, **options
        )
        self.driver: Driver | None = None
        self.steps: list[str] = []

    # The writer.

    def line(self) -> bytes:
        self.count += 1
        return b"line %d " % self.count + b"." * self.random.choice([0, 5, 100, 1000])

    def append(self, target: Path | int, data: bytes) -> None:
        fd = (
            os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            if isinstance(target, Path)
            else target
        )
        os.write(fd, data)
        self.touch(fd)
        if isinstance(target, Path):
            os.close(fd)

    def touch(self, target: Path | int) -> None:
        self.clock.advance(0.01)
        now = self.clock.now_ms() * 1_000_000
        os.utime(target, ns=(now, now))

    def log(self) -> Path:
        return self.logs / self.random.choice(["a.log", "b.log"])

    def write(self) -> None:
        log = self.log()
        lines = [self.line() for _ in range(self.random.randrange(1, 6))]
        data = b""
        if (not log.exists() or log.stat().st_size == 0) and self.banner:
            data += self.banner + b"\n"
            self.banners += 1
        if log in self.half:
            half = self.half.pop(log)
            data += b" its rest\n"
            self.required[half + b" its rest"] += 1
        data += b"".join(line + self.random.choice([b"\n", b"\n", b"\r\n"]) for line in lines)
        self.required.update(lines)
        if self.random.random() < 0.3:
            half = self.line()
            self.half[log] = half
            data += half
        self.append(log, data)

    def abandon(self, log: Path) -> None:
        """The writer never ends the last line; what there is of it is a row in the end."""
        if log in self.half:
            self.required[self.half.pop(log)] += 1

    def finish_held(self) -> None:
        if self.held:
            fd, half, is_required = self.held.pop(self.random.randrange(len(self.held)))
            if self.random.random() < 0.5:
                self.append(fd, b" its rest\n")
                half += b" its rest"
            if is_required:
                self.required[half] += 1
            else:
                self.optional.add(half)
            os.close(fd)

    def leave(self, log: Path) -> bool:
        """What log holds is about to leave the pattern, for good when nothing is known of it: false then."""
        if self.pattern == "*.log*" or any(partition.name == str(log) for partition in self.store.records):
            return True
        self.give_up(lines_of(log.read_bytes()) - Counter(joined(self.store)))
        return False

    def give_up(self, lines: Counter[bytes]) -> None:
        for line in lines:
            if line != self.banner and line not in self.half.values():
                self.required[line] -= lines[line]
                self.optional.add(line)

    # Rotation.

    def shift(self, log: Path) -> Path:
        """Moves rotated copies one number up, and gives the name that is free now."""
        copies = sorted(self.copies(log), key=lambda path: -number_of(path))
        for copy in copies:
            suffix = ".gz" if copy.name.endswith(".gz") else ""
            copy.rename(self.logs / f"{log.name}.{number_of(copy) + 1}{suffix}")
        return self.logs / f"{log.name}.1"

    def copies(self, log: Path) -> list[Path]:
        return list(self.logs.glob(f"{log.name}.*"))

    def rename(self) -> None:
        log = self.log()
        if not log.exists():
            return
        target = self.shift(log)
        if log in self.half and self.random.random() < 0.5:
            is_known = self.leave(log)
            self.held.append((os.open(log, os.O_WRONLY | os.O_APPEND), self.half.pop(log), is_known))
        else:
            self.abandon(log)
            self.leave(log)
        log.rename(target)
        if self.random.random() < 0.5:
            log.touch()
            self.touch(log)

    def copytruncate(self) -> None:
        log = self.log()
        if not log.exists() or not log.stat().st_size:
            return
        copy = self.shift(log)
        self.abandon(log)
        is_slow = self.random.random() < 0.2 and log.read_bytes().endswith(b"\n")
        if is_slow:
            # Large enough for a short copy to be known by what is remembered.
            lines = [self.line() + b"+" * 8000 for _ in range(10)]
            self.required.update(lines)
            self.append(log, b"".join(line + b"\n" for line in lines))
        self.leave(log)
        data = log.read_bytes()
        if self.random.random() < 0.3:
            self.append(copy, data[: self.random.randrange(len(data))])
            self.maybe_run()
            copy.write_bytes(b"") if self.random.random() < 0.3 else None
        with copy.open("ab") as out:
            out.write(data[copy.stat().st_size :])
        self.touch(copy)
        self.maybe_run()
        if is_slow:
            # Written between the copy and the cut: gone, unless it was read in time.
            line = self.line()
            self.optional.add(line)
            self.append(log, line + b"\n")
            self.maybe_run()
        os.truncate(log, 0)
        self.touch(log)

    def compress(self) -> None:
        copies = [path for path in self.logs.iterdir() if number_of(path) and not path.name.endswith(".gz")]
        if not copies or self.held:
            return
        path = self.random.choice(copies)
        packed = gzip.compress(path.read_bytes())
        target = path.with_name(path.name + ".gz")
        if self.random.random() < 0.3:
            target.write_bytes(packed[: self.random.randrange(len(packed))])
            self.touch(target)
            self.maybe_run()
        target.write_bytes(packed)
        shutil.copystat(path, target)
        if self.random.random() < 0.5:
            self.maybe_run()
        path.unlink()

    def delete(self) -> None:
        """A rotated copy; as a rule only when everything in it is committed."""
        copies = [path for path in self.logs.iterdir() if number_of(path)]
        if copies and not self.held:
            self.drop(self.random.choice(copies))

    def drop(self, path: Path) -> bool:
        data = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
        missing = lines_of(data) - Counter(joined(self.store))
        if missing and self.random.random() < 0.8:
            return False
        self.give_up(missing)
        path.unlink()
        return True

    def recreate(self) -> None:
        log = self.log()
        if not log.exists():
            return
        half = self.half.get(log)
        if half is not None:
            return
        if self.drop(log) and self.random.random() < 0.7:
            log.touch()
            self.touch(log)

    # The source.

    def running(self) -> Driver:
        if self.driver is None:
            self.driver = Driver(
                lambda context: TailSource(self.settings, context), self.store, self.root, self.clock
            )
        return self.driver

    def maybe_run(self) -> None:
        """In the middle of a rotation, which takes seconds."""
        self.random.choice([self.run_some, self.look_soon, self.commit, self.kill, lambda: None])()

    def look_soon(self) -> None:
        self.clock.advance(5)
        self.running().read()

    def run_some(self) -> None:
        driver = self.running()
        for _ in range(self.random.randrange(6)):
            driver.step()

    def look(self) -> None:
        self.clock.advance(self.random.choice([5, 5, 61]))
        self.running().read()

    def commit(self) -> None:
        self.running().commit()

    def rewind(self) -> None:
        self.running().rewind()

    def kill(self) -> None:
        if self.driver is not None:
            self.driver.kill()
            self.driver = None

    def operate(self) -> None:
        choices: list[tuple[Callable[[], None], int]] = [
            (self.write, 8),
            (self.rename, 2),
            (self.copytruncate, 2),
            (self.compress, 1),
            (self.delete, 1),
            (self.recreate, 1),
            (self.finish_held, 1),
            (self.run_some, 5),
            (self.look, 4),
            (self.commit, 4),
            (self.rewind, 1),
            (self.kill, 2),
        ]
        operation = self.random.choices([verb for verb, _ in choices], [weight for _, weight in choices])[0]
        self.steps.append(operation.__name__)
        operation()

    def settle(self) -> None:
        """Ends all that is half done, and lets the source read everything."""
        while self.held:
            self.finish_held()
        for log in list(self.half):
            self.append(log, b"\n")
            self.required[self.half.pop(log)] += 1
        for log in (self.logs / "a.log", self.logs / "b.log"):
            log.touch()  # so that what looks like a rotated copy is one
            self.touch(log)
        driver = self.running()
        for _ in range(4):
            driver.look(61)
            driver.commit()
        self.kill()
        # And a start anew finds nothing more.
        self.running().look(61)
        self.running().commit()
        self.kill()


def number_of(path: Path) -> int:
    """N of `a.log.N` or `a.log.N.gz`; 0 for a log itself."""
    digits = path.name.removesuffix(".gz").rpartition(".")[2]
    return int(digits) if digits.isdigit() else 0


def lines_of(data: bytes) -> Counter[bytes]:
    return Counter(line.removesuffix(b"\r") for line in data.split(b"\n") if line)


def joined(store: Store) -> list[bytes]:
    """The committed lines, with the parts of a split one put together."""
    lines: list[bytes] = []
    last: dict[object, int] = {}
    for row in store.rows:
        if int(row.headers.get("tailrace.part", b"0")) > 0:
            lines[last[row.partition]] += row.body
        else:
            last[row.partition] = len(lines)
            lines.append(row.body)
    return lines


def check(world: World) -> None:
    got = Counter(joined(world.store))
    banners = got.pop(world.banner, 0)
    wanted = +world.required
    for line in world.optional:
        # Of a split line the first parts may have come.
        parts = [row for row in got if line.startswith(row) and row not in wanted]
        assert sum(got.pop(row) for row in parts) <= 1, f"twice: {line!r}"
    assert got - wanted == Counter(), "rows too many"
    assert wanted - got == Counter(), "rows missing"
    assert banners <= world.banners


@pytest.mark.parametrize("group", range(GROUPS))
def test_each_line_comes_once_through_random_histories(tmp_path: Path, group: int) -> None:
    seeds = range(group, HISTORIES, GROUPS)
    if "TAIL_SEED" in os.environ:
        seeds = [int(os.environ["TAIL_SEED"])] if group == 0 else []
    for seed in seeds:
        root = tmp_path / str(seed)
        root.mkdir()
        world = World(root, seed)
        try:
            for _ in range(OPERATIONS):
                world.operate()
            world.settle()
            check(world)
        except BaseException:
            print(
                f"TAIL_SEED={seed} pattern={world.pattern} banner={len(world.banner)}: {' '.join(world.steps)}"
            )
            raise
        finally:
            world.kill()
        shutil.rmtree(root)
