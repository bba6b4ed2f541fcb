"""A writer of numbered lines into three files, each rotated in one of the ways operators use.

rename         app.log -> app.log.1 -> app.log.2 ..., and a new app.log
copytruncate   app.log copied to app.log.1, then cut to 0; nothing is written in between
recreate       app.log deleted and made again under the same name, often with the same inode

What has not landed yet is never deleted: `landed` tells how far each file's lines have come.
"""

import os
import random
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

STYLES = ("rename", "copytruncate", "recreate")
_PADDING = "the quick brown fox jumps over the lazy dog " * 4


@dataclass
class _File:
    style: str
    path: Path
    written: int = 0
    """Lines 0..written-1 are in some file of this style."""
    copies: list[tuple[Path, int]] = field(default_factory=list)
    """Rotated copies, newest first, each with the number of the line after its last."""
    closing: bool = False


class RotatingWriter:
    """Runs in a thread of its own until `stop`; `written` then says what must land, exactly once."""

    def __init__(self, directory: Path, seed: int, landed: Callable[[str], int], pause: float = 0.02) -> None:
        self._random = random.Random(seed)
        self._landed = landed
        self._pause = pause
        self._files = [_File(style, directory / f"{style}.log") for style in STYLES]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer")
        self.rotations = dict.fromkeys(STYLES, 0)
        self.error: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> dict[str, int]:
        """The number of lines written, a style each."""
        self._stop.set()
        self._thread.join()
        if self.error is not None:
            raise self.error
        return {file.style: file.written for file in self._files}

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._pause):
                for file in self._files:
                    self._turn(file)
        except BaseException as error:  # noqa: BLE001 - stop() raises it in the thread that asked
            self.error = error

    def _turn(self, file: _File) -> None:
        self._drop_landed_copies(file)
        if file.closing:
            self._recreate(file)
            return
        self._append(file)
        if file.path.stat().st_size > 20_000 and self._random.random() < 0.05:
            getattr(self, f"_{file.style}")(file)

    def _append(self, file: _File) -> None:
        count = self._random.randrange(1, 40)
        text = "".join(
            f"{file.style} {number} {_PADDING[: self._random.randrange(len(_PADDING))]}\n"
            for number in range(file.written, file.written + count)
        ).encode()
        cut = self._random.randrange(len(text)) if self._random.random() < 0.3 else len(text)
        with file.path.open("ab", buffering=0) as out:
            out.write(text[:cut])
            if cut < len(text):
                self._stop.wait(self._random.random() * 0.05)
                out.write(text[cut:])
        file.written += count

    def _rename(self, file: _File) -> None:
        file.path.rename(self._room_for_copy(file))
        file.path.touch()
        self.rotations["rename"] += 1

    def _copytruncate(self, file: _File) -> None:
        shutil.copyfile(file.path, self._room_for_copy(file))
        os.truncate(file.path, 0)
        self.rotations["copytruncate"] += 1

    def _room_for_copy(self, file: _File) -> Path:
        """Moves the older copies one number up, oldest first, as logrotate does."""
        moved = []
        for number, (copy, end) in reversed(list(enumerate(file.copies, start=1))):
            target = file.path.with_name(f"{file.path.name}.{number + 1}")
            copy.rename(target)
            moved.append((target, end))
        first = file.path.with_name(f"{file.path.name}.1")
        file.copies = [(first, file.written), *reversed(moved)]
        return first

    def _recreate(self, file: _File) -> None:
        file.closing = True
        if self._landed(file.style) < file.written:
            return
        file.path.unlink()
        file.path.touch()
        file.closing = False
        self.rotations["recreate"] += 1

    def _drop_landed_copies(self, file: _File) -> None:
        while file.copies and file.copies[-1][1] <= self._landed(file.style):
            file.copies.pop()[0].unlink()
