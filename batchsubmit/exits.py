"""The exit statuses of every command, and which error leads to which."""

from batchsubmit.errors import LedgerError, UsageError

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_STOPPED = 3
EXIT_LEDGER = 4


def exit_status(error: Exception) -> int:
    """Choose the status for what stopped the program."""
    match error:
        case UsageError():
            return EXIT_USAGE
        case LedgerError():
            return EXIT_LEDGER
        case _:
            return EXIT_STOPPED
