"""The exit statuses that scripts rely on."""

import pytest

from batchsubmit.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_LEDGER,
    EXIT_STOPPED,
    EXIT_USAGE,
    BatchsubmitError,
    LedgerError,
    ManifestError,
    StoppedError,
    UsageError,
    exit_status,
)


def test_the_numbers_are_those_of_the_readme() -> None:
    """Schedulers have them written down."""
    assert (EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_STOPPED, EXIT_LEDGER) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("x"), 2),
        (ManifestError("m.csv", ["x"], 1), 2),
        (StoppedError("x"), 3),
        (LedgerError("x"), 4),
        (BatchsubmitError("x"), 3),
        (RuntimeError("a bug"), 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_has_its_status(error: Exception, status: int) -> None:
    """What has no status of its own can be resumed: nothing may pass for "some jobs failed"."""
    assert exit_status(error) == status
