"""Tells a file that plainly is no ledger from a damaged one, before anybody is advised to restore it from a copy."""

from pathlib import Path

from batchsubmit.errors import UsageError

_FIRST_BYTES = b'{"event":"'


def require_likeness(path: Path) -> None:
    """Refuse a manifest or a report that was named by mistake. Raises UsageError."""
    if not path.is_file():
        return  # whoever opens it says why it cannot be
    try:
        with path.open("rb") as file:
            first = file.read(len(_FIRST_BYTES))
    except OSError:
        return
    if not _FIRST_BYTES.startswith(first):
        raise UsageError(
            f"{path} is no ledger: its first line is no event. A ledger is what submit writes, by default "
            "<manifest stem>.ledger.jsonl in the current folder"
        )
