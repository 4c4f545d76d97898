"""The `nextToken` of List: opaque to the caller, and good only for the query it came from.

It must not know the jobs, only the id of the last one shown.
"""

import base64
import json
from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping
from typing import Any, Final

from batchsubmit.sandbox.refusals import Refusal


def query_of(request: Mapping[str, Any]) -> list[Any]:
    """Return what a token is bound to: the membership and the filters."""
    return [
        request["membershipIdentifier"],
        request.get("trainedModelArn"),
        request.get("trainedModelVersionIdentifier"),
    ]


def write(serial: int, last: str, query: list[Any]) -> str:
    """Return the token of the page behind the job `last`.

    `serial` makes every token another one: botocore's paginators take a token seen twice for an endless loop.
    """
    return base64.urlsafe_b64encode(json.dumps([serial, last, *query]).encode()).decode()


def read(token: str | None, query: list[Any]) -> str:
    """Return the id that the page begins behind; no token begins at the beginning."""
    if token is None:
        return ""
    try:
        _, last, *bound_to = json.loads(base64.b64decode(token.encode(), altchars=b"-_", validate=True))
        if bound_to == query and isinstance(last, str):
            return last
    except (ValueError, TypeError, RecursionError):
        pass
    raise Refusal("ValidationException", "nextToken is not valid for this request.")


_PREFIXES: Final = tuple(f"{number:02x}" for number in range(256))


class OrderedIndex:
    """Ids that begin with two lower-case hexadecimal digits, kept in order."""

    def __init__(self) -> None:
        self._buckets: dict[str, list[str]] = {}

    def add(self, job_id: str) -> None:
        """Put an id in its place."""
        bucket = self._buckets.get(job_id[:2])
        if bucket is None:
            self._buckets[job_id[:2]] = [job_id]
        else:
            insort(bucket, job_id)

    def after(self, last: str) -> Iterator[str]:
        """Go through the ids behind `last`, which need not be there; behind "" are all."""
        for prefix in _PREFIXES:
            if prefix < last[:2]:
                continue
            bucket = self._buckets.get(prefix, [])
            begin = bisect_right(bucket, last) if prefix == last[:2] else 0
            for position in range(begin, len(bucket)):
                yield bucket[position]
