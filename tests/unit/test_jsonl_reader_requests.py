"""Requests from a program as a manifest."""

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import pytest
from conftest import request_named

from batchsubmit.errors import ManifestError
from batchsubmit.manifest.check import open_reader
from batchsubmit.manifest.jsonl_reader import open_requests
from batchsubmit.schema import RequestChecker


async def later() -> AsyncIterator[dict[str, Any]]:
    """Give two requests, one after the other."""
    for name in ("one", "two"):
        yield request_named(name)


async def test_requests_are_read_back_as_they_were_given() -> None:
    """Line ends and lone surrogates in texts do not break the line; an asynchronous iterable does as well."""
    awkward = request_named("one", description="a\nb\u2028c\x85d")
    for requests in ([awkward], (each for each in [awkward])):
        async with open_requests(requests) as spooled:
            reader = open_reader(spooled, defaults={}, checker=RequestChecker(region=None, own_tag=True))
            (row,) = reader.rows()
            assert row.request == awkward
    async with open_requests(later()) as spooled:
        assert len(spooled.file.readlines()) == 2


async def test_what_is_no_json_is_a_problem_with_the_number_of_the_request() -> None:
    """All of them are told at once."""
    bad = [request_named("one"), {"name": dt.date(2026, 11, 23)}, {"name": float("nan")}, {"name": {1, 2}}]
    with pytest.raises(ManifestError) as caught:
        async with open_requests(bad):
            pass
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4]  # type: ignore[attr-defined]
    assert "date is not JSON serializable" in str(caught.value.problems[0])
