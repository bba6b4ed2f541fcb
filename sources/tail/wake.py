"""Wakes the source when the system tells of a change. A hint and no more: the periodic look is the truth.

inotify overflows, sees nothing on NFS, and its watches are limited; without it everything still works, only later.
"""

import threading
from collections.abc import Collection

import structlog
from watchdog.events import (
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

MOST_DIRECTORIES = 64
"""Each costs a thread; files in further directories are noticed at the next look."""
_MOST_PATHS = 4096


class Wake(FileSystemEventHandler):
    """Gathers changed paths; the observer's threads write, the source's thread reads."""

    def __init__(self, is_watching: bool) -> None:
        self._is_watching = is_watching
        self._changed: set[str] = set()
        self._names_changed = False
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._observer: BaseObserver | None = None
        self._watches: dict[str, ObservedWatch] = {}
        self._log = structlog.get_logger()

    def watch(self, directories: Collection[str]) -> None:
        """From now on changes in these directories wake; not in those below them."""
        if not self._is_watching:
            return
        wanted = set(sorted(directories)[:MOST_DIRECTORIES])
        try:
            if self._observer is None:
                self._observer = Observer()
                self._observer.start()
            for directory in self._watches.keys() - wanted:
                self._observer.unschedule(self._watches.pop(directory))
            for directory in wanted - self._watches.keys():
                self._schedule(self._observer, directory)
        except (OSError, RuntimeError) as error:
            # No inotify instance left, or no thread.
            self._log.warning("no file events; the periodic look will do", reason=str(error))
            self._is_watching = False

    def _schedule(self, observer: BaseObserver, directory: str) -> None:
        kinds: list[type[FileSystemEvent]] = [
            FileModifiedEvent,
            FileCreatedEvent,
            FileMovedEvent,
            FileDeletedEvent,
        ]
        try:
            self._watches[directory] = observer.schedule(self, directory, event_filter=kinds)
        except FileNotFoundError:
            pass  # it is tried again at every look

    def on_any_event(self, event: FileSystemEvent) -> None:
        with self._lock:
            if isinstance(event, FileModifiedEvent) and len(self._changed) < _MOST_PATHS:
                self._changed.add(str(event.src_path))
            else:
                self._names_changed = True
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """True when something changed before `seconds` were over."""
        return self._event.wait(seconds)

    def take(self) -> tuple[set[str], bool]:
        """Paths of changed files, and whether any name came or went, since the last call."""
        with self._lock:
            self._event.clear()
            changed, self._changed = self._changed, set()
            names_changed, self._names_changed = self._names_changed, False
        return changed, names_changed

    def close(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None
