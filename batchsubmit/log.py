"""Where log lines go: to structlog as the application has set it up, else to the `batchsubmit` logger of `logging`.

structlog prints to standard output unless it is set up, which a library must not do.
"""

import logging
from typing import Any

import structlog

_NAME = "batchsubmit"
logging.getLogger(_NAME).addHandler(logging.NullHandler())


def get_logger() -> Any:  # noqa: ANN401 (structlog's own type, too, is made at run time)
    """Give the logger of this moment: it may be set up after we are imported."""
    if structlog.is_configured():
        return structlog.get_logger(_NAME)
    return structlog.wrap_logger(
        logging.getLogger(_NAME),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
