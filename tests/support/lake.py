"""What has really landed, read from the Parquet files alone and by pyarrow alone."""

import io
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import hdfs
import pyarrow.parquet as pq


class Folder(Protocol):
    def files(self) -> Iterator[str]:
        """Paths below the folder. Directories may vanish while it looks: staging is emptied by who lands there."""
        ...

    def read(self, path: str) -> bytes: ...


class LocalFolder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def files(self) -> Iterator[str]:
        for place, _, names in os.walk(self._root):
            yield from (str(Path(place, name).relative_to(self._root)) for name in names)

    def read(self, path: str) -> bytes:
        return (self._root / path).read_bytes()


class HdfsFolder:
    """Through WebHDFS, by the `hdfs` package as it is."""

    def __init__(self, client: hdfs.InsecureClient, root: str) -> None:
        self._client = client
        self._root = root

    def files(self) -> Iterator[str]:
        places = [self._root]
        while places:
            place = places.pop()
            for name, status in self._list(place):
                path = f"{place}/{name}"
                if status["type"] == "DIRECTORY":
                    places.append(path)
                else:
                    yield path.removeprefix(f"{self._root}/")

    def _list(self, place: str) -> list[tuple[str, dict[str, Any]]]:
        try:
            return self._client.list(place, status=True)
        except hdfs.HdfsError as error:
            if error.exception == "FileNotFoundException":
                return []
            raise

    def read(self, path: str) -> bytes:
        with self._client.read(f"{self._root}/{path}") as reader:
            return reader.read()


class Lake:
    """Numbered lines (`<style> <number> ...`) under a folder of Parquet files; each file is read once."""

    def __init__(self, root: Path | Folder) -> None:
        self._folder: Folder = LocalFolder(root) if isinstance(root, Path) else root
        self._seen: set[str] = set()
        self._next: dict[str, int] = {}
        self.numbers: dict[str, Counter[int]] = {}

    def refresh(self) -> None:
        for path in self._folder.files():
            hidden = any(part.startswith("_") for part in path.split("/"))
            if path in self._seen or hidden or not path.endswith(".parquet"):
                continue
            table = pq.read_table(io.BytesIO(self._folder.read(path)), columns=["body"])
            self._seen.add(path)
            for body in table.column("body").to_pylist():
                style, number, _ = body.split(" ", 2)
                self.numbers.setdefault(style, Counter())[int(number)] += 1

    def staged(self) -> list[str]:
        """Files that are left where they were made."""
        return [path for path in self._folder.files() if path.startswith("_staging/")]

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
