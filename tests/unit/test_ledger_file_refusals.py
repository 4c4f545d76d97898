"""What a sound ledger refuses: others' ARNs, impossible orders, times that are none, and locks that are refused."""

import errno
import fcntl
from pathlib import Path

import pytest

from batchsubmit.core.job_states import Action, Retry, decide
from batchsubmit.core.jobs import Absent, Intent, JobRejected, JobSubmitted, Refused
from batchsubmit.core.ledger_state import LedgerState
from batchsubmit.errors import LedgerError
from batchsubmit.ledger.base import ClaimedArnError
from batchsubmit.ledger.file import LedgerFile, open_ledger
from batchsubmit.ledger.lines import encode_line

AT = "2026-11-23T00:00:00.000000Z"
JOB = {"at": AT, "job": "a", "membership": "m", "name": "n"}
INTENT = Intent(**JOB, attempt=1, trained_model="model")
SUBMITTED = JobSubmitted(**JOB, arn="arn/a", attempt=1, via="start")


@pytest.mark.parametrize(
    "later",
    [
        Absent(**JOB, attempt=1),
        Refused(**JOB, code="c", attempt=1),
        JobRejected(**JOB, code="c", message="", attempt=1),
        Intent(**JOB, attempt=2, trained_model="model"),
    ],
)
def test_nothing_makes_a_submitted_job_free_to_send(later: Absent | Refused | JobRejected | Intent) -> None:
    """Though the line is whole and in its place."""
    assert decide(LedgerState.of([INTENT, SUBMITTED, later]).get("a"), retry=Retry()) is Action.NOTHING


def test_an_earlier_attempt_s_absence_decides_nothing_of_a_later_one() -> None:
    """The later call may have been accepted."""
    second = Intent(**JOB, attempt=2, trained_model="model")
    state = LedgerState.of([INTENT, second, Absent(**JOB, attempt=1)]).get("a")
    assert decide(state) is Action.LOOK_UP


async def test_a_file_refuses_another_job_s_arn(tmp_path: Path) -> None:
    """As a table does; also where an earlier run wrote it."""
    path = tmp_path / "ledger.jsonl"
    async with open_ledger(path) as ledger:
        await ledger.put(INTENT)
        await ledger.put(SUBMITTED)
    other = JobSubmitted(**{**JOB, "job": "b"}, arn="arn/a", attempt=1, via="start")
    async with open_ledger(path) as ledger:
        with pytest.raises(ClaimedArnError, match="already that of job a"):
            await ledger.put(other)


@pytest.mark.parametrize("at", ["never", "2026-02-30T00:00:00.000000Z", "2026-11-23T00:00:00"])
def test_a_time_that_is_none_is_damage(tmp_path: Path, at: str) -> None:
    """A sentence with the line, before anything is sent."""
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(encode_line(Intent(**{**JOB, "at": at}, attempt=1, trained_model="model")))
    with pytest.raises(LedgerError, match=r"line 1: .* is no time"):
        LedgerFile(path).open()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_lock_that_the_file_system_refuses_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """And not a traceback."""

    def refuse(*_: int) -> None:
        raise OSError(code, "No locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(LedgerError, match="cannot be locked: No locks"):
        LedgerFile(tmp_path / "ledger.jsonl").open()
