"""CSV manifests as real programs write them, and what is said of broken ones."""

import io
from typing import Any

import pytest
from strategies import ACCOUNT, MEMBERSHIP, arn, minimal_request

from batchsubmit.manifest.check import open_reader
from batchsubmit.manifest.csv_syntax import character_of
from batchsubmit.manifest.file import ManifestFile
from batchsubmit.manifest.rows import Reader
from batchsubmit.schema import Fault, RequestChecker
from batchsubmit.schema.faults import shown_path

CELLS = {
    "membershipIdentifier": MEMBERSHIP,
    "name": "job",
    "trainedModelArn": arn("trained-model"),
    "resourceConfig.instanceType": "ml.m5.large",
    "outputConfiguration.members.0.accountId": ACCOUNT,
    "dataSource.mlInputChannelArn": arn("ml-input-channel"),
}


def reader_of(data: bytes | str, defaults: dict[str, Any] | None = None) -> Reader:
    """A reader over a manifest's content."""
    file = io.BytesIO(data.encode() if isinstance(data, str) else data)
    spooled = ManifestFile(label="jobs.csv", format="csv", sha256="", file=file)
    return open_reader(spooled, defaults=defaults or {}, checker=RequestChecker())


def manifest(*rows: dict[str, str], **more: str) -> str:
    """A manifest of these rows' cells over good ones; quotes are the caller's business."""
    columns = [*CELLS, *dict.fromkeys([*more, *(name for row in rows for name in row if name not in CELLS)])]
    lines = [columns, *([(CELLS | more | row).get(name, "") for name in columns] for row in rows or ({},))]
    return "".join(",".join(line) + "\n" for line in lines)


def problems(data: bytes | str, defaults: dict[str, Any] | None = None) -> list[str]:
    """All problems of a manifest, as text."""
    return [str(problem) for row in reader_of(data, defaults).rows() for problem in row.problems]


def test_dotted_columns_become_a_nested_request() -> None:
    """Texts, integers, lists and keys with dots; empty cells are absent."""
    data = manifest(
        {"resourceConfig.instanceCount": "2", "tags.cost.centre": "7", "description": "", "var.day": "monday"}
    )
    (row,) = reader_of(data).rows()
    assert row.problems == ()
    assert row.request == minimal_request(
        resourceConfig={"instanceType": "ml.m5.large", "instanceCount": 2}, tags={"cost.centre": "7"}
    )
    assert row.variables == {"day": "monday"}
    assert (row.line, row.offset) == (2, data.index("\n") + 1)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_spreadsheets_dialects_are_read(delimiter: str, line_end: str, bom: bytes) -> None:
    """Blank lines and rows of empty cells are skipped, a missing last line end is no matter."""
    text = manifest().replace(",", delimiter).replace("\n", "\n\n" + delimiter * 5 + "\n").strip()
    (row,) = reader_of(bom + text.replace("\n", line_end).encode()).rows()
    assert row.problems == ()
    assert row.request == minimal_request()


def test_a_whole_member_may_be_json() -> None:
    """Also beside dotted columns of the same member, as long as nothing is given twice; its nulls are dropped."""
    json_cell = '"{""instanceType"":""ml.m5.large"",""instanceCount"":null}"'
    data = manifest(
        {"resourceConfig": json_cell, "resourceConfig.instanceType": "", "resourceConfig.instanceCount": "3"}
    )
    (row,) = reader_of(data).rows()
    assert row.problems == ()
    assert row.request["resourceConfig"] == {"instanceType": "ml.m5.large", "instanceCount": 3}


@pytest.mark.parametrize(
    ("data", "defaults", "expected"),
    [
        (
            "name,outputConfiguration.members,outputConfiguration.members.0.accountId\nj,[1],\n",
            {},
            "jobs.csv:2:2: outputConfiguration.members.0: is a number",
        ),
        (
            "name,environment.A,var.partition\nj,x,\n",
            {"environment": {"P": "{partition}"}},
            "jobs.csv:2:1: environment.P: its default needs {partition}",
        ),
    ],
)
def test_a_fault_is_in_the_column_that_has_its_value(data: str, defaults: dict[str, Any], expected: str) -> None:
    """Not in an empty one of the same member, nor in a good one beside it."""
    assert any(problem.startswith(expected) for problem in problems(data, defaults)), problems(data, defaults)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (
            {"resourceConfig.instanceType": "ml.m5.huge"},
            "jobs.csv:2:4: resourceConfig.instanceType: 'ml.m5.huge' is not an",
        ),
        ({"resourceConfig.instanceType": ""}, "jobs.csv:2:4: resourceConfig.instanceType: is missing; is required"),
        (
            {"resourceConfig.instanceCount": "2.0"},
            "jobs.csv:2:7: resourceConfig.instanceCount: '2.0' is not an integer; write 2",
        ),
        ({"resourceConfig.instanceCount": "1e3"}, "'1e3' is not an integer; must be a whole number from 1 to 10"),
        ({"resourceConfig.instanceCount": " 2"}, "' 2' is not an integer; write 2"),
        ({"resourceConfig.instanceCount": "02"}, "'02' is not an integer; write 2"),
        ({"resourceConfig.instanceCount": "9" * 5000}, "is not an integer; must be a whole number from 1 to 10"),
        (
            {"resourceConfig": '"{""instanceType"":""ml.m5.large""}"'},
            "resourceConfig.instanceType: is given twice in this row",
        ),
        ({"resourceConfig": "[]"}, "jobs.csv:2:7: resourceConfig: is a list; must be an object"),
        ({"tags": "{x}"}, "jobs.csv:2:7: tags: is not JSON: "),
        ({"tags": '"{""a"":""1"",""a"":""2""}"'}, 'tags: the key "a" stands twice in one object'),
        ({"tags": '"{""a"":""\\ud800""}"'}, "tags: holds half of a surrogate pair"),
        ({"environment.9": "x"}, "jobs.csv:2:7: environment.9: the key '9' does not match"),
        ({"name": '"a""b'}, "jobs.csv:2:2: name: a quote opens this cell and none closes it"),
        ({"name": '"a"b'}, "jobs.csv:2:2: name: a quote stands within a quoted cell"),
        ({"name": "a\0"}, "jobs.csv:2:2: name: byte 39 of line 2 is NUL"),
        ({"name": "a,b"}, "jobs.csv:2:7: the row has 7 cells, the header 6"),
    ],
)
def test_a_problem_names_its_line_column_and_mend(cells: dict[str, str], expected: str) -> None:
    """One for each mistake, at the cell where it stands."""
    assert any(expected in problem for problem in problems(manifest(cells)))


def test_every_problem_of_every_row_is_told() -> None:
    """Not only the first."""
    bad = {"name": " ", "resourceConfig.instanceType": "zzz"}
    assert [problem.split(": ")[:2] for problem in problems(manifest(bad, {}, bad))] == [
        ["jobs.csv:2:2", "name"],
        ["jobs.csv:2:4", "resourceConfig.instanceType"],
        ["jobs.csv:4:2", "name"],
        ["jobs.csv:4:4", "resourceConfig.instanceType"],
    ]


def test_a_short_row_is_one_problem() -> None:
    """The lacking cells are named once, not as missing members too."""
    data = manifest() + f"{MEMBERSHIP},short\n"
    (problem,) = problems(data)
    assert problem.startswith("jobs.csv:3:3: trainedModelArn: the row has 2 cells, the header 6")


def test_a_stray_quote_does_not_hide_the_rows_after_it() -> None:
    """Reading goes on at the next line, with the right offsets."""
    reader = reader_of(manifest({"name": '"open'}, {"name": "a"}, {"name": "b"}))
    broken, *good = reader.rows()
    assert broken.problems[0].line == 2
    assert not any(row.problems for row in good)
    assert [row.request["name"] for row in good] == ["a", "b"]
    assert [reader.request_at(row.offset) for row in (broken, *good)] == [{}, *(row.request for row in good)]


def test_quoted_newlines_count_as_lines() -> None:
    """A row's line is where it begins."""
    rows = list(reader_of(manifest({"description": '"a\r\nb"'}, {})).rows())
    assert [(row.line, row.request.get("description")) for row in rows] == [(2, "a\r\nb"), (4, None)]


def test_a_byte_that_is_not_utf8_is_named() -> None:
    """Line, byte and cell; the rows around it are read."""
    data = manifest({"name": "caf\u00e9"}, {}).encode("latin-1")
    (problem,) = problems(data)
    assert problem.startswith("jobs.csv:2:2: name: byte 41 of line 2, 0xe9, is not UTF-8; save the file as UTF-8")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["trainedModelARN"], "jobs.csv:1:7: trainedModelARN: is not a column; did you mean 'trainedModelArn'?"),
        (["instanceCount"], "did you mean 'resourceConfig.instanceCount'?"),
        (["colour"], "jobs.csv:1:7: colour: is not a column; name it var.colour if it is a variable, or remove it"),
        (
            ["description", "description"],
            "jobs.csv:1:8: description: is a column twice; remove one; the first is number 7",
        ),
        ([" name"], "jobs.csv:1:7:  name: is a column twice"),
        (["", "description"], "jobs.csv:1:7: the column has no name; name it, or remove it"),
        (["outputConfiguration.members.1.accountId"], "is not a column"),
        (["var."], "is not a column"),
    ],
)
def test_the_headers_problems_are_told_once(columns: list[str], expected: str) -> None:
    """With the column's number and what was probably meant."""
    header, row = manifest().splitlines()
    data = "\n".join([",".join([header, *columns]), *[row + "," * len(columns)] * 3])
    (problem,) = problems(data)
    assert problem.startswith(expected) or expected in problem


def test_a_required_column_that_is_missing_is_one_problem() -> None:
    """Not one a row; and no row of such a manifest looks like a job."""
    rows = list(reader_of("name\n" + "job\n" * 3).rows())
    assert [problem.path for problem in rows[0].problems] == [name for name in CELLS if name != "name"]
    assert len(rows) == 1


def test_rows_with_problems_follow_a_bad_header() -> None:
    """All that is wrong is told in one go, and good rows are withheld."""
    data = manifest({}, {"name": " "}, colour="red")
    assert [(row.line, len(row.problems)) for row in reader_of(data).rows()] == [(1, 1), (3, 1)]


def test_defaults_stand_in_for_columns() -> None:
    """Whole or in part, with place-holders from the row."""
    data = "name,var.partition\njob,7\n"
    request = minimal_request()
    del request["name"]
    request["dataSource"] = {"mlInputChannelArn": arn("ml-input-channel", "p{partition}")}
    (row,) = reader_of(data, request).rows()
    assert row.problems == ()
    assert row.request == minimal_request(dataSource={"mlInputChannelArn": arn("ml-input-channel", "p7")})


def test_a_place_holder_without_a_column_is_a_problem_of_the_header() -> None:
    """Where no row could fill it."""
    found = problems(manifest(), {"description": "{colour}"})
    assert found[0].startswith(
        "jobs.csv:1:1: description: its default needs {colour}, and the header has no column var.colour"
    )


def test_an_empty_variable_is_a_problem_of_its_row() -> None:
    """Only where the default is needed."""
    data = manifest({"var.day": "", "description": ""}, {"var.day": "", "description": "x"})
    (problem,) = problems(data, {"description": "{day}"})
    assert problem.startswith("jobs.csv:2:8: description: its default needs {day}")


def test_a_repeated_header_is_recognised() -> None:
    """As `cat a.csv b.csv` leaves it."""
    assert problems(manifest() + manifest()) == ["jobs.csv:3:1: is the header again; remove this line"]


@pytest.mark.parametrize("data", ["\n \n", "\ufeff"])
def test_a_manifest_without_a_header_says_so(data: str) -> None:
    """Blank lines are no header."""
    assert problems(data) == ["jobs.csv:1:1: has no header; name the columns in the first line"]


def test_a_row_of_a_manifest_without_header_cannot_be_read() -> None:
    """There is nothing to tell cells apart by."""
    assert reader_of('"').request_at(0) == {}


def test_an_endless_line_ends_the_reading() -> None:
    """Memory stays bounded on what is no manifest at all."""
    found = problems(manifest().encode() + b"x" * (17 << 20))
    assert len(found) == 1
    assert found[0].startswith("jobs.csv:3:1: membershipIdentifier: the line, or one that a quoted cell")


def test_a_callers_findings_get_the_members_column() -> None:
    """Names used twice are found elsewhere, and told the same way."""
    reader = reader_of(manifest())
    (row,) = reader.rows()
    assert (
        str(reader.problem(row.line, Fault(path="resourceConfig", wrong="w", right="r")))
        == "jobs.csv:2:4: resourceConfig: w; r"
    )


def test_records_across_blocks_are_whole() -> None:
    """A CR at a block's end still finds its LF, wherever the block ends."""
    data = manifest(*[{"name": f"job-{number}", "description": '"a\r\nb"'} for number in range(3000)])
    rows = list(reader_of(data.replace("\n", "\r\n").replace("\r\r", "\r")).rows())
    assert [row.request["name"] for row in rows] == [f"job-{number}" for number in range(3000)]
    assert [row.line for row in rows] == list(range(2, 6002, 2))


def test_a_long_variable_is_found_at_its_column() -> None:
    """By the shortened name that messages have, and without a search through all columns."""
    long = "var." + "p" * 90
    reader = reader_of(manifest(**{f"{long}{number}": "x" for number in range(3)}))
    (problem,) = {
        reader.problem(2, Fault(path=shown_path(f"{long}{number}"), wrong="w", right="r")) for number in (0, 1)
    }
    assert problem.column == len(CELLS) + 1


def test_a_text_in_a_message_is_quoted_plainly() -> None:
    """In single quotes, whatever quotes it holds, and with nothing that a terminal obeys."""
    (problem,) = problems(manifest({"resourceConfig.instanceType": "ml's\u202e"}))
    assert "'ml's\\u202e' is not an instance type" in problem


@pytest.mark.parametrize(
    ("line", "cell", "character"),
    [("a,b,c", 1, 1), ("a,b,c", 3, 5), ('"a,""b""",c', 2, 11), (",,x", 3, 3), ('"a\n', 2, 0), ("a", 2, 0)],
)
def test_a_cell_is_found_by_its_character_in_the_line(line: str, cell: int, character: int) -> None:
    """As an editor counts; 0 where the record goes on in another line, or has no such cell."""
    assert character_of(line, ",", cell) == character
