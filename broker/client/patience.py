"""Going on over what passes by itself: a coordinator that loads, a leader that moves, the markers of the last
transaction.

Only for answers that the protocol tells a client to repeat, and for a bounded time; beyond it the caller's
own policy rules.
"""

from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from tailrace.clock import Clock
from tailrace.errors import Retry

T = TypeVar("T")


def patiently(verb: Callable[[], T], seconds: float, clock: Clock) -> T:
    """What `verb` answers; called again over Retry with random back-off up to 0.5 s, for `seconds`; then the
    last Retry."""
    try:
        return verb()
    except Retry:
        # Only now: the policy costs more than most verbs.
        pass
    policy = Retrying(
        retry=retry_if_exception_type(Retry),
        wait=wait_random_exponential(multiplier=0.01, max=0.5),
        stop=stop_after_delay(seconds),
        sleep=clock.sleep,
        reraise=True,
    )
    return policy(verb)
