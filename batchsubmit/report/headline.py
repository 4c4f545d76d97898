"""A report's first sentences: where the batch stands, what failed, what is left, when it would be done. Pure."""

from collections.abc import Iterator
from typing import NamedTuple

from batchsubmit.report.stats import Figures
from batchsubmit.report.summary import bad_words
from batchsubmit.text import counted, date_and_time, duration, rate

STOPS = {
    "signal": "someone stopped it",
    "cancelled": "the program that ran it ended it",
    "deadline": "its deadline had come",
    "failures": "more jobs failed than it was allowed",
    "canary": "its first jobs did not all finish well",
    "queue": "its queue could not be read",
    "held": "quotas other than those of slots refused all that was left",
    "denied": "the service denied what it was asked for, so a permission is missing",
    "credentials": "the service refused its credentials",
    "unreachable": "the service could not be reached",
    "ledger": "the ledger could not be written",
    "ledger_lost": "the ledger went away under it",
    "manifest": "the manifest changed under it",
}


class Headline(NamedTuple):
    """`mood` is one of bad, mixed, good, open; each sentence stands alone."""

    title: str
    mood: str
    status: str
    sentences: list[str]


def headline(figures: Figures) -> Headline:
    """Say it in one look."""
    started = figures.last_run.started if figures.last_run else None
    title = (started.batch or started.manifest.rpartition("/")[2]) if started else "An empty ledger"
    return Headline(title, *_status(figures), list(_sentences(figures)))


def _status(figures: Figures) -> tuple[str, str]:
    last = figures.last_run
    if figures.has_alarm:
        return "bad", "Under way; jobs are unknown" if figures.is_under_way else "Jobs are unknown"
    if figures.is_under_way:
        return "open", "Under way"
    if last and last.ended is None:
        return "mixed", "The last run ended without a word"
    if last and last.ended and last.ended.reason:
        return "mixed", "Stopped before the end"
    if figures.counts.pending:
        return "mixed", "Not all is submitted"
    bad = bad_words(figures.counts)
    return ("mixed", bad) if bad else ("good", "Done")


def _sentences(figures: Figures) -> Iterator[str]:
    counts = figures.counts
    if counts.unknown:
        jobs = counted(counts.unknown, "job")
        if figures.has_alarm:
            yield f"{jobs} may run or not: run the same command again, which looks such jobs up first."
        else:
            yield f"{jobs} in a call when this page was made."
    ended = f", {counts.succeeded:,} of them succeeded" if counts.succeeded else ""
    least = "" if figures.is_total_known else "at least "
    yield f"{counts.submitted:,} of {least}{counted(counts.total, 'job')} submitted{ended}."
    parts = [f"{number:,} {name}" for name in ("failed", "rejected", "cancelled") if (number := getattr(counts, name))]
    yield f"{', '.join(parts)}, for {_reasons(figures)}." if parts else "None failed."
    yield from _left(figures)


def _left(figures: Figures) -> Iterator[str]:
    last = figures.last_run
    if last and last.ended and (reason := last.ended.reason):
        yield f"The last run stopped because {STOPS.get(reason, reason)}; the same command goes on."
    if not figures.counts.pending:
        yield "Nothing is pending."
        return
    pace = f", at the last pace {rate(figures.per_second)}" if figures.per_second else ""
    yield f"{counted(figures.counts.pending, 'job')} pending{pace}."
    if figures.seconds_to_submit is not None and figures.seconds_to_finish is not None:
        start = "If nothing comes between" if figures.is_under_way else "Started again at once"
        submitted, finished = (
            f"in {duration(each)} ({date_and_time(figures.now + each)[5:-3]} UTC)"
            for each in (figures.seconds_to_submit, figures.seconds_to_finish)
        )
        yield f"{start}, all would be submitted {submitted}, finished {finished}."


def _reasons(figures: Figures) -> str:
    most, *others = figures.reasons.most_frequent_first()
    code = most.code or "no code"
    if not others:
        return f"one reason, {code}"
    above_all = f", most of all {code}" if most.count > others[0].count else ""
    return f"{1 + len(others):,} different reasons{above_all}"
