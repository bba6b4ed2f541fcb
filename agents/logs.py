"""Log lines of every process of a run: logfmt on standard error, one event a line."""

import logging
import sys

import structlog
from structlog.typing import EventDict


def log_to_stderr(**always: str) -> None:
    """Sets up structlog, with `always` in every line; warnings of libraries (`logging`) go there too."""

    def add(_: object, __: str, event: EventDict) -> EventDict:
        return {**always, **event}

    structlog.configure(
        processors=[
            add,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(
                key_order=["timestamp", "level", "event"], bool_as_flag=False
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="timestamp=%(asctime)s level=%(levelname)s event=%(name)s message=%(message)r",
    )
