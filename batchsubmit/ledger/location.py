"""What `--ledger` names: a file's path, or the table of a shared ledger."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from batchsubmit.config import checked_text
from batchsubmit.errors import UsageError

_SCHEME = "dynamodb://"
_TABLE_NAME = re.compile(r"[a-zA-Z0-9_.-]{3,255}")


@dataclass(frozen=True, slots=True)
class TableLocation:
    """A DynamoDB table in the region and account that AWS is configured for."""

    table: str

    def __str__(self) -> str:
        return f"{_SCHEME}{self.table}"


Location: TypeAlias = Path | TableLocation
"""What `--ledger` names: a file, or a table."""


def parse_location(text: str) -> Location:
    """Read what `--ledger` says. Raises UsageError."""
    text = checked_text(text, "the ledger")
    if "://" not in text:
        return Path(text)
    name = text.removeprefix(_SCHEME)
    if name == text or not _TABLE_NAME.fullmatch(name):
        raise UsageError(f"{text} names no ledger: give a file's path, or dynamodb:// and a table's name")
    return TableLocation(name)
