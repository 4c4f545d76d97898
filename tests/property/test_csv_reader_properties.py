"""Manifests written by other programs read back as they were meant."""

import io
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from strategies import CsvManifest, csv_manifests, valid_requests

from batchsubmit.manifest.check import open_reader
from batchsubmit.manifest.file import ManifestFile
from batchsubmit.manifest.rows import Reader, Row
from batchsubmit.schema import RequestChecker, without_nulls

CHECKER = RequestChecker()


def reader_of(data: bytes, manifest_format: str = "csv", defaults: dict[str, Any] | None = None) -> Reader:
    """A reader over bytes."""
    spooled = ManifestFile(label="m", format=manifest_format, sha256="", file=io.BytesIO(data))  # type: ignore[arg-type]
    return open_reader(spooled, defaults=defaults or {}, checker=CHECKER)


@given(csv_manifests())
def test_csv_reads_back_in_any_dialect(manifest: CsvManifest) -> None:
    """What csv.writer wrote is found again, whatever the delimiter, line end, quoting or byte-order mark."""
    rows = list(reader_of(manifest.data).rows())
    assert [row.problems for row in rows] == [()] * len(rows)
    assert [row.request for row in rows] == manifest.requests


@given(csv_manifests())
def test_csv_rows_are_found_again_by_offset(manifest: CsvManifest) -> None:
    """request_at gives what rows gave, quoted newlines and all, also while rows is under way."""
    reader = reader_of(manifest.data)
    for row in reader.rows():
        assert reader.request_at(row.offset) == row.request


@given(st.lists(valid_requests(), max_size=4), st.sampled_from(["\n", "\r\n", "\n \n"]), st.booleans())
def test_jsonl_reads_back(requests: list[dict[str, Any]], line_end: str, ascii_only: bool) -> None:
    """One request a line, escaped or not, with blank lines between."""
    text = "".join(json.dumps(request, ensure_ascii=ascii_only) + line_end for request in requests)
    reader = reader_of(text.encode(), "jsonl")
    rows = list(reader.rows())
    assert [row.request for row in rows] == requests
    assert not any(row.problems for row in rows)
    assert [reader.request_at(row.offset) for row in rows] == [row.request for row in rows]


FRAGMENTS = st.sampled_from(
    [
        b'"',
        b",",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b"name",
        b"tags.",
        b"var.x",
        b"outputConfiguration.members.0",
        b"{",
        b"}",
        b"null",
    ]
)


@given(st.binary(max_size=80) | st.lists(FRAGMENTS, max_size=30).map(b"".join), st.sampled_from(["csv", "jsonl"]))
def test_arbitrary_bytes_give_rows_and_never_a_crash(data: bytes, manifest_format: str) -> None:
    """Whatever the file holds, each row is a row, and each of its problems can be printed."""
    reader = reader_of(data, manifest_format)
    rows: list[Row] = list(reader.rows())
    for problem in (problem for row in rows for problem in row.problems):
        str(problem).encode()
        assert problem.line >= 1
        assert problem.column >= 1


@given(st.binary(max_size=60) | st.lists(FRAGMENTS, max_size=20).map(b"".join))
def test_arbitrary_bytes_after_a_good_header_give_rows(data: bytes) -> None:
    """Offsets hold for broken rows as well."""
    reader = reader_of(b"name,tags.a,resourceConfig,var.x\n" + data)
    header_row, *rows = reader.rows()
    assert header_row.problems
    for row in rows:
        assert not row.request or reader.request_at(row.offset) == without_nulls(row.request)
