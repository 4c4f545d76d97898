"""The end of a run: counts, what is left, the exit status that follows, and the lines that people read. Pure."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from batchsubmit.advice import codes_words, more_slots, next_step, quota_words
from batchsubmit.core.ledger_state import Counts
from batchsubmit.errors import EXIT_LEDGER, status_of_work
from batchsubmit.schema import Problem
from batchsubmit.text import agreeing, counted, printable

_MOST_UNKNOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownJob:
    """A job that may or may not run on the service."""

    job: str
    membership: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One run in numbers.

    `counts` is where all rows of the manifest stand; `submitted` and `rejected` are what this run added to them, and
    the rejected contain the `invalid` rows. `unknown_elsewhere` are jobs of the ledger whose rows the manifest no
    longer has.
    """

    run: str
    batch: str
    manifest: str
    ledger: str
    counts: Counts
    submitted: int
    submitted_before: int
    rejected: int
    rejected_before: int
    invalid: int
    unknown_elsewhere: int
    refused_by_quota: int
    throttled: int
    seconds: float
    is_waited_for: bool = False
    stop_reason: str = ""
    stop_message: str = ""
    unknown_jobs: tuple[UnknownJob, ...] = ()
    warnings: tuple[Problem, ...] = ()
    """What the rows may not mean, each kind once; it changes no exit status."""
    held_by_others: dict[str, str] = field(default_factory=dict)
    """How much of which quota others seemed to use at the end, while jobs waited for it: `account` or a membership."""
    held: dict[str, str] = field(default_factory=dict)
    """The quotas, not of slots, that held lanes at the end, by membership: the service's name and value."""
    waits_for: dict[str, str] = field(default_factory=dict)
    """The trained models and channels that jobs still waited for at the end, and their status."""
    bad_ends: dict[str, int] = field(default_factory=dict)
    """The jobs that finished badly, by the code that AWS gave (their status where it gave none)."""
    refused_by: dict[str, float | None] = field(default_factory=dict)
    """The quotas that refused calls, by the service's name (empty where it gave none), and their values."""

    @property
    def exit_status(self) -> int:
        """The contract's exit status: what remains to be done outranks what failed."""
        if self.stop_reason == "ledger_lost":
            return EXIT_LEDGER
        counts = self.counts
        return status_of_work(
            left=self.stop_reason or counts.unknown or self.unknown_elsewhere or counts.pending or self.not_seen_to_end,
            failed=counts.rejected or (self.is_waited_for and (counts.failed or counts.cancelled)),
        )

    @property
    def not_seen_to_end(self) -> int:
        """Submitted jobs whose end a run that waits for ends has not seen."""
        counts = self.counts
        return counts.submitted - counts.succeeded - counts.failed - counts.cancelled if self.is_waited_for else 0

    def as_dict(self) -> dict[str, Any]:
        """The JSON summary: the same names, and the exit status."""
        return asdict(self) | {"counts": self.counts.as_dict(), "exit_status": self.exit_status}


def bad_words(counts: Counts) -> str:
    """`1 of 60 jobs failed, 2 rejected`: all that did not go well, `` where all did."""
    states = ("failed", "rejected", "cancelled", "unknown")
    first, *others = [f"{number:,} {state}" for state in states if (number := getattr(counts, state))] or [""]
    number, _, state = first.partition(" ")
    return ", ".join([f"{number} of {counted(counts.total, 'job')} {state}", *others]) if first else ""


def closing_words(summary: Summary) -> Iterator[str]:
    """Say what happened, where it stands and what to do next."""
    took = "" if _is_nothing(summary) else f" in {summary.seconds:.1f} s"
    yield f"{outcome_words(summary)}{took}"
    yield from _details(summary)
    yield f"  ledger: {summary.ledger}"
    yield from _next_steps(summary)


def outcome_words(summary: Summary) -> str:
    """The outcome of a run in a few words, never better than its exit status."""
    counts, jobs = summary.counts, counted(summary.counts.total, "job")
    bad = bad_words(counts)
    also_bad = f"; {bad}" if bad else ""
    if summary.stop_reason:
        return f"Stopped ({summary.stop_reason}): {summary.submitted:,} of {jobs} submitted by this run{also_bad}"
    if not counts.total:
        return f"Nothing to do: {summary.manifest} has no rows"
    if _is_nothing(summary) and counts.submitted == counts.total:
        before = summary.submitted_before
        which = agreeing(before, "the only job was", f"all {before:,} jobs were")
        return f"Nothing to do: {which} submitted before{also_bad}"
    if bad:
        return bad
    if summary.is_waited_for and not summary.not_seen_to_end and not counts.pending:
        return f"{counts.succeeded:,} of {jobs} succeeded"
    return f"{counts.submitted:,} of {jobs} submitted"


def _is_nothing(summary: Summary) -> bool:
    counts = summary.counts
    return not (summary.stop_reason or summary.submitted or summary.rejected or counts.pending or counts.unknown)


def _details(summary: Summary) -> Iterator[str]:
    calls, times = agreeing(summary.refused_by_quota, "call", "calls"), agreeing(summary.throttled, "time", "times")
    counts = summary.counts
    before = f", {summary.submitted_before:,} of them by earlier runs" if summary.submitted_before else ""
    rejected = f"{summary.rejected_before:,} of them in earlier runs" if summary.rejected_before else ""
    invalid = f"{counted(summary.invalid, 'invalid row')} among them" if summary.invalid else ""
    lines = (
        (counts.pending, "pending"),
        (counts.submitted, f"submitted{before}"),
        (counts.running, "running"),
        (counts.not_checked, "end not checked"),
        (counts.succeeded, "succeeded"),
        (counts.failed, f"failed: {codes_words(summary.bad_ends)}".rstrip(": ")),
        (counts.rejected, ", ".join(filter(None, ("rejected", rejected, invalid)))),
        (counts.cancelled, "cancelled"),
        (counts.unknown, f"unknown: {agreeing(counts.unknown, 'it', 'they')} may or may not run"),
        (summary.unknown_elsewhere, "unknown of rows that this manifest does not have"),
        (summary.refused_by_quota, f"{calls} refused by {_quotas(summary)}, repeated later"),
        (summary.throttled, f"{times} the service throttled and the rate was cut"),
    )
    for count, words in lines:
        if count:
            yield f"  {count:>9,} {words}"


def _quotas(summary: Summary) -> str:
    """The quotas that refused calls."""
    names = (printable(quota_words(name, limit)) for name, limit in summary.refused_by.items())
    return " and ".join(names) or "the quota"


def others_words(held: Mapping[str, str]) -> Iterator[str]:
    """Name the quotas that others seemed to use up."""
    for scope, slots in held.items():
        whose = "the account" if scope == "account" else f"membership {scope}"
        yield f"  note: the quota of {whose} looked used by others at the end: {slots}"


def held_words(held: Mapping[str, str]) -> Iterator[str]:
    """Name the quotas, not of slots, that hold memberships."""
    for membership, quota in held.items():
        yield printable(f"  held: membership {membership} by the quota {quota}; a slot that is freed does not help")


def _next_steps(summary: Summary) -> Iterator[str]:
    if summary.stop_message:
        yield f"  why: {summary.stop_message}"
    yield from held_words(summary.held)
    yield from others_words(summary.held_by_others)
    for name, status in summary.waits_for.items():
        yield f"  jobs wait for {name}, which is {status}"
    for job in summary.unknown_jobs[:_MOST_UNKNOWN]:
        yield f"  unknown: {job.name} in membership {job.membership} ({job.reason or 'the run ended during its call'})"
    if len(summary.unknown_jobs) > _MOST_UNKNOWN:
        yield f"  ... and {len(summary.unknown_jobs) - _MOST_UNKNOWN:,} more; see batchsubmit status {summary.ledger}"
    if summary.refused_by_quota and (words := more_slots(summary.counts, summary.stop_reason, _quotas(summary))):
        yield f"  quota: {words}"
    step = next_step(
        summary.counts, summary.stop_reason, unknown=len(summary.unknown_jobs), not_seen_to_end=summary.not_seen_to_end
    )
    if step:
        yield f"  next: {step.replace('LEDGER', shlex.quote(summary.ledger))}"
