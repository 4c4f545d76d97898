"""What is left of a batch, at which pace it went, and when it will be done by the one estimate of `forecast`. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from batchsubmit.report.timeline import Chronicle

_RECENT_SHARE = 1 / 3
_LEAST_ACCEPTED = 10
_SILENT_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """`left` is jobs to be submitted; `is_left_known` is False where the ledger knows only those that it has met.

    `per_hour` is the recent pace of acceptances, None where nothing was accepted or one moment saw it all.
    The seconds count from `now`, as if a run that ended were started again at once; None where no end was seen yet.
    """

    left: int
    is_left_known: bool
    is_under_way: bool
    per_hour: float | None
    seconds_to_submit: float | None
    seconds_to_finish: float | None
    now: float


def outlook(
    chronicle: Chronicle,
    *,
    decided: int,
    waiting: int,
    acceptances: Sequence[float],
    now: float,
) -> Outlook:
    """Look ahead.

    `decided` jobs are accepted, failed or unknown; `waiting` are known and neither; `acceptances` is sorted.
    """
    left, is_known = _left(chronicle, decided, waiting)
    last = chronicle.runs[-1] if chronicle.runs else None
    per_hour = _pace(acceptances, last.began_at, last.last_at) if last else None
    is_under_way = last is not None and last.ended is None and now - last.last_at < _SILENT_SECONDS
    finish = chronicle.progress.finish(datetime.fromtimestamp(now, UTC), left=left)
    return Outlook(
        left=left,
        is_left_known=is_known,
        is_under_way=is_under_way,
        per_hour=per_hour,
        seconds_to_submit=finish.sent_seconds if finish and left else None,
        seconds_to_finish=finish.seconds if finish and finish.seconds else None,
        now=now,
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
