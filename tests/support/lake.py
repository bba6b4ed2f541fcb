"""What has really landed, read from the Parquet files alone and by pyarrow alone."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq


class Lake:
    """Numbered lines (`<style> <number> ...`) under a folder of Parquet files; each file is read once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: set[Path] = set()
        self._next: dict[str, int] = {}
        self.numbers: dict[str, Counter[int]] = {}

    def refresh(self) -> None:
        for path in self._root.rglob("*.parquet"):
            if path in self._seen or any(part.startswith("_") for part in path.relative_to(self._root).parts):
                continue
            self._seen.add(path)
            for body in pq.read_table(path, columns=["body"], partitioning=None).column("body").to_pylist():
                style, number, _ = body.split(" ", 2)
                self.numbers.setdefault(style, Counter())[int(number)] += 1

    def next_missing(self, style: str) -> int:
        """All lines below this number have landed."""
        numbers = self.numbers.get(style, Counter())
        number = self._next.get(style, 0)
        while number in numbers:
            number += 1
        self._next[style] = number
        return number

    def doubled(self) -> dict[str, list[int]]:
        """The lines that are there more than once by now."""
        found = {style: [n for n, times in all_.items() if times > 1] for style, all_ in self.numbers.items()}
        return {style: sorted(numbers) for style, numbers in found.items() if numbers}

    def verdict(self, written: dict[str, int]) -> str:
        """Empty when each line written has landed exactly once; else what is lost, doubled or invented."""
        faults = []
        for style, count in written.items():
            numbers = self.numbers.get(style, Counter())
            lost = [n for n in range(count) if n not in numbers]
            doubled = [n for n, times in numbers.items() if times > 1]
            invented = [n for n in numbers if not 0 <= n < count]
            for name, found in (("lost", lost), ("doubled", doubled), ("invented", invented)):
                if found:
                    faults.append(f"{style}: {len(found)} of {count} {name}: {sorted(found)[:10]}")
        return "; ".join(faults)
