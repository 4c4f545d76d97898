"""JSONL manifests: one request a line, and what is said of broken ones."""

import io
import json
from typing import Any

import pytest
from strategies import minimal_request

from batchsubmit.manifest.check import open_reader
from batchsubmit.manifest.file import ManifestFile
from batchsubmit.manifest.rows import Reader
from batchsubmit.schema import Fault, RequestChecker


def reader_of(data: bytes | str, defaults: dict[str, Any] | None = None) -> Reader:
    """A reader over a manifest's content."""
    file = io.BytesIO(data.encode() if isinstance(data, str) else data)
    spooled = ManifestFile(label="jobs.jsonl", format="jsonl", sha256="", file=file)
    return open_reader(spooled, defaults=defaults or {}, checker=RequestChecker())


def line(**members: object) -> str:
    """One line of a manifest."""
    return json.dumps(minimal_request(**members)) + "\n"


def test_requests_are_read_as_the_api_takes_them() -> None:
    """Blank lines, CRLF and a byte-order mark are no matter; nulls are absent."""
    data = "\ufeff" + line(description=None) + " \n\r\n" + line(tags={"a": "null"}).replace("\n", "\r\n")
    reader = reader_of(data)
    rows = list(reader.rows())
    assert [(row.line, row.request) for row in rows] == [
        (1, minimal_request()),
        (4, minimal_request(tags={"a": "null"})),
    ]
    assert [reader.request_at(row.offset) for row in rows] == [row.request for row in rows]


def test_variables_stand_in_var_or_in_dotted_members() -> None:
    """They are no part of the request, and fill the defaults."""
    data = line(**{"var": {"day": "monday", "gone": None}, "var.hour": "7"})
    (row,) = reader_of(data, {"description": "{day} {hour}"}).rows()
    assert row.problems == ()
    assert row.variables == {"day": "monday", "hour": "7"}
    assert row.request == minimal_request(description="monday 7")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('{"name": }\n', "jobs.jsonl:1:10: is not JSON: expecting value; correct it there"),
        ("[1]\n", 'jobs.jsonl:1:1: is a list, not an object; write one request a line, {"name": …}'),
        ("null\n", "jobs.jsonl:1:1: is null, not an object"),
        (
            '{"name": "a", "name": "b"}\n',
            'jobs.jsonl:1:15: the key "name" stands twice in one object; keep one of them',
        ),
        ('{"name": NaN}\n', "jobs.jsonl:1:10: NaN is not JSON"),
        ('{"name": "\\ud800"}\n', "jobs.jsonl:1:11: holds half of a surrogate pair"),
        (b'{"name": "caf\xe9"}\n', "jobs.jsonl:1:14: byte 14 of the line, 0xe9, is not UTF-8; save the file as UTF-8"),
        ("[" * 100_000 + "\n", "jobs.jsonl:1:1: is nested too deeply"),
        (line(name=" "), "jobs.jsonl:1:1: name: ' ' does not match"),
        (line(resourceConfig={"instanceType": "ml.m5.large", "instanceCount": True}), "true is not an integer"),
        (line(var=[]), "jobs.jsonl:1:1: var: is a list; must be an object of texts"),
        (line(var={"day": 1}), "jobs.jsonl:1:1: var.day: is a number; must be text"),
        (line(**{"var": {"day": "1"}, "var.day": "2"}), "jobs.jsonl:1:1: var.day: is given twice; keep one of them"),
    ],
)
def test_a_problem_names_its_line_character_and_mend(data: bytes | str, expected: str) -> None:
    """The good line after it is read all the same."""
    broken, good = reader_of((data.encode() if isinstance(data, str) else data) + line().encode()).rows()
    assert [expected in str(problem) for problem in broken.problems] == [True]
    assert (good.line, good.problems) == (2, ())


def test_every_problem_of_a_row_is_told() -> None:
    """Not only the first."""
    (row,) = reader_of(line(name=" ", nam="x", tags={"aws:a": ""})).rows()
    assert {problem.path for problem in row.problems} == {"name", "nam", "tags.aws:a"}


def test_an_endless_line_ends_the_reading() -> None:
    """Memory stays bounded on what is no manifest at all."""
    good, broken = reader_of(line().encode() + b"x" * (17 << 20)).rows()
    assert good.problems == ()
    assert [str(problem) for problem in broken.problems] == [
        "jobs.jsonl:2:1: has more than 16,777,216 bytes; write one request a line"
    ]


def test_a_callers_findings_are_told_the_same_way() -> None:
    """JSONL has no columns."""
    reader = reader_of(line())
    (row,) = reader.rows()
    assert str(reader.problem(row.line, Fault(path="name", wrong="w", right="r"))) == "jobs.jsonl:1:1: name: w; r"
