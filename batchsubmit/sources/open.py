"""Opens the reader for a manifest's format."""

from collections.abc import Mapping
from typing import Any

from batchsubmit.schema import RequestChecker
from batchsubmit.sources.csvfile import CsvReader
from batchsubmit.sources.defaults import Defaults
from batchsubmit.sources.jsonlfile import JsonlReader
from batchsubmit.sources.rows import Reader
from batchsubmit.sources.spool import Spooled


def open_reader(
    spooled: Spooled, *, defaults: Mapping[str, Any], checker: RequestChecker, run: Mapping[str, str] | None = None
) -> Reader:
    """Make the reader for a manifest's format; `run` has its place-holders. Raises UsageError for wrong defaults."""
    reader = CsvReader if spooled.format == "csv" else JsonlReader
    return reader(spooled, defaults=Defaults(defaults, checker, run or {}), checker=checker)
