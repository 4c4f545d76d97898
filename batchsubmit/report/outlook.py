"""What is left of a batch, and when it would be submitted and done at this pace. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from batchsubmit.report.chronicle import Chronicle

_RECENT_SHARE = 1 / 3
_LEAST_ACCEPTED = 10
_SILENT_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """`left` is jobs to be submitted; `is_left_known` is False where the ledger knows only those that it has met.

    `per_hour` is the recent pace of acceptances, None where nothing was accepted or one moment saw it all.
    `counted_from` is the moment from which the seconds count: of a run under way its last event, else now, as if
    it were started again at once. `seconds_to_finish` is None also where no job was seen to end.
    """

    left: int
    is_left_known: bool
    is_under_way: bool
    per_hour: float | None
    seconds_to_submit: float | None
    seconds_to_finish: float | None
    counted_from: float


def outlook(
    chronicle: Chronicle,
    *,
    decided: int,
    waiting: int,
    acceptances: Sequence[float],
    slow_job_seconds: float | None,
    now: float,
) -> Outlook:
    """Look ahead.

    `decided` jobs are accepted, failed or unknown; `waiting` are known and neither; `acceptances` is sorted. The last
    ones to be submitted are taken to be slow: all is finished `slow_job_seconds` later, where that is known.
    """
    left, is_known = _left(chronicle, decided, waiting)
    last = chronicle.runs[-1] if chronicle.runs else None
    per_hour = _pace(acceptances, last.began_at, last.last_at) if last else None
    is_under_way = last is not None and last.ended is None and now - last.last_at < _SILENT_SECONDS
    to_submit = left / per_hour * 3600 if per_hour and left else None
    return Outlook(
        left=left,
        is_left_known=is_known,
        is_under_way=is_under_way,
        per_hour=per_hour,
        seconds_to_submit=to_submit,
        seconds_to_finish=None if to_submit is None or slow_job_seconds is None else to_submit + slow_job_seconds,
        counted_from=last.last_at if last and is_under_way else now,
    )


def _left(chronicle: Chronicle, decided: int, waiting: int) -> tuple[int, bool]:
    """The last run says it at its end; while it runs, and after a crash, the manifest's rows do."""
    if not chronicle.runs:
        return waiting, False
    last = chronicle.runs[-1]
    if last.ended is not None and "left" in last.ended.counts:
        return last.ended.counts["left"], True
    if last.started.rows:
        return max(last.started.rows - decided, waiting), True
    return waiting, False


def _pace(acceptances: Sequence[float], begin: float, end: float) -> float | None:
    """Acceptances an hour in the last third of a run; in all of it where those are too few to judge by."""
    recent = end - (end - begin) * _RECENT_SHARE
    since = recent if len(acceptances) - bisect_left(acceptances, recent) >= _LEAST_ACCEPTED else begin
    count = len(acceptances) - bisect_left(acceptances, since)
    return count / (end - since) * 3600 if count and end > since else None
