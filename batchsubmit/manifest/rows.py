"""What readers of manifests give: rows, and the problems in them."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from batchsubmit.schema import Fault, Part, Problem, RequestChecker
from batchsubmit.schema.faults import shown

if TYPE_CHECKING:
    from batchsubmit.manifest.defaults import Defaults
    from batchsubmit.manifest.file import ManifestFile

_PRIORITY_TEXT = re.compile(r"[+-]?[0-9]{1,6}", re.ASCII)
PRIORITY = "priority"
"""The variable, a whole number, by which rows of one membership go before others: higher ones first, 0 without it."""


class Row(msgspec.Struct, frozen=True):
    """One row: a valid request without nulls, unless it has `problems`; then it is no job.

    `offset` is the row's first byte, by which a reader finds it again. `variables` are for the placeholders of
    defaults and the user's own use; no part of the request. `spelled` is a good request as `canonical` spells it, and
    `part` what it shares with other rows, where that is known. With `is_header` it stands for the header's problems.
    """

    line: int
    offset: int
    request: dict[str, Any]
    variables: dict[str, str]
    problems: tuple[Problem, ...]
    spelled: bytes = b""
    part: Part | None = None
    is_header: bool = False


class Reader:
    """The rows of one manifest, in order, and any of them again."""

    def __init__(self, spooled: "ManifestFile", *, defaults: "Defaults", checker: RequestChecker) -> None:
        self._spooled = spooled
        self._defaults = defaults
        self._checker = checker

    def rows(self) -> Iterator[Row]:
        """Read the whole manifest from its start.

        Where the header has problems, they come first, as a row of its own, and then only rows with problems: nothing
        that looks like a job leaves a manifest that was misread.
        """
        raise NotImplementedError

    def request_at(self, offset: int) -> dict[str, Any]:
        """Read a row again, unchecked and without nulls, also while `rows` goes on; empty where it cannot be read."""
        raise NotImplementedError

    def problem(self, line: int, fault: Fault, offset: int | None = None, column: int | None = None) -> Problem:
        """Make a problem of what is wrong with the row at a line (and an offset); without a column, at its member's."""
        del offset
        return Problem.of(fault, label=self._spooled.label, line=line, column=column or 1)


def priority_of(variables: Mapping[str, str], faults: list[Fault]) -> int:
    """Read a row's priority: a whole number, 0 where there is none."""
    given = variables.get(PRIORITY, "0")
    if _PRIORITY_TEXT.fullmatch(given.strip()):
        return int(given)
    wrong, right = f"priority {shown(given)} is no whole number", "write one up to six digits, such as 10 or -1"
    faults.append(Fault(path=f"var.{PRIORITY}", wrong=wrong, right=right))
    return 0
