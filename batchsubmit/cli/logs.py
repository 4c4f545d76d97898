"""structlog's set-up: standard error, JSON where nobody sits at a terminal."""

import logging
import sys
from typing import TYPE_CHECKING, Any, TextIO

import structlog

if TYPE_CHECKING:
    from batchsubmit.config import LogSettings


class _StandardError:
    """Looks `sys.stderr` up at each line, because the progress display borrows it while it is live."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure_logging(settings: "LogSettings") -> None:
    """Set structlog up for this process."""
    on_terminal = sys.stderr.isatty()
    as_json = settings.format == "json" or (settings.format == "auto" and not on_terminal)
    renderer: Any = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=on_terminal)
    )
    stream: TextIO = _StandardError()  # type: ignore[assignment] # write and flush are all that is called
    chain: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*chain, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
    )
    _adopt_library_lines(chain, renderer, stream)


def _adopt_library_lines(chain: list[Any], renderer: Any, stream: TextIO) -> None:  # noqa: ANN401 (structlog's)
    """Write what asyncio, aiohttp and botocore complain of like our own lines: a log collector reads JSON only."""
    handler = logging.StreamHandler(stream)
    as_ours = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=chain, processors=as_ours))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
