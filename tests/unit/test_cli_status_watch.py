"""Where a run stands, as a person beside it sees it."""

import io
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from conftest import EPOCH, OTHER_MEMBERSHIP, job_named
from rich.console import Console
from strategies import MEMBERSHIP

from batchsubmit.cli.status import picture, watch
from batchsubmit.clock import timestamp
from batchsubmit.core.jobs import (
    Event,
    Intent,
    JobFinished,
    JobRejected,
    JobSubmitted,
    JobUnknown,
    RunEnded,
    RunStarted,
    Share,
)
from batchsubmit.core.ledger_state import Counts
from batchsubmit.observers.progress import LaneCounts, LiveRun, line_at


class Story:
    """Events of a run, one at a time."""

    def __init__(self, *, to_do: int = 10, work: tuple[Share, ...] = ()) -> None:
        self.live = LiveRun()
        self.tell(RunStarted, 0, **RUN, to_do=to_do, work=work)

    def tell(self, kind: type, second: float, name: str = "", membership: str = MEMBERSHIP, **members: object) -> None:
        """One event, so many seconds after the beginning."""
        at = timestamp(EPOCH + timedelta(seconds=second))
        stamp: dict[str, Any] = dict(job_named(name, membership=membership).stamp(at)) if name else {"at": at}
        self.live.apply(kind(**stamp, **members))

    def submit(self, second: float, name: str, membership: str = MEMBERSHIP) -> None:
        """A job is accepted."""
        self.tell(JobSubmitted, second, name, membership, arn=f"arn-{name}", attempt=1, via="start")

    def finish(self, second: float, name: str, status: str = "ACTIVE") -> None:
        """A job ends."""
        self.tell(
            JobFinished, second, name, arn=f"arn-{name}", status=status, message="why" if status != "ACTIVE" else ""
        )

    def lane(self, membership: str = MEMBERSHIP) -> LaneCounts:
        """One membership now."""
        return next(lane for lane in self.live.lanes() if lane.membership == membership)


RUN = {"run": "r", "batch": "", "manifest": "m", "manifest_sha256": "0", "version": "", "holder": "process 1 on x"}
WORK = (Share(MEMBERSHIP, "m", "", 3),)
ENDED = {"run": "r", "exit_status": 0, "reason": "", "counts": {}}


def said(story: Story, now: datetime) -> str:
    """The line of this moment, without its time."""
    return line_at(now, story.live.read(now).parts()).split(" ", 2)[2]


def after(seconds: float) -> datetime:
    """A moment of the run."""
    return EPOCH + timedelta(seconds=seconds)


def test_a_lane_counts_its_jobs_where_they_stand_now() -> None:
    """Each job once, whatever it went through."""
    story = Story()
    for name in "abcde":
        story.tell(Intent, 1, name, attempt=1, trained_model="m")
    assert (story.live.counts.pending, story.live.counts.unknown) == (10, 0)
    story.submit(2, "a")
    story.submit(2, "b")
    story.tell(JobUnknown, 3, "c", reason="lost", attempt=1)
    story.tell(JobRejected, 3, "d", code="X", message="y", attempt=1)
    story.submit(4, "e")
    story.finish(5, "a")
    story.finish(6, "b", "CREATE_FAILED")
    story.finish(6, "e", "INACTIVE")
    story.submit(6, "z", OTHER_MEMBERSHIP)
    own = {"submitted": 3, "succeeded": 1, "failed": 1, "cancelled": 1, "rejected": 1, "unknown": 1}
    assert story.lane().counts == Counts(total=5, **own)
    assert story.lane(OTHER_MEMBERSHIP).counts == Counts(total=1, submitted=1, running=1)
    assert story.live.counts == Counts(total=10, pending=4, running=1, **own | {"submitted": 4})


def test_a_job_that_is_sent_again_counts_once() -> None:
    """It is pending until it is sent, and neither rejected nor failed meanwhile; by every reader of the ledger."""
    story = Story(to_do=3)
    story.tell(JobRejected, 1, "a", code="X", message="y", attempt=1)
    for name in "bc":
        story.submit(1, name)
        story.finish(2, name, "CREATE_FAILED")
    story.tell(RunEnded, 3, **ENDED)
    again = {"rejected": 1, "failed": 1}
    work = (Share(MEMBERSHIP, "m", "i", 2),)
    story.tell(RunStarted, 4, **RUN, to_do=2, work=work, retry="2027", again=again)
    before = Counts(total=3, pending=2, submitted=1, failed=1)
    assert (story.live.counts, story.lane().left) == (before, 2)
    story.tell(Intent, 5, "b", attempt=2, trained_model="m", round=1)
    assert (story.live.counts, story.lane().left) == (before, 2)
    story.submit(6, "b")
    assert (story.live.counts, story.lane().left) == (Counts(total=3, pending=1, submitted=2, running=1, failed=1), 1)
    story.tell(RunEnded, 7, **ENDED | {"counts": {"pending": 1}})
    assert story.live.counts.pending == story.lane().left == 1
    story.tell(Intent, 8, "a", attempt=2, trained_model="m")
    story.tell(JobRejected, 9, "a", code="X", message="y", attempt=2)
    assert story.live.counts.rejected == 1


def test_the_pace_is_that_of_the_last_ten_minutes() -> None:
    """A fast beginning an hour ago says nothing of now."""
    story = Story(to_do=200)
    for number in range(100):
        story.submit(number / 10, f"job-{number}")
    for number in range(10):
        story.submit(3600 + number * 60, f"late-{number}")
    now = after(3600 + 540)
    assert story.live.counts.pending == 90
    assert story.live.per_second(now) == pytest.approx(10 / 600)
    assert story.live.per_second(after(3600 + 1800)) == 0


def test_a_new_run_counts_from_its_own_beginning() -> None:
    """What the last one did is done."""
    story = Story(to_do=3)
    story.submit(1, "a")
    story.tell(RunEnded, 2, **ENDED)
    assert story.live.is_over
    story.tell(RunStarted, 100, **RUN, to_do=2)
    assert not story.live.is_over
    assert (story.live.counts.pending, story.live.per_second(after(101))) == (2, 0)


def test_a_ledger_of_an_older_version_has_no_number_to_do() -> None:
    """Then nothing is below nought."""
    story = Story(to_do=0)
    story.submit(1, "a")
    assert story.live.counts.pending == 0


def test_no_more_jobs_run_than_the_quotas_allow() -> None:
    """Of the others nobody has looked for the end."""
    story = Story(to_do=9)
    for number in range(9):
        story.submit(1, f"job-{number}")
    lane = story.lane()
    assert (lane.counts.running, lane.limit, story.live.counts.not_checked) == (5, None, 4)
    story.tell(RunEnded, 2, **ENDED, quotas={"account": 12, MEMBERSHIP: 5})
    assert (story.lane().counts.running, story.lane().limit) == (5, 5)
    assert (story.live.counts.running, story.live.counts.not_checked, story.live.counts.done) == (5, 4, 4)


def test_the_last_failures_are_kept_with_their_reasons() -> None:
    """Those on the way and those on the service; only the last few."""
    story = Story()
    for number in range(9):
        story.tell(JobRejected, number, f"job-{number}", code="ValidationException", message="no", attempt=1)
    story.submit(10, "a")
    story.finish(11, "a", "CREATE_FAILED")
    assert story.live.failure_count == 10
    assert len(story.live.failures) == 5
    assert [line.split(": ", 2)[2] for line in story.live.failures][-2:] == [
        "ValidationException: no",
        "CREATE_FAILED: why",
    ]


def test_the_sentence_says_what_there_is() -> None:
    """And nothing of what there is not."""
    story = Story(to_do=4)
    assert said(story, after(10)) == "0 %, 0 of 4 done, 0 submitted"
    story.submit(10, "a")
    story.submit(10, "b")
    assert said(story, after(20)) == "0 %, 0 of 4 done, 2 submitted, 2 running, 6/min"


def test_the_sentence_says_when_all_will_be_done_once_a_job_has_ended() -> None:
    """By the one estimate, that of `submit`'s display too."""
    story = Story(to_do=3, work=WORK)
    for name in "ab":
        story.tell(Intent, 1, name, attempt=1, trained_model="m")
        story.submit(2, name)
    story.finish(62, "a")
    finish = story.live.finish(after(63))
    assert finish is not None
    assert said(story, after(63)).endswith(f"ETA {finish.words(after(63))}")


def test_the_picture_obeys_no_name_and_no_message() -> None:
    """Control characters and markup of the outside are shown, not done."""
    story = Story()
    story.tell(JobRejected, 1, "[bold]evil", code="X", message="\x1b[2J\nfake: all is well [red]", attempt=1)
    text = shown(story, 200, 40)
    assert "[bold]evil" in text
    assert "[red]" in text
    assert "\\x1b[2J\\nfake" in text
    assert "\x1b[2J" not in text


def shown(story: Story, width: int, height: int) -> str:
    """The screen of that size."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(picture(story.live, after(65), (width, height)))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (40, 12)])
def test_the_picture_fits_any_terminal(width: int, height: int) -> None:
    """Totals and failures are always there; of the memberships, those with most work left, as many as there is room."""
    story = Story(to_do=300)
    for number in range(60):
        story.submit(1, "a", f"{number:08}{MEMBERSHIP[8:]}")
    story.submit(1, "b", f"{59:08}{MEMBERSHIP[8:]}")
    story.tell(JobRejected, 3, "d", code="ValidationException", message="no " * 90, attempt=1)
    lines = shown(story, width, height).splitlines()
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "10 running" in text
    assert "rejected: 00:00:03 d in membership" in text
    busiest = next(place for place, line in enumerate(lines) if line.startswith("member") and "left" in line) + 1
    assert lines[busiest].startswith("00000059" if width >= 80 else "0")
    assert "more memberships" in lines[-1]


def test_a_screen_of_80_columns_as_it_is() -> None:
    """Kept as text, for a person's eye."""
    story = Story(to_do=3, work=WORK)
    story.tell(Intent, 1, "a", attempt=1, trained_model="m")
    story.submit(2, "a")
    story.finish(62, "a", "CREATE_FAILED")
    story.submit(62, "b")
    text = [line.rstrip() for line in shown(story, 80, 24).splitlines()]
    assert text[0] == "run r, 1 min 5 s"
    assert text[1] == "33 %, 1 of 3 done, 2 submitted, 1 running, 1.8/min"
    assert any(line.endswith("1 failed") for line in text)
    assert any(line.startswith("failed: 00:01:02 a in membership") for line in text)
    assert text[-2].split() == ["membership", "left", "slots", "submitted", "failed"]
    assert text[-1].split() == [MEMBERSHIP, "1", "1/?", "2", "1"]


class Planned:
    """A feed that brings what is planned, look by look."""

    def __init__(self, *looks: list[Event] | None) -> None:
        self.looks = list(looks)
        self.beginnings = 1

    def poll(self) -> Iterator[Event]:
        """The next look; None is a ledger that begins again."""
        events = self.looks.pop(0)
        if events is None:
            self.beginnings += 1
            events = self.looks.pop(0)
        yield from events or ()


def started(holder: str = "process 1 on x") -> RunStarted:
    """A run begins."""
    return RunStarted(at=timestamp(EPOCH), **RUN | {"holder": holder}, to_do=2)


def dead_holder() -> str:
    """A process of this machine that is gone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return f"process {process.pid} on {socket.gethostname()}"


def submitted(name: str) -> JobSubmitted:
    """A job is accepted."""
    return JobSubmitted(**job_named(name).stamp(timestamp(EPOCH)), arn="a", attempt=1, via="start")


def ended() -> RunEnded:
    """The run ends."""
    return RunEnded(at=timestamp(EPOCH), **ENDED)


def watched(feed: Planned) -> tuple[LiveRun, str]:
    """Watch without a terminal; gives the last state and all that was said."""
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    live = watch(feed, console, seconds=0.001)
    return live, console.file.getvalue()  # type: ignore[attr-defined]


def test_watching_ends_with_the_run() -> None:
    """Line by line, without waiting for more."""
    live, said = watched(Planned([started()], [submitted("a")], [submitted("b"), ended()]))
    assert live.is_over
    assert len(live.ledger_state) == 2
    assert [line.split(", ")[2] for line in said.splitlines()] == ["0 submitted", "1 submitted"]


def test_watching_ends_at_once_where_no_run_is_under_way() -> None:
    """Nothing would ever happen."""
    assert watched(Planned([started(), ended()]))[1] == ""
    assert watched(Planned([]))[1] == ""


def test_watching_ends_when_the_run_dies_but_not_before_its_last_words() -> None:
    """A run that wrote its end and left is no dead one."""
    run = started(dead_holder())
    assert not watched(Planned([run], []))[0].is_over
    assert watched(Planned([run], [ended()]))[0].is_over


def test_a_ledger_that_begins_again_is_watched_from_its_beginning() -> None:
    """What was read before counts no more."""
    live, _ = watched(Planned([started(), submitted("a")], None, [started(), submitted("b")], [ended()]))
    assert [state.name for state in live.ledger_state] == ["b"]


def test_each_failure_is_said_once() -> None:
    """In its own line."""
    failed = JobRejected(**job_named("bad").stamp(timestamp(EPOCH)), code="X", message="no", attempt=1)
    _, said = watched(Planned([started(), failed], [submitted("a")], [ended()]))
    assert said.count("rejected: 00:00:00 bad in membership") == 1
