"""A run for which nothing is left to do, known from the last line of the ledger, without a look at any row or job.

What the ledger's last run closed with still holds if three things do: the ledger's bytes are those that it left (its
seal), all that decides which jobs there are is the same (the terms: the manifest's bytes, settings, versions), and its
counts leave nothing to do, by the options of this run. At the least doubt the rows are read, and the long way tells.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from batchsubmit.app.run import Run, SubmitOptions
from batchsubmit.jobs import RunEnded
from batchsubmit.ledger.file import open_sealed
from batchsubmit.ledger.location import Location
from batchsubmit.standing.account import ToldAccount
from batchsubmit.stopping import Stop


@asynccontextmanager
async def open_repetition(path: Location, terms: str, options: SubmitOptions, stop: Stop) -> AsyncIterator[Run | None]:
    """Open the ledger for a run that has only to say so; None, and nothing done, where there may be more to do.

    Raises StoppedError.
    """
    if not isinstance(path, Path):
        yield None
        return

    def fits(ended: RunEnded) -> bool:
        return ended.terms == terms and leaves_nothing(ended.counts, options)

    async with open_sealed(path, fits, is_stopped=lambda: stop.requested) as sealed:
        if sealed is None:
            yield None
            return
        ledger, ended = sealed
        yield Run(options=options, ledger=ledger, stop=stop, account=ToldAccount(ended.counts), terms=terms)


def leaves_nothing(counts: dict[str, int], options: SubmitOptions) -> bool:
    """Whether a run with these options has nothing to do after one that closed so."""
    try:
        account, elsewhere = ToldAccount(counts), counts["unknown_elsewhere"]
    except KeyError:
        return False
    now = account.standing()
    return not (
        now.left
        or now.unknown
        or elsewhere
        or (options.retry_failed and now.failed)
        or (options.wait and now.submitted > now.finished)
        or now.submitted + now.failed + account.invalid != account.rows
    )
