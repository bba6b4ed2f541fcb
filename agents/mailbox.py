"""How one thread has something done in another: calls wait until their thread comes round to them."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from tailrace.errors import TailraceError

T = TypeVar("T")


class Left(TailraceError):
    """The agent is leaving: whoever waits for something stops waiting, and lets go of what it holds."""


class Declined(TailraceError):
    """The answer to a call is no; the owner goes on, and so may the asker."""


class Mailbox:
    """Calls for one thread. ask() may be called by any thread, serve() only by the owner."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()

    def ask(self, call: Callable[[], T]) -> Future[T]:
        """The owner's answer to `call`, or its Declined, some time later; never, when the owner has ended."""
        answer: Future[T] = Future()
        self._calls.put((call, answer))
        return answer

    def serve(self) -> None:
        """Does what was asked so far. What a call raises, but for Declined, is the owner's trouble too."""
        while True:
            try:
                call, answer = self._calls.get_nowait()
            except Empty:
                return
            try:
                answer.set_result(call())
            except Declined as no:
                answer.set_exception(no)
            except Left:
                raise  # the asker leaves by itself
            except BaseException as error:
                answer.set_exception(error)
                raise


def answer_of(answer: Future[T], leave: threading.Event) -> T:
    """Waits for an answer; raises Left when the agent leaves first."""
    while not wait([answer], timeout=0.1).done:
        if leave.is_set():
            raise Left
    return answer.result()
