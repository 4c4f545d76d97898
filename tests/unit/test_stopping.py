"""Why a run stops, and how those who wait hear of it."""

import asyncio
import os
import signal
import time as systime
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from conftest import EPOCH, FakeClock

from batchsubmit.clock import parse_deadline
from batchsubmit.errors import UsageError
from batchsubmit.outputs.templates import zone_named
from batchsubmit.submit.stopping import FailureLimit, Stop, StopReason, stop_at, stop_on_signals


async def test_the_first_reason_stands() -> None:
    """What comes later is its consequence."""
    stop = Stop()
    assert not stop.requested
    stop.request(StopReason.CREDENTIALS, "expired")
    stop.request(StopReason.SIGNAL, "SIGINT")
    assert stop.requested
    assert (stop.reason, stop.message) == (StopReason.CREDENTIALS, "expired")


async def test_listeners_are_told_once() -> None:
    """However often the run is asked to stop."""
    stop, told = Stop(), []
    stop.on_request(lambda: told.append(1))
    stop.request(StopReason.SIGNAL, "")
    stop.request(StopReason.SIGNAL, "")
    assert told == [1]


async def test_a_pause_ends_when_the_run_is_asked_to_stop() -> None:
    """Nobody sits out a back-off at the end of a run."""
    stop = Stop()
    pause = asyncio.create_task(stop.pause(3600))
    await asyncio.sleep(0)
    assert not pause.done()
    stop.request(StopReason.DEADLINE, "")
    await asyncio.wait_for(pause, 1)
    await asyncio.wait_for(stop.pause(3600), 1)


async def test_a_pause_is_over_after_its_time() -> None:
    """Without any stop."""
    stop = Stop()
    await stop.pause(0.001)
    assert not stop.requested


@pytest.fixture
def _signals_as_they_were() -> Iterator[None]:
    """Take back the handlers that a stopped run leaves for its last words."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals_as_they_were")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_first_signal_drains_and_a_second_ends_at_once(number: signal.Signals) -> None:
    """For both of the signals that people and schedulers send."""
    stop, asked, task = Stop(), asyncio.Event(), asyncio.current_task()
    assert task is not None
    stop.on_request(asked.set)
    with stop_on_signals(stop):
        os.kill(os.getpid(), number)
        await asyncio.wait_for(asked.wait(), 5)
        assert stop.reason is StopReason.SIGNAL
        assert number.name in stop.message
        os.kill(os.getpid(), number)  # one that follows within 200 ms is the same
        await asyncio.sleep(0.05)
        with pytest.raises(asyncio.CancelledError):
            await _signal_until_ended(number)
        task.uncancel()


async def _signal_until_ended(number: signal.Signals) -> None:
    while True:
        os.kill(os.getpid(), number)
        await asyncio.sleep(0.05)


async def test_signals_are_python_s_own_again_afterwards() -> None:
    """Ctrl-C during the last words still works."""
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signals(Stop()):
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) in {before, signal.default_int_handler}


async def test_a_deadline_stops_the_run_when_the_wall_clock_reaches_it(clock: FakeClock) -> None:
    """It looks again at least once a minute, because a wall clock may be set."""
    stop, asked = Stop(), asyncio.Event()
    stop.on_request(asked.set)
    with stop_at(EPOCH + timedelta(seconds=150), stop, clock):
        await asyncio.wait_for(asked.wait(), 5)
    assert stop.reason is StopReason.DEADLINE
    assert clock.slept == [60, 60, 30]


async def test_a_run_that_ends_before_its_deadline_is_not_stopped(clock: FakeClock) -> None:
    """And no task is left behind."""
    stop = Stop()
    with stop_at(EPOCH + timedelta(days=1), stop, clock):
        pass
    with stop_at(None, stop, clock):
        pass
    await asyncio.sleep(0)
    assert not stop.requested
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize(
    ("text", "failed", "decided", "exceeded"),
    [
        ("0", 0, 100, False),
        ("0", 1, 1, True),
        ("25", 25, 25, False),
        ("25", 26, 1000, True),
        ("5%", 5, 100, False),
        ("5%", 6, 100, True),
        ("5%", 3, 3, False),  # too early to judge a share
        ("0.5%", 1, 200, False),
        ("0.5%", 2, 200, True),
        ("100%", 100, 100, False),
    ],
)
def test_a_failure_limit_counts_jobs_or_their_share(text: str, failed: int, decided: int, exceeded: bool) -> None:
    """More than the limit stops the run; as many as it do not."""
    assert FailureLimit.parse(text).is_exceeded(failed=failed, decided=decided) is exceeded


@pytest.mark.parametrize("text", ["", "five", "-1", "1.5", "101%", "5%%", "1e3", "\u0665"])
def test_a_limit_that_means_nothing_is_a_usage_error(text: str) -> None:
    """The sentence shows what would be right."""
    with pytest.raises(UsageError, match="5%"):
        FailureLimit.parse(text)


BERLIN = timezone(timedelta(hours=1))
NOON = datetime(2026, 11, 23, 12, 0, 30, tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("13:00", datetime(2026, 11, 23, 13, 0, tzinfo=BERLIN)),
        ("06:00", datetime(2026, 11, 24, 6, 0, tzinfo=BERLIN)),
        ("12:00:30", datetime(2026, 11, 24, 12, 0, 30, tzinfo=BERLIN)),
        ("2026-11-24T06:00:00Z", datetime(2026, 11, 24, 6, 0, tzinfo=UTC)),
        ("2026-11-24T06:00:00", datetime(2026, 11, 24, 6, 0, tzinfo=BERLIN)),
        ("2020-01-01T00:00:00Z", datetime(2020, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_deadline_is_a_time_of_day_or_a_moment(text: str, moment: datetime) -> None:
    """A time that has passed today means tomorrow; what has no zone is local."""
    assert parse_deadline(text, NOON) == moment


@pytest.mark.parametrize("text", ["soon", "25:00", "6", "2026-13-01T00:00:00Z", "12:00Z+1"])
def test_a_deadline_that_means_nothing_is_a_usage_error(text: str) -> None:
    """The sentence shows what would be right."""
    with pytest.raises(UsageError, match="06:00"):
        parse_deadline(text, NOON)


def test_a_deadline_keeps_to_the_clock_on_the_wall_when_clocks_change() -> None:
    """In the night to 25 October 2026 Berlin has an hour more, in that to 29 March 2026 one less."""
    berlin = zone_named("Europe/Berlin")
    autumn = parse_deadline("06:00", datetime(2026, 10, 24, 22, 0, tzinfo=berlin))
    assert autumn.astimezone(UTC) == datetime(2026, 10, 25, 5, 0, tzinfo=UTC)
    spring = parse_deadline("06:00", datetime(2026, 3, 28, 22, 0, tzinfo=berlin))
    assert spring.astimezone(UTC) == datetime(2026, 3, 29, 4, 0, tzinfo=UTC)


def test_a_deadline_within_the_repeated_hour_is_not_taken_for_past() -> None:
    """02:50 comes a second time; at either of them the deadline of 02:55 is five minutes away."""
    berlin = zone_named("Europe/Berlin")
    for now in (datetime(2026, 10, 25, 2, 50, fold=fold, tzinfo=berlin) for fold in (0, 1)):
        assert parse_deadline("02:55", now).timestamp() - now.timestamp() == 300


def test_a_time_of_day_may_bring_its_own_zone() -> None:
    """Whatever zone the run has."""
    assert parse_deadline("06:00Z", NOON) == datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
    assert parse_deadline("11:30Z", NOON) == datetime(2026, 11, 23, 11, 30, tzinfo=UTC)


def test_naive_moments_are_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the local zone's own changes of the clock."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    systime.tzset()
    try:
        deadline = parse_deadline("06:00", datetime(2026, 10, 24, 22, 0))  # noqa: DTZ001 (local time is meant)
        moment = parse_deadline("2026-10-25T06:00:00", datetime(2026, 10, 24, 22, 0))  # noqa: DTZ001 (the same)
    finally:
        monkeypatch.delenv("TZ")
        systime.tzset()
    assert deadline.astimezone(UTC) == moment.astimezone(UTC) == datetime(2026, 10, 25, 5, 0, tzinfo=UTC)
