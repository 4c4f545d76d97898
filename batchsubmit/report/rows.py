"""One row a job, as every export has it: columns, and a history's values in their order. Pure.

Times are Unix seconds here; each format writes them in its own way.
"""

from collections.abc import Iterator
from enum import StrEnum

from batchsubmit.core.states import Phase
from batchsubmit.report.history import History
from batchsubmit.report.timeline import Chronicle
from batchsubmit.report.waits import Cause

Value = str | int | float | None | tuple[str, ...]
ROWS_AT_ONCE = 10_000


class Kind(StrEnum):
    """What a column holds. Absent texts are empty, absent times and seconds None."""

    TEXT = "text"
    COUNT = "count"
    TIME = "time"
    SECONDS = "seconds"
    TEXTS = "texts"


COLUMNS: dict[str, Kind] = {
    "job": Kind.TEXT,
    "batch": Kind.TEXT,
    "membership": Kind.TEXT,
    "name": Kind.TEXT,
    "trained_model": Kind.TEXT,
    "arn": Kind.TEXT,
    "state": Kind.TEXT,
    "status": Kind.TEXT,
    "attempts": Kind.COUNT,
    "via": Kind.TEXT,
    "first_intent_at": Kind.TIME,
    "accepted_at": Kind.TIME,
    "finished_at": Kind.TIME,
    "seconds_running": Kind.SECONDS,
    **{f"seconds_waited_{cause}": Kind.SECONDS for cause in Cause},
    "code": Kind.TEXT,
    "message": Kind.TEXT,
    "logs": Kind.TEXT,
    "duplicates": Kind.TEXTS,
}

_CODE_COUNTS = frozenset({Phase.FAILED, Phase.REFUSED, Phase.FINISHED})
_MESSAGE_COUNTS = frozenset({Phase.FAILED, Phase.FINISHED, Phase.UNKNOWN})


def export_rows(chronicle: Chronicle) -> Iterator[tuple[Value, ...]]:
    """Give each job's values, in the order of `COLUMNS`."""
    for history in chronicle.histories():
        yield _row(history, chronicle.batch_of(history))


def reason_of(history: History) -> tuple[str, str]:
    """The code and message that still count: those of a refusal are over once the job is accepted."""
    state = history.state
    code = state.code if state.phase in _CODE_COUNTS else ""
    return code, state.message if state.phase in _MESSAGE_COUNTS else ""


def _row(history: History, batch: str) -> tuple[Value, ...]:
    state = history.state
    seconds = history.seconds
    return (
        state.job,
        batch,
        state.membership,
        state.name,
        state.trained_model,
        state.arn,
        str(state.phase),
        state.status,
        state.attempt,
        history.via,
        history.first_intent_at,
        history.accepted_at,
        history.finished_at,
        None if seconds is None else round(seconds, 3),
        *(round(history.waited[cause], 3) for cause in Cause),
        *reason_of(history),
        state.logs,
        state.duplicates,
    )
