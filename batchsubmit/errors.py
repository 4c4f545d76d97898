"""What can go wrong with a run, sorted by what the person at the keyboard can do about it.

Each error carries one sentence that names its subject. `cli` alone turns an error into that sentence and an exit
status; everything else raises. A job that fails is no error: it is an outcome (see `jobs`).
"""

from collections.abc import Sequence


class BatchsubmitError(Exception):
    """Something stopped the program; the message says what and how to fix it."""


class UsageError(BatchsubmitError):
    """The command, the settings or the manifest are wrong. Nothing was sent: fix them and start again."""


class ManifestError(UsageError):
    """Rows of the manifest are wrong; each problem says where, what and how to fix it.

    `problems` are the first of them, `count` is their number, and `lines` say them to people, where many are alike.
    """

    def __init__(self, manifest: str, problems: Sequence[object], count: int, lines: Sequence[str] = ()) -> None:
        super().__init__(f"{manifest} has {count} problem{'s' if count != 1 else ''}; nothing was sent")
        self.manifest = manifest
        self.problems = problems
        self.count = count
        self.lines = lines or [str(problem) for problem in problems]
        for line in self.lines:
            self.add_note(line)  # a notebook or a task's log shows these under the traceback


class LedgerError(BatchsubmitError):
    """The ledger is in use or damaged. Nothing was sent: wait for the other run, or repair the file."""


class StoppedError(BatchsubmitError):
    """The run ended before all jobs were decided, and nothing is lost: fix the cause and run it again."""


class NotAgreedError(StoppedError):
    """The user said no; nothing was sent."""


class LostLedgerError(StoppedError, LedgerError):
    """The ledger went away under its run. No run may begin before it is put back, or all jobs are submitted again."""


EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_STOPPED = 3
EXIT_LEDGER = 4


def status_of_work(*, left: object, failed: object = False) -> int:
    """Choose the status for work that ended: what is left to do outranks what failed."""
    if left:
        return EXIT_STOPPED
    return EXIT_FAILED if failed else EXIT_DONE


def exit_status(error: Exception) -> int:
    """Choose the status for what stopped the program."""
    if isinstance(error, UsageError):
        return EXIT_USAGE
    return EXIT_LEDGER if isinstance(error, LedgerError) else EXIT_STOPPED
