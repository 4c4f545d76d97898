"""What can go wrong with a run, sorted by what the person at the keyboard can do about it.

Each error carries one sentence that names its subject. `cli` alone turns an error into that sentence and an exit
status; everything else raises. A job that fails is no error: it is an outcome (see `jobs`).
"""

from collections.abc import Sequence


class BatchsubmitError(Exception):
    """Something stopped the program; the message says what and how to mend it."""


class UsageError(BatchsubmitError):
    """The command, the settings or the manifest are wrong. Nothing was sent: mend them and start again."""


class ManifestError(UsageError):
    """Rows of the manifest are wrong; each problem says where, what and how to mend it."""

    def __init__(self, manifest: str, problems: Sequence[object], count: int) -> None:
        super().__init__(f"{manifest} has {count} problem{'s' if count != 1 else ''}; nothing was sent")
        self.problems = problems
        self.count = count


class LedgerError(BatchsubmitError):
    """The ledger is in use or damaged. Nothing was sent: wait for the other run, or mend the file."""


class StoppedError(BatchsubmitError):
    """The run ended before all jobs were decided, and nothing is lost: mend the cause and run it again."""
