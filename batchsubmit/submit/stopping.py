"""Why and how a run stops before its end: a signal, a deadline, canaries, failures, denials, or what stops every job.

`Stop` is where that is decided: each part asks it before it begins something, and it wakes the parts that wait.
"""

import asyncio
import math
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from batchsubmit.clock import Clock
from batchsubmit.core.job_states import JobState, end_words, has_failed, is_good_end
from batchsubmit.core.jobs import Denied, Forbidden, RefusalCause, Result
from batchsubmit.core.source import Delivery
from batchsubmit.errors import LedgerError, StoppedError, UsageError
from batchsubmit.text import counted


class StopReason(StrEnum):
    """What stopped a run."""

    SIGNAL = "signal"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    FAILURES = "failures"
    CANARY = "canary"
    HELD = "held"
    DENIED = "denied"
    CREDENTIALS = "credentials"
    UNREACHABLE = "unreachable"
    LEDGER = "ledger"
    LEDGER_LOST = "ledger_lost"
    MANIFEST = "manifest"
    QUEUE = "queue"

    @classmethod
    def of(cls, outcome: Result) -> "StopReason":
        """Why a run stops that may not, or cannot, call the service."""
        if isinstance(outcome, Denied):
            return cls.DENIED
        is_caller = isinstance(outcome, Forbidden) and outcome.cause is RefusalCause.CALLER
        return cls.CREDENTIALS if is_caller else cls.UNREACHABLE


class Stop:
    """Asked for at most once: the first reason stands. From then on no call begins; those under way are awaited."""

    def __init__(self) -> None:
        self.reason: StopReason | None = None
        self.message = ""
        self._asked = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []

    @property
    def requested(self) -> bool:
        """Whether the run is to end."""
        return self._asked.is_set()

    def request(self, reason: StopReason, message: str) -> None:
        """End the run for this reason, unless it is ending already."""
        if self._asked.is_set():
            return
        self.reason, self.message = reason, message
        self._asked.set()
        for listener in self._listeners:
            listener()

    def on_request(self, listener: Callable[[], None]) -> None:
        """Call `listener` when the run is asked to end."""
        self._listeners.append(listener)

    async def pause(self, seconds: float | None) -> None:
        """Sleep, but no longer than until the run is asked to end; for None until then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._asked.wait()

    @contextmanager
    def on_error(self, reason: StopReason) -> Iterator[None]:
        """End the run, for this reason, where what is inside raises StoppedError; a lost ledger is one of its own."""
        try:
            yield
        except StoppedError as exc:
            self.request(StopReason.LEDGER_LOST if isinstance(exc, LedgerError) else reason, str(exc))

    @contextmanager
    def acting_after(self, seconds: float, act: Callable[[], Awaitable[None]]) -> Iterator[None]:
        """Act so many seconds after the run is asked to stop, or was, unless the block has ended by then."""

        async def wait() -> None:
            await self._asked.wait()
            await asyncio.sleep(seconds)
            await act()

        waiting = asyncio.create_task(wait(), name="after the stop")
        try:
            yield
        finally:
            waiting.cancel()

    @asynccontextmanager
    async def cutting_off(self) -> AsyncIterator[None]:
        """Cut off what is inside when the run is asked to stop, or was before. Raises StoppedError.

        For what may hang before anything was sent, like a program that is to give the credentials, and for reads.
        """
        limit = asyncio.timeout(None)

        async def cut() -> None:
            limit.reschedule(0)

        try:
            async with limit:
                with self.acting_after(0, cut):
                    yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise StoppedError(f"{self.message.partition(';')[0]}; nothing was sent") from None


_ONE_SIGNAL_SECONDS = 0.2
"""Signals within this time are one: timeout, systemd and uv send theirs to the program and to its group."""


class InProgress:
    """What an engine has under way, and `changed`, the event that wakes its loop.

    `undecided` says why jobs stay unknown, by key; `blocked` counts the jobs whose lookup each lane waits for.
    """

    def __init__(self, stop: Stop) -> None:
        self.jobs = 0
        self.lookups = 0
        self.undecided: dict[str, str] = {}
        self.blocked: Counter[str] = Counter()
        self.changed = asyncio.Event()
        stop.on_request(self.changed.set)

    @property
    def looked_up(self) -> int:
        """Unknown jobs that are being looked up."""
        return self.blocked.total() + self.lookups

    @property
    def is_anything(self) -> bool:
        """Whether something goes on that may bring new work."""
        return bool(self.jobs or self.looked_up)

    @contextmanager
    def job_in_progress(self) -> Iterator[None]:
        """Count a job as no longer in progress at the end, whatever the outcome."""
        try:
            yield
        finally:
            self.jobs -= 1
            self.changed.set()

    @contextmanager
    def looking_up(self) -> Iterator[None]:
        """Count a lookup, or another wait for a job, while it lasts."""
        self.lookups += 1
        try:
            yield
        finally:
            self.lookups -= 1
            self.changed.set()


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """On the first SIGINT, SIGTERM or SIGHUP ask to stop; on the second cancel this task, whatever stopped the run.

    A SIGHUP that was ignored at the start (nohup) still is.
    """
    loop, task, first = asyncio.get_running_loop(), asyncio.current_task(), math.inf
    handled = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handled.append(signal.SIGHUP)

    def received(name: str) -> None:
        nonlocal first
        if first == math.inf:
            first = loop.time()
            said = "Ctrl-C (SIGINT)" if name == "SIGINT" else name
            stop.request(StopReason.SIGNAL, f"stopped by {said}; calls in progress were awaited and recorded")
        elif loop.time() - first > _ONE_SIGNAL_SECONDS and task is not None:
            task.cancel()

    def received_late(_number: int, _frame: object) -> None:
        if loop.time() - first > _ONE_SIGNAL_SECONDS:
            raise KeyboardInterrupt

    for number in handled:
        loop.add_signal_handler(number, received, number.name)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
            if first < math.inf:
                signal.signal(number, received_late)


@asynccontextmanager
async def reading() -> AsyncIterator[Stop]:
    """Let a signal cut off what only reads; what reads asks the stop that is given. Raises StoppedError."""
    stop = Stop()
    with stop_on_signals(stop):
        async with stop.cutting_off():
            yield stop


@contextmanager
def stop_at(deadline: datetime | None, stop: Stop, clock: Clock) -> Iterator[None]:
    """Ask to stop when the wall clock passes the deadline, if there is one.

    The clock is looked at once a minute at the least: a suspended machine or a set clock moves the deadline.
    """

    async def watch(deadline: datetime) -> None:
        while (left := (deadline - clock.now()).total_seconds()) > 0:
            await clock.sleep(min(left, 60.0))
        stop.request(StopReason.DEADLINE, f"the deadline of {deadline:%Y-%m-%d %H:%M:%S %Z} has passed")

    watching = asyncio.create_task(watch(deadline), name="deadline") if deadline else None
    try:
        yield
    finally:
        if watching:
            watching.cancel()


_LEAST_DECIDED = 20
"""Jobs that are decided before a share is judged: one early failure in three stops nothing."""


@dataclass(frozen=True, slots=True)
class FailureLimit:
    """How many jobs may fail before the run stops: a count, or a share of the jobs that were decided."""

    most: float
    is_percent: bool

    @classmethod
    def parse(cls, text: str) -> "FailureLimit":
        """Read `N` or `N%`. Raises UsageError."""
        match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)%", text.strip(), re.ASCII)
        if match is None or float(match[2] or 0) > 100:
            raise UsageError(f"--max-failures {text}: give a number of jobs (25) or a share of them (5%)")
        return cls(float(match[1] or match[2]), is_percent=match[1] is None)

    def is_exceeded(self, *, failed: int, decided: int) -> bool:
        """Whether more jobs failed than may."""
        if self.is_percent:
            return decided >= _LEAST_DECIDED and failed * 100 > self.most * decided
        return failed > self.most


_MANY_OF_ONE_KIND = 20
_FEW_OF_SEVERAL = 5
"""So many denials and nothing accepted: it is not about the row. Jobs of one membership and model may well be denied
alone, so of those more are tried: behind them others may stand."""


class Denials:
    """Denied jobs of a run that nothing was accepted of: nobody knows yet whether it is about them or the caller."""

    def __init__(self) -> None:
        self.kept: list[tuple[Delivery, Denied]] = []
        self.is_about_rows = False

    def take(self) -> list[tuple[Delivery, Denied]]:
        """Give all that are kept, and keep none."""
        kept, self.kept = self.kept, []
        return kept

    @property
    def stops_run(self) -> bool:
        """Whether enough were denied to stop a run that is still under way."""
        return len(self.kept) >= (_FEW_OF_SEVERAL if self._is_of_several else _MANY_OF_ONE_KIND)

    @property
    def is_everything(self) -> bool:
        """Whether, at a run's end, it is rather the caller than the rows."""
        return len(self.kept) >= _FEW_OF_SEVERAL or self._is_of_several

    @property
    def _is_of_several(self) -> bool:
        return len({(each.job.membership, each.job.trained_model) for each, _ in self.kept}) > 1


def canary_trouble(canaries: Sequence[JobState | None]) -> str:
    """Say why the rest of a run is not sent after its canaries; empty where all of them finished well."""
    bad = [state for state in canaries if state is not None and has_failed(state)]
    if bad:
        words = end_words(bad[0]) if bad[0].bad_end else f"{bad[0].code}: {bad[0].message}"
        count = counted(len(canaries), "canary", "canaries")
        return f"{len(bad)} of {count} did not finish well; {bad[0].name}: {words}"
    is_well = all(state is not None and is_good_end(state.status) for state in canaries)
    return "" if is_well else "the canaries are not known to have finished"
