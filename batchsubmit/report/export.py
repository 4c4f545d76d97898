"""The formats of an export: CSV that no spreadsheet runs, JSONL, Parquet. Each writes rows to an open binary file.

A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@`, or their full-width forms, for a formula, white space
before it or not; tabs and line ends at a cell's begin have been used to the same end. Names and messages come
from outside, so such a text gets an apostrophe in front, as does one that begins with an apostrophe: taking one leading
apostrophe off gives every text back as it was.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import BinaryIO

import msgspec

from batchsubmit.clock import timestamp
from batchsubmit.core.job_states import State, is_good_end
from batchsubmit.errors import UsageError
from batchsubmit.report.reasons import reason_of
from batchsubmit.report.timeline import History, Timeline
from batchsubmit.report.waits import Cause
from batchsubmit.schema.arns import parse_arn

Value = str | int | float | datetime | tuple[str, ...] | None
_ROWS_AT_ONCE = 10_000


def _waited(cause: Cause) -> Callable[[History], Value]:
    return lambda job: round(job.waited[cause], 3)


def _moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def _results(job: History) -> str:
    """Where a job's results are under the S3 path of its ML configuration: collaboration, model, account, name.

    The ledger knows neither the collaboration's id nor the trained model's name, so a `*` stands for each.
    """
    return f"*/*/{parse_arn(job.state.arn).account}/{job.state.name}" if is_good_end(job.state.status) else ""


_TABLE: dict[str, tuple[type, Callable[[History], Value]]] = {
    "job": (str, lambda job: job.state.job),
    "batch": (str, lambda job: job.batch),
    "membership": (str, lambda job: job.state.membership),
    "name": (str, lambda job: job.state.name),
    "trained_model": (str, lambda job: job.state.trained_model),
    "arn": (str, lambda job: job.state.arn),
    "state": (str, lambda job: str(State.of(job.state))),
    "status": (str, lambda job: job.state.status),
    "attempts": (int, lambda job: job.state.attempt),
    "via": (str, lambda job: job.via),
    "first_intent_at": (datetime, lambda job: _moment(job.first_intent_at)),
    "accepted_at": (datetime, lambda job: _moment(job.accepted_at)),
    "finished_at": (datetime, lambda job: _moment(job.finished_at)),
    "seconds_running": (float, lambda job: None if job.seconds is None else round(job.seconds, 3)),
    **{f"seconds_waited_{cause}": (float, _waited(cause)) for cause in Cause},
    "code": (str, lambda job: reason_of(job.state)[0]),
    "message": (str, lambda job: reason_of(job.state)[1]),
    "logs": (str, lambda job: job.state.logs),
    "results": (str, _results),
    "duplicates": (tuple, lambda job: job.state.duplicates),
}
COLUMNS = {name: kind for name, (kind, _) in _TABLE.items()}
"""The columns and their types. Absent texts are empty, absent times and seconds None."""


Rows = Iterable[tuple[Value, ...]]


def export_rows(timeline: Timeline) -> Rows:
    """Give each job's values, in the order of `COLUMNS`."""
    return (tuple(value(history) for _, value in _TABLE.values()) for history in timeline.histories())


_RISKY = re.compile("[\\s\0]*[=+\\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n\0']")


def write_csv(file: BinaryIO, rows: Rows) -> None:
    """Write a header and the rows."""
    text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows(map(_cell, row) for row in rows)
    text.detach()


def write_jsonl(file: BinaryIO, rows: Rows) -> None:
    """Write one object a line. What is absent is null, an empty text is a text."""
    encoder = msgspec.json.Encoder()
    for row in rows:
        values = (timestamp(value) if isinstance(value, datetime) else value for value in row)
        file.write(encoder.encode(dict(zip(COLUMNS, values, strict=True))) + b"\n")


def write_parquet(file: BinaryIO, rows: Rows) -> None:
    """Write row groups. Raises UsageError where pyarrow is not installed."""
    try:
        import pyarrow as pa  # noqa: PLC0415 (an extra, and slow to import)
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as exc:
        raise UsageError("Parquet needs pyarrow: pip install 'batchsubmit[parquet]'") from exc
    types = {
        str: pa.string(),
        int: pa.int64(),
        datetime: pa.timestamp("us", tz="UTC"),
        float: pa.float64(),
        tuple: pa.list_(pa.string()),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    rest = iter(rows)
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while part := list(islice(rest, _ROWS_AT_ONCE)):
            arrays = map(pa.array, zip(*part, strict=True), schema.types)
            writer.write_batch(pa.record_batch(list(arrays), schema=schema))


FORMATS = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}


def guarded(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet might run."""
    return f"'{text}" if _RISKY.match(text) else text


def _cell(value: Value) -> Value:
    """A value as a spreadsheet takes it."""
    match value:
        case datetime():
            return timestamp(value)
        case str():
            return guarded(value)
        case tuple():
            return guarded(" ".join(value))
        case _:
            return value
