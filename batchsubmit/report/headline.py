"""A report's first sentences: where the batch stands, what failed, what is left, when it would be done. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from batchsubmit.core.states import State
from batchsubmit.report.stats import Figures, Outlook
from batchsubmit.report.summary import bad_words
from batchsubmit.text import counted, date_and_time, duration

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """`mood` is one of bad, mixed, good, open; each sentence stands alone."""

    title: str
    mood: str
    status: str
    sentences: tuple[str, ...]


def headline(figures: Figures, outlook: Outlook) -> Headline:
    """Say it in one look."""
    runs = figures.timeline.runs
    started = runs[-1].started if runs else None
    title = (started.batch or started.manifest.rpartition("/")[2]) if started else "An empty ledger"
    mood, status = _status(figures, outlook)
    return Headline(title=title, mood=mood, status=status, sentences=tuple(_sentences(figures, outlook)))


def has_alarm(figures: Figures, outlook: Outlook) -> bool:
    """Whether jobs are unknown; of a run that is under way, those do not count that are in a call just now."""
    unknown = figures.fates[State.UNKNOWN]
    return unknown > (figures.calling if outlook.is_under_way else 0)


def _status(figures: Figures, outlook: Outlook) -> tuple[str, str]:
    if has_alarm(figures, outlook):
        return "bad", "Under way; jobs are unknown" if outlook.is_under_way else "Jobs are unknown"
    if outlook.is_under_way:
        return "open", "Under way"
    last = figures.timeline.runs[-1] if figures.timeline.runs else None
    if last and last.ended is None:
        return "mixed", "The last run ended without a word"
    if last and last.ended and last.ended.reason:
        return "mixed", "Stopped before the end"
    if outlook.left:
        return "mixed", "Not all is submitted"
    bad = bad_words(figures.counts)
    return ("mixed", bad) if bad else ("good", "Done")


def _sentences(figures: Figures, outlook: Outlook) -> Iterator[str]:
    fates = figures.fates
    if fates[State.UNKNOWN]:
        jobs = counted(fates[State.UNKNOWN], "job")
        if has_alarm(figures, outlook):
            yield f"{jobs} may run or not: run the same command again, which looks such jobs up first."
        else:
            yield f"{jobs} in a call when this page was made."
    ended = f", {fates[State.SUCCEEDED]:,} of them succeeded" if fates[State.SUCCEEDED] else ""
    least = "" if outlook.is_left_known else "at least "
    yield f"{figures.accepted:,} of {least}{counted(figures.counts.total, 'job')} submitted{ended}."
    bad = (State.FAILED, State.REJECTED, State.CANCELLED)
    parts = [f"{fates[state]:,} {state}" for state in bad if fates[state]]
    yield f"{', '.join(parts)}, for {_reasons(figures)}." if parts else "None failed."
    yield from _left(figures, outlook)


def _left(figures: Figures, outlook: Outlook) -> Iterator[str]:
    runs = figures.timeline.runs
    reason = runs[-1].ended.reason if runs and runs[-1].ended else ""
    if reason:
        yield f"The last run stopped because {STOPS.get(reason, reason)}; the same command goes on."
    if not outlook.left:
        yield "Nothing is pending."
        return
    pace = "" if outlook.per_hour is None else f", at the last pace {_rate(outlook.per_hour)}"
    yield f"{counted(outlook.left, 'job')} pending{pace}."
    if outlook.seconds_to_submit is not None and outlook.seconds_to_finish is not None:
        start = "If nothing comes between" if outlook.is_under_way else "Started again at once"
        submitted, finished = _ahead(outlook, outlook.seconds_to_submit), _ahead(outlook, outlook.seconds_to_finish)
        yield f"{start}, all would be submitted {submitted}, finished {finished}."


def _ahead(outlook: Outlook, seconds: float) -> str:
    """A time ahead, and when that is."""
    return f"in {duration(seconds)} ({date_and_time(outlook.now + seconds)[5:-3]} UTC)"


def _rate(per_hour: float) -> str:
    if per_hour >= 7200:
        return f"{per_hour / 3600:,.0f} a second" if per_hour >= 36_000 else f"{per_hour / 60:,.0f} a minute"
    return f"{per_hour:,.0f} an hour" if per_hour >= 10 else f"{per_hour:.1f} an hour"


def _reasons(figures: Figures) -> str:
    most, *others = figures.reasons.most_frequent_first()
    code = most.code or "no code"
    if not others:
        return f"one reason, {code}"
    above_all = f", most of all {code}" if most.count > others[0].count else ""
    return f"{len(figures.reasons):,} different reasons{above_all}"
