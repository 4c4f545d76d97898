"""What `--ledger` may say: a file's path, or `dynamodb://TABLE`. Light: it loads nothing of AWS."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

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


def parse_location(text: str) -> Location:
    """Tell a file's path from a table. Raises UsageError."""
    if "://" not in text:
        return Path(text)
    name = text.removeprefix(_SCHEME)
    if name == text or not _TABLE_NAME.fullmatch(name):
        raise UsageError(f"{text} names no ledger: give a file's path, or dynamodb:// and a table's name")
    return TableLocation(name)
