"""What a run's end is told to people with. Pure: values in, lines out."""

from collections.abc import Iterator

from batchsubmit.remedies import QUOTA_REQUEST
from batchsubmit.report.summary import Summary

_MOST_UNKNOWN = 10


def closing_words(summary: Summary) -> Iterator[str]:
    """Say what happened, where it stands and what to do next."""
    yield f"{headline(summary)} in {summary.seconds:.1f} s"
    yield from _details(summary)
    yield f"  ledger: {summary.ledger}"
    yield from _next_steps(summary)


def counted(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def headline(summary: Summary) -> str:
    """The outcome of a run in a few words."""
    if summary.stop_reason:
        return f"Stopped ({summary.stop_reason}): {summary.submitted:,} of {summary.rows:,} jobs submitted by this run"
    if not (summary.submitted or summary.failed or summary.left or summary.unknown):
        return f"Nothing to do: {summary.submitted_before:,} of {summary.rows:,} jobs were submitted before"
    return f"{summary.submitted:,} of {summary.rows:,} jobs submitted"


def _details(summary: Summary) -> Iterator[str]:
    counts = (
        (summary.submitted_before, "submitted by earlier runs"),
        (summary.failed, "failed"),
        (summary.failed_before, "failed in earlier runs"),
        (summary.invalid, "invalid rows, recorded as failed"),
        (summary.unknown, "unknown: they may or may not run"),
        (summary.unknown_elsewhere, "unknown of rows that this manifest does not have"),
        (summary.left, "left to submit"),
        (summary.finished_well, "finished well"),
        (summary.finished_badly, "finished badly"),
        (summary.refused_by_quota, "calls refused by the quota, repeated later"),
        (summary.throttled, "times the service throttled and the rate was cut"),
    )
    for count, words in counts:
        if count:
            yield f"  {count:>9,} {words}"


def _next_steps(summary: Summary) -> Iterator[str]:
    if summary.stop_message:
        yield f"  why: {summary.stop_message}"
    for scope, slots in summary.held_by_others.items():
        whose = "the account" if scope == "account" else f"membership {scope}"
        yield f"  note: the quota of {whose} looked used by others at the end: {slots}"
    for job in summary.unknown_jobs[:_MOST_UNKNOWN]:
        yield f"  unknown: {job.name} in membership {job.membership} ({job.reason or 'the run ended during its call'})"
    if len(summary.unknown_jobs) > _MOST_UNKNOWN:
        yield f"  ... and {len(summary.unknown_jobs) - _MOST_UNKNOWN:,} more; see batchsubmit status {summary.ledger}"
    if summary.refused_by_quota and summary.left:
        yield f"  quota: jobs wait because all slots are taken; to ask for more: {QUOTA_REQUEST}"
    if summary.stop_reason:
        looked_up = "; the unknown jobs are looked up first" if summary.unknown_jobs else ""
        yield f"  next: run the same command again to go on{looked_up}"
    elif summary.unknown_jobs:
        yield (
            "  next: the service does not tell of the unknown jobs. Let the role call "
            "cleanrooms-ml:ListTrainedModelInferenceJobs and GetTrainedModelInferenceJob and run the same command "
            "again; or look for the names in the console, and send those that do not run there with --resubmit-unknown"
        )
    elif summary.left:
        yield "  next: run the same command again to go on"
    elif summary.failed or summary.failed_before or summary.finished_badly or summary.invalid:
        yield f"  next: batchsubmit status {summary.ledger} lists the failures; --retry-failed tries them again"
