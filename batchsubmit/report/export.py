"""The formats of an export: CSV that no spreadsheet runs, JSONL, Parquet. Each writes rows to an open binary file.

A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@`, or their full-width forms, for a formula, white space
before it or not; tabs and line ends at a cell's begin have been used to the same end. Names and messages come
from outside, so such a text gets an apostrophe in front, as does one that begins with an apostrophe: taking one leading
apostrophe off gives every text back as it was.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from typing import Any, BinaryIO

import msgspec

from batchsubmit.clock import timestamp
from batchsubmit.errors import UsageError
from batchsubmit.report.stats import reason_of
from batchsubmit.report.timeline import History, Timeline
from batchsubmit.report.waits import Cause

Value = str | int | float | None | tuple[str, ...]
ROWS_AT_ONCE = 10_000


class ColumnKind(StrEnum):
    """What a column holds. Absent texts are empty, absent times and seconds None."""

    TEXT = "text"
    COUNT = "count"
    TIME = "time"
    SECONDS = "seconds"
    TEXTS = "texts"


_ColumnValue = Callable[[History, str], Value]
"""A column's value for a job and its batch id."""


def _waited(cause: Cause) -> _ColumnValue:
    return lambda job, _: round(job.waited[cause], 3)


_TABLE: dict[str, tuple[ColumnKind, _ColumnValue]] = {
    "job": (ColumnKind.TEXT, lambda job, _: job.state.job),
    "batch": (ColumnKind.TEXT, lambda _, batch: batch),
    "membership": (ColumnKind.TEXT, lambda job, _: job.state.membership),
    "name": (ColumnKind.TEXT, lambda job, _: job.state.name),
    "trained_model": (ColumnKind.TEXT, lambda job, _: job.state.trained_model),
    "arn": (ColumnKind.TEXT, lambda job, _: job.state.arn),
    "state": (ColumnKind.TEXT, lambda job, _: str(job.state.phase)),
    "status": (ColumnKind.TEXT, lambda job, _: job.state.status),
    "attempts": (ColumnKind.COUNT, lambda job, _: job.state.attempt),
    "via": (ColumnKind.TEXT, lambda job, _: job.via),
    "first_intent_at": (ColumnKind.TIME, lambda job, _: job.first_intent_at),
    "accepted_at": (ColumnKind.TIME, lambda job, _: job.accepted_at),
    "finished_at": (ColumnKind.TIME, lambda job, _: job.finished_at),
    "seconds_running": (ColumnKind.SECONDS, lambda job, _: None if job.seconds is None else round(job.seconds, 3)),
    **{f"seconds_waited_{cause}": (ColumnKind.SECONDS, _waited(cause)) for cause in Cause},
    "code": (ColumnKind.TEXT, lambda job, _: reason_of(job)[0]),
    "message": (ColumnKind.TEXT, lambda job, _: reason_of(job)[1]),
    "logs": (ColumnKind.TEXT, lambda job, _: job.state.logs),
    "duplicates": (ColumnKind.TEXTS, lambda job, _: job.state.duplicates),
}
COLUMNS = {name: kind for name, (kind, _) in _TABLE.items()}


def export_rows(timeline: Timeline) -> Iterator[tuple[Value, ...]]:
    """Give each job's values, in the order of `COLUMNS`."""
    for history in timeline.histories():
        batch = timeline.batch_of(history)
        yield tuple(value(history, batch) for _, value in _TABLE.values())


Rows = Iterable[tuple[Value, ...]]

_RISKY = re.compile("[\\s\0]*[=+\\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n\0']")


def write_csv(file: BinaryIO, rows: Rows) -> int:
    """Write a header and the rows; give their number."""
    text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    cells = [_CELLS[kind] for kind in COLUMNS.values()]
    count = 0
    for count, row in enumerate(rows, start=1):  # noqa: B007 (it is the result)
        writer.writerow([cell(value) for cell, value in zip(cells, row, strict=True)])
    text.flush()
    text.detach()
    return count


def write_jsonl(file: BinaryIO, rows: Rows) -> int:
    """Write one object a line; give their number. What is absent is null, an empty text is a text."""
    encoder = msgspec.json.Encoder()
    kinds = COLUMNS.items()
    count = 0
    for count, row in enumerate(rows, start=1):  # noqa: B007 (it is the result)
        members = {
            name: _time(value) if kind is ColumnKind.TIME else value
            for (name, kind), value in zip(kinds, row, strict=True)
        }
        file.write(encoder.encode(members) + b"\n")
    return count


def write_parquet(file: BinaryIO, rows: Rows) -> int:
    """Write row groups; give the number of rows. Raises UsageError where pyarrow is not installed."""
    try:
        import pyarrow as pa  # noqa: PLC0415 (an extra, and slow to import)
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as exc:
        raise UsageError("Parquet needs pyarrow: pip install 'batchsubmit[parquet]'") from exc
    types = {
        ColumnKind.TEXT: pa.string(),
        ColumnKind.COUNT: pa.int64(),
        ColumnKind.TIME: pa.timestamp("us", tz="UTC"),
        ColumnKind.SECONDS: pa.float64(),
        ColumnKind.TEXTS: pa.list_(pa.string()),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    count = 0
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        rest = iter(rows)
        while part := list(islice(rest, ROWS_AT_ONCE)):
            count += len(part)
            columns = zip(*part, strict=True)
            arrays = [
                pa.array(map(_microseconds, column) if kind is ColumnKind.TIME else column, types[kind])
                for kind, column in zip(COLUMNS.values(), columns, strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
    return count


FORMATS = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}


def guarded(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet might run."""
    return f"'{text}" if _RISKY.match(text) else text


def _time(value: Any) -> str | None:  # noqa: ANN401 (a column of times has nothing else)
    return None if value is None else timestamp(datetime.fromtimestamp(value, UTC))


def _microseconds(value: Any) -> int | None:  # noqa: ANN401 (the same)
    return None if value is None else round(value * 1_000_000)


_CELLS: dict[ColumnKind, Callable[[Any], object]] = {
    ColumnKind.TEXT: guarded,
    ColumnKind.COUNT: str,
    ColumnKind.TIME: lambda value: _time(value) or "",
    ColumnKind.SECONDS: lambda value: "" if value is None else value,
    ColumnKind.TEXTS: lambda values: guarded(" ".join(values)),
}
