"""The quick way through a CSV manifest finds what the careful way finds: to the key, the offset and the last word."""

import csv
import io
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import ACCOUNT, MEMBERSHIP, REGION, arn

from batchsubmit.schema import RequestChecker
from batchsubmit.sources import GoodRows, Row, Spooled, csvbulk
from batchsubmit.sources.csvfile import CsvReader
from batchsubmit.sources.defaults import Defaults
from batchsubmit.sources.inventory import Inventory, Terms, take_inventory

OTHER = "fedcba98-7654-3210-fedc-ba9876543210"
COLUMNS = {
    "name": "job-{}",
    "membershipIdentifier": MEMBERSHIP,
    "trainedModelArn": arn("trained-model", "one"),
    "dataSource.mlInputChannelArn": arn("ml-input-channel", "customers-{}"),
    "resourceConfig.instanceType": "ml.m5.xlarge",
    "resourceConfig.instanceCount": "1",
    "outputConfiguration.members.0.accountId": ACCOUNT,
    "environment.PARTITION": "{}",
    "tags.team": "growth",
    "description": "100 % {}",
    "kmsKeyArn": f"arn:aws:kms:{REGION}:123456789012:key/{{}}",
    "containerExecutionParameters": '{"maxPayloadInMB": 5}',
    "var.note": "note {}",
    "var.partition": "p{}",
}
ODD_CELLS = [
    "", " ", "é", "\ue000", "%s", "a\\b", 'say "hello"', "a,b", "a\nb", "a\r\nb", "\0", "x" * 70, "x" * 300,
    MEMBERSHIP.upper(), OTHER, "job-1", "9", "null", '{"maxPayloadInMB": 500}', "{", "aws:", "\x7f", "\t", "a;b",
    arn("trained-model", "x").replace(ACCOUNT, "999988887777"), arn("ml-input-channel", "a/b"),
    arn("ml-input-channel", "x").replace(REGION, "eu-west-1"), "arn:aws:kms:us-east-1:1:key/1",
    arn("ml-input-channel", "x").replace(MEMBERSHIP, OTHER),
]  # fmt: skip
ODD_LINES = [b"", b",", b'"', b'a"b', b",,,,,,,,,,,,,", b"\xff", b"\r", b'"open,', b"name", b"\0", b'"",""']


class Careful(CsvReader):
    """A reader that knows no quick way."""

    def rows_in_bulk(self) -> Iterator[Row]:
        """Read every row for itself."""
        return self.rows()


def inventory_of(kind: type[CsvReader], data: bytes, defaults: dict[str, Any], terms: Terms) -> Inventory:
    """What the first pass finds."""
    return take_inventory(reader_of(kind, data, defaults), terms)


def reader_of(kind: type[CsvReader], data: bytes, defaults: dict[str, Any] | None = None) -> CsvReader:
    """A reader over bytes."""
    checker = RequestChecker(region=REGION)
    spooled = Spooled(label="m", format="csv", sha256="", file=io.BytesIO(data))
    return kind(spooled, defaults=Defaults(defaults or {}, checker), checker=checker)


def findings(inventory: Inventory) -> tuple[object, ...]:
    """All that is known after the first pass."""
    index = inventory.index
    return (
        list(index),
        list(index.offsets),
        list(index.lines),
        [index.membership(number) for number in range(len(index))],
        [index.ordinal(number) for number in range(len(index))],
        inventory.region,
        inventory.problems,
        inventory.problem_count,
        inventory.invalid_count,
        inventory.invalid,
        inventory.warnings,
        inventory.accounts,
    )


def spelled(rows: list[list[str]], delimiter: str, line_end: str, quoting: int) -> list[bytes]:
    """The rows as csv.writer writes them, one by one."""
    lines = []
    for row in rows:
        out = io.StringIO(newline="")
        csv.writer(out, delimiter=delimiter, lineterminator=line_end, quoting=quoting).writerow(row)
        lines.append(out.getvalue().encode())
    return lines


@st.composite
def manifests(draw: st.DrawFn) -> bytes:
    """Rows that differ in a few cells, with odd cells and odd lines strewn in."""
    left_out = draw(st.sets(st.sampled_from(list(COLUMNS)), max_size=3)) if draw(st.booleans()) else set()
    names = [name for name in COLUMNS if name not in left_out]
    if draw(st.booleans()):
        names = list(draw(st.permutations(names)))
    odd = draw(
        st.dictionaries(st.integers(0, 25), st.tuples(st.sampled_from(names), st.sampled_from(ODD_CELLS)), max_size=4)
    )
    rows = [[COLUMNS[name].replace("{}", str(number)) for name in names] for number in range(26)]
    for number, (name, cell) in odd.items():
        rows[number][names.index(name)] = cell
    line_end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    lines = spelled([names, *rows], draw(st.sampled_from(",;\t")), line_end, quoting)
    for place, line in draw(st.lists(st.tuples(st.integers(1, 26), st.sampled_from(ODD_LINES)), max_size=2)):
        lines.insert(place, line + line_end.encode())
    data = b"".join(lines)
    return data[: len(data) - draw(st.sampled_from([0, 0, 1, 2]))]


DEFAULTS: list[dict[str, Any]] = [
    {},
    {"membershipIdentifier": MEMBERSHIP, "trainedModelArn": arn("trained-model", "one"), "tags": {"by": "default"}},
    {"dataSource": {"mlInputChannelArn": arn("ml-input-channel", "c-{partition}")}, "description": "{name}"},
    {"resourceConfig": {"instanceType": "ml.m5.xlarge"}, "outputConfiguration": {"members": [{"accountId": ACCOUNT}]}},
]
TERMS = [Terms(), Terms(allow_duplicates=True, batch="nightly"), Terms(keep_invalid=True)]


@given(manifests(), st.sampled_from(DEFAULTS), st.sampled_from(TERMS), st.sampled_from([300, 1500, 1 << 16]))
@example(b'name,x\n"x,y,z",y\n', {}, Terms(), 300)
def test_both_ways_find_the_same(data: bytes, defaults: dict[str, Any], terms: Terms, block_bytes: int) -> None:
    """Whatever stands in the way, and wherever blocks end."""
    with patch.object(csvbulk, "_BLOCK_BYTES", block_bytes):
        quick = inventory_of(CsvReader, data, defaults, terms)
    assert findings(quick) == findings(inventory_of(Careful, data, defaults, terms))


def test_the_quick_way_is_taken() -> None:
    """By all rows but the odd one."""
    rows = [[cell.replace("{}", str(number)) for cell in COLUMNS.values()] for number in range(40)]
    rows[7][0] = "é"
    data = b"".join(spelled([list(COLUMNS), *rows], ",", "\n", csv.QUOTE_MINIMAL))
    pieces = list(reader_of(CsvReader, data).rows_in_bulk())
    assert [len(piece) if isinstance(piece, GoodRows) else piece.line for piece in pieces] == [7, 9, 32]


@pytest.mark.parametrize(
    ("begin", "where"),
    [
        ('"x,{},z",same', "what varies is text within a quoted cell, and a name of one text stands behind it"),
        ('"x,{}",', "the quote ends behind it"),
        ('x,{},"', "a quote begins behind it"),
        ('x,"{}"', "all of it is quoted"),
    ],
)
def test_quotes_around_the_cut_mean_what_they_mean(begin: str, where: str) -> None:
    """A line is cut by its delimiters, whatever they stand in; what that makes of it is checked first."""
    rest = [
        cell.replace("{}", "0")
        for name, cell in COLUMNS.items()
        if name not in ("name", "containerExecutionParameters")
    ]
    header = ["var.x", *(name for name in COLUMNS if name != "containerExecutionParameters")]
    # More lines before them than what varies is judged by.
    rows = [*(f"x,job-{number}" for number in range(300)), *(begin.replace("{}", name) for name in ("same", "other"))]
    data = "\n".join([",".join(header), *(",".join([row, *rest]) for row in rows), ""]).encode()
    with patch.object(csvbulk, "_BLOCK_BYTES", 1 << 20):
        quick, careful = (findings(inventory_of(kind, data, {}, Terms())) for kind in (CsvReader, Careful))
    assert quick == careful, where


def test_what_precedes_an_arn_s_last_slash_is_compared() -> None:
    """Where channels vary from row to row, one of another account is found."""
    rows = [[cell.replace("{}", str(number)) for cell in COLUMNS.values()] for number in range(40)]
    rows[20][3] = rows[20][3].replace(ACCOUNT, "999988887777")
    data = b"".join(spelled([list(COLUMNS), *rows], ",", "\n", csv.QUOTE_MINIMAL))
    inventory = inventory_of(CsvReader, data, {}, Terms(foreign_arns="error"))
    assert [(problem.line, problem.column) for problem in inventory.problems] == [(22, 4)]
