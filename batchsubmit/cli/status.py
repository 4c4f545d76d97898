"""`batchsubmit status`."""

import json
from typing import TYPE_CHECKING, Any

import click

from batchsubmit.cli.options import LEDGER, json_option, region_for

if TYPE_CHECKING:
    from batchsubmit.ledger.location import Location
    from batchsubmit.states import Book, JobState

_MOST_LISTED = 20


@click.command(epilog="Example: batchsubmit status jobs.ledger.jsonl --json | jq .counts")
@click.argument("ledger", type=LEDGER)
@json_option
def status(ledger: "Location", *, as_json: bool) -> int:
    """Print where the jobs of LEDGER stand, with the failures and the unknown; also while a run writes to it."""
    from batchsubmit.ledger.reading import fold_ledger  # noqa: PLC0415 (help is fast without)
    from batchsubmit.states import UNDECIDED, Phase  # noqa: PLC0415

    book = fold_ledger(ledger, region=region_for(ledger))
    failed = [state for state in book if state.phase is Phase.FAILED]
    unknown = [state for state in book if state.phase in UNDECIDED]
    if as_json:
        click.echo(json.dumps(_as_dict(ledger, book, failed, unknown)))
        return 0
    click.echo(f"{ledger}: {len(book):,} jobs in {len(book.runs):,} runs")
    for phase, count in book.account().items():
        click.echo(f"  {count:>9,} {phase}")
    _list("unknown", unknown, lambda state: state.message or "a call was about to be made")
    _list("failed", failed, lambda state: f"{state.code}: {state.message}")
    return 0


def _list(word: str, states: "list[JobState]", reason: Any) -> None:  # noqa: ANN401 (a lambda)
    for state in states[:_MOST_LISTED]:
        click.echo(f"{word}: {state.name} in membership {state.membership}: {reason(state)}")
    if len(states) > _MOST_LISTED:
        click.echo(f"... and {len(states) - _MOST_LISTED:,} more {word}")


def _as_dict(ledger: "Location", book: "Book", failed: "list[JobState]", unknown: "list[JobState]") -> dict[str, Any]:
    return {
        "ledger": str(ledger),
        "jobs": len(book),
        "runs": len(book.runs),
        "counts": book.account(),
        "failed": [
            {
                "job": each.job,
                "membership": each.membership,
                "name": each.name,
                "code": each.code,
                "message": each.message,
            }
            for each in failed
        ],
        "unknown": [
            {"job": each.job, "membership": each.membership, "name": each.name, "reason": each.message}
            for each in unknown
        ],
    }
