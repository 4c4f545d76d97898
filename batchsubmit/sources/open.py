"""Opens the reader for a manifest's format."""

from collections.abc import Mapping
from typing import Any

from batchsubmit.manifest.csv_reader import CsvReader
from batchsubmit.manifest.defaults import Defaults
from batchsubmit.manifest.file import Spooled
from batchsubmit.manifest.jsonl_reader import JsonlReader
from batchsubmit.manifest.rows import Reader
from batchsubmit.schema import RequestChecker


def open_reader(
    spooled: Spooled, *, defaults: Mapping[str, Any], checker: RequestChecker, run: Mapping[str, str] | None = None
) -> Reader:
    """Make the reader for a manifest's format; `run` has its place-holders. Raises UsageError for wrong defaults."""
    reader = CsvReader if spooled.format == "csv" else JsonlReader
    return reader(spooled, defaults=Defaults(defaults, checker, run or {}), checker=checker)
