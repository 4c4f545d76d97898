"""The order in which List shows jobs: by their random id, and so not by age. It must not know what a job is.

Ids are spread over buckets by their first two characters: with a million of them, adding one still moves only
some thousands of pointers, and a page is found by one bisection.
"""

from bisect import bisect_right, insort
from collections.abc import Iterator
from typing import Final

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
