"""What readers of manifests give: rows, and the problems in them. Values only."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

PRIORITY = "priority"
"""The variable, a whole number, by which rows of one membership go before others: higher ones first, 0 without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong in a manifest, and the mend.

    `line` counts from 1 and is where the row begins. `column` is the ordinal of the CSV field; in JSONL it is 1, or
    the character at which the JSON is broken. `path` is the request's member, or empty.
    """

    label: str
    line: int
    column: int
    path: str
    wrong: str
    right: str

    def __str__(self) -> str:
        subject = f"{self.path}: " if self.path else ""
        return f"{self.label}:{self.line}:{self.column}: {subject}{self.wrong}; {self.right}"


class Row(msgspec.Struct, frozen=True):
    """One row: a valid request without nulls, unless it has `problems`; then it is no job.

    `offset` is the row's first byte, by which a reader finds it again. `variables` are for the place-holders of
    defaults and the user's own use; no part of the request. `spelled` is a good request as `canonical` spells it.
    """

    line: int
    offset: int
    request: dict[str, Any]
    variables: dict[str, str]
    problems: tuple[Problem, ...]
    spelled: bytes = b""


class Reader(Protocol):
    """The rows of one manifest, in order, and any of them again."""

    def rows(self) -> Iterator[Row]:
        """Read the whole manifest from its start.

        When the header has problems, they come first, as a row of their own without a request; after that come only
        rows with problems, so that nothing that looks like a job leaves a manifest that was misread.
        """

    def row_at(self, offset: int, line: int) -> Row:
        """Read one row again, by the offset and line that `rows` gave; also while `rows` is under way."""

    def request_at(self, offset: int, line: int) -> dict[str, Any] | None:
        """Read the request of one row again, without checking it; None where it cannot be read."""

    @property
    def has_sound_header(self) -> bool:
        """Whether the columns are understood, so that rows without problems mean what they say."""

    def problem(self, row: Row, path: str, wrong: str, right: str) -> Problem:
        """Put what a caller found wrong with a row's member as a problem, at the member's column."""
