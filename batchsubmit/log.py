"""Where log lines go: to structlog as the application has set it up, else to the `batchsubmit` logger of `logging`.

structlog prints to standard output unless it is set up, which a library must not do.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from batchsubmit.text import printable

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


class _StandardError:
    """Looks up `sys.stderr` at each line, because the progress display replaces it while it is shown."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure_logging(log_format: str, level: str) -> None:
    """Set structlog up for this process: to standard error, as JSON where that is not a terminal."""
    on_terminal = sys.stderr.isatty()
    as_json = log_format == "json" or (log_format == "auto" and not on_terminal)
    renderer: Any = structlog.processors.JSONRenderer() if as_json else _ForPeople(colors=on_terminal)
    stream: TextIO = _StandardError()  # type: ignore[assignment] # write and flush are all that is called
    chain: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*chain, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
    )
    # The lines of asyncio, aiohttp and botocore are written like our own: a log collector reads JSON only.
    handler = logging.StreamHandler(stream)
    processors = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=chain, processors=processors))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for library in ("botocore", "aiobotocore"):  # they log with a traceback what they raise, which is a sentence
        logging.getLogger(f"{library}.credentials").setLevel(logging.CRITICAL)


class _ForPeople(structlog.dev.ConsoleRenderer):
    """Of a job a short line: its name, and how it ended. All else is as structlog has it.

    What a terminal would obey is spelled out; JSON does so by itself.
    """

    def __call__(self, logger: Any, name: str, event: MutableMapping[str, Any]) -> str:  # noqa: ANN401 (structlog's)
        for key, value in event.items():
            if isinstance(value, str):
                lines = value.splitlines() if key == "exception" else [value]  # only a traceback has lines
                event[key] = "\n".join(map(printable, lines))
        what, _, became = str(event["event"]).partition(".")
        if what != "job" or "name" not in event:
            return super().__call__(logger, name, event)
        mark = {"warning": "✗", "error": "✗"}.get(event.get("level", ""), "·")
        said = (event.get(key) for key in ("status", "code", "message", "reason"))
        words = ": ".join(dict.fromkeys(filter(None, said)))
        return f"{event['timestamp'][11:19]} {mark} {event['name']} {became}{f': {words}' if words else ''}"
