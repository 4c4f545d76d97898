"""Whether what jobs read is ready: their trained models ACTIVE, their ML input channels there for long enough.

`check_inputs` looks once, for `plan --online`. `Inputs` lets jobs wait for what is still being created
(`submit.wait_for_inputs`): it looks when the first job of an input is taken, and keeps its jobs aside meanwhile, while
their lanes go on with others; a message goes back to its queue instead. What the service does not show (another
member's model, a read that is not allowed) is left to the Start call.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from batchsubmit.cleanrooms.api import CREATING_STATUSES, Input, Resource, inputs_of
from batchsubmit.cleanrooms.reads import ReadError, Reads
from batchsubmit.clock import Clock
from batchsubmit.config import Settings
from batchsubmit.core.jobs import Forbidden, InvalidRequest, Job, NotSent, Result, Uncertain
from batchsubmit.core.source import Delivery, Ending
from batchsubmit.errors import StoppedError
from batchsubmit.log import get_logger
from batchsubmit.submit.stopping import InProgress, Stop
from batchsubmit.text import counted, utc_words

MOST_CHECKED = 1_000
"""Models and channels that `check_inputs` reads; a manifest with a channel a row has too many for a look."""

_CHECKED_AT_ONCE = 8
"""They share a few connections, and a read is given up that waits too long for one."""

_UNUSABLE = frozenset(
    {"CREATE_FAILED", "INACTIVE", "DELETE_PENDING", "DELETE_IN_PROGRESS", "CANCEL_PENDING", "CANCEL_IN_PROGRESS"}
)
"""That a job on one of these can never run is an assumption; of all others, the service's answer decides."""

_MOST_PAUSE_SECONDS = 60.0
_BELIEVED_SECONDS = 600.0
"""For so long an input that was ready is not looked at again; a worker lives longer than that."""

_MOST_KNOWN = 10_000
_MOST_FIRST_LOOKS = 8
_MOST_POLLED = 200
_MOST_ASIDE = 200_000
"""Bounds on what is kept. Where one is reached, no job is taken until an input is there."""


@dataclass(frozen=True, slots=True)
class _Known:
    """Where an input was seen to stand (empty: the service does not tell), and until when that is believed."""

    status: str = ""
    message: str = ""
    until: float = -math.inf


_Waiting = dict[Input, list[Callable[[], None]]]
"""The inputs that are looked at, and for each the jobs that wait for that: what puts them back into their lanes."""


class Inputs:
    """What one run knows of the inputs of its jobs, and the jobs that wait for them."""

    def __init__(self, reads: Reads, settings: Settings, *, clock: Clock, stop: Stop) -> None:
        self._reads = reads
        self._are_waited_for = settings.submit.wait_for_inputs
        self._least_pause = settings.slots.min_poll_seconds
        self._most_pause = min(settings.slots.max_poll_seconds, _MOST_PAUSE_SECONDS)
        self._clock = clock
        self._stop = stop
        self._known: dict[Input, _Known] = {}
        self._first_looks: _Waiting = {}
        self._aside: _Waiting = {}
        self.unfinished: dict[str, str] = {}
        """The status of the inputs that jobs still waited for when the run was stopped."""

    @property
    def has_room(self) -> bool:
        """Whether one more job may turn out to wait."""
        return (
            len(self._first_looks) < _MOST_FIRST_LOOKS
            and len(self._aside) < _MOST_POLLED
            and sum(map(len, self._aside.values())) < _MOST_ASIDE
        )

    def refusal(self, job: Job) -> InvalidRequest | None:
        """Say why a job can never run, where that is known of an input of its."""
        for each in inputs_of(job.request):
            known = self._known.get(each)
            if known and known.status in _UNUSABLE:
                words = f"{each} is {known.status}: {known.message}"
                return InvalidRequest("InputUnusable", words.rstrip(": "))
        return None

    def keep(self, delivery: Delivery, tasks: asyncio.TaskGroup, doing: InProgress) -> bool:
        """Keep a job that has to wait, and see to it that it is taken again in time; False where it need not wait."""
        for wanted in inputs_of(delivery.job.request) if self._are_waited_for else ():
            known = self._known.get(wanted, _Known())
            if known.until <= self._clock.monotonic() and wanted not in self._aside:
                waiting, look = self._first_looks, self._look
                release: Callable[[], None] = partial(delivery.ended, Ending.RELEASED)
            elif known.status not in CREATING_STATUSES:
                continue
            elif put_back := delivery.put_aside():
                waiting, look, release = self._aside, self._poll, put_back
            else:
                return True
            waiting.setdefault(wanted, []).append(release)
            if len(waiting[wanted]) == 1:
                tasks.create_task(self._release_after(look, wanted, waiting, doing), name=f"look at {wanted}")
            return True
        return False

    async def _release_after(
        self, look: Callable[[Input], Awaitable[None]], wanted: Input, waiting: _Waiting, doing: InProgress
    ) -> None:
        with doing.looking_up():
            await look(wanted)
            for release in reversed(waiting.pop(wanted)):
                release()

    async def _poll(self, wanted: Input) -> None:
        """Look at an input at growing intervals until it is no longer being created."""
        pause = self._least_pause
        while (status := self._known[wanted].status) in CREATING_STATUSES:
            await self._stop.pause(pause)
            if self._stop.requested:
                self.unfinished[str(wanted)] = status
                return
            pause = min(pause * 2, self._most_pause)
            await self._look(wanted)

    async def _look(self, wanted: Input) -> None:
        """Learn where an input stands. A look that fails for a while does not end a wait."""
        known, status, message = self._known.get(wanted, _Known()), "", ""
        try:
            resource = await self._reads.input(wanted)
            status, message = resource.status, resource.message
        except ReadError as exc:
            if known.status in CREATING_STATUSES and not (exc.is_forbidden or exc.is_not_found):
                status, message = known.status, known.message
            get_logger().info("input.unseen", input=str(wanted), reason=str(exc))
        if status not in {"", "ACTIVE", known.status}:
            get_logger().warning("input.not_ready", input=str(wanted), status=status)
        now, is_bad = self._clock.monotonic(), status in CREATING_STATUSES | _UNUSABLE
        if len(self._known) >= _MOST_KNOWN:
            self._known = {each: its for each, its in self._known.items() if its.until > now or each in self._aside}
        self._known[wanted] = _Known(status, message, now + (self._most_pause if is_bad else _BELIEVED_SECONDS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What was found: `problems` would make jobs fail, `untold` could not be checked, `warnings` may come true."""

    checked: int = 0
    problems: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    found: Mapping[Input, Resource] = field(default_factory=dict)

    @property
    def are_all_active(self) -> bool:
        """Whether every input was read, and is ready for use."""
        return self.checked == sum(each.status == "ACTIVE" for each in self.found.values())


async def check_inputs(reads: Reads, inputs: Iterable[Input], *, waits: bool = False) -> Readiness:
    """Read each input; `waits` where jobs wait for what is still being created.

    Raises StoppedError where no call can succeed.
    """
    wanted = sorted(set(inputs))[:MOST_CHECKED]
    turns = asyncio.Semaphore(_CHECKED_AT_ONCE)
    answers = await asyncio.gather(*(_read(reads, each, turns) for each in wanted))
    problems, untold, warnings, found = [], [], [], {}
    for each, answer in zip(wanted, answers, strict=True):
        match answer:
            case Resource(status=status):
                found[each] = answer
                if waits and status in CREATING_STATUSES:
                    warnings.append(f"{each} is {status}: its rows wait for it")
                elif status != "ACTIVE":
                    problems.append(f"{each} is {status}, not ACTIVE")
            case InvalidRequest():
                problems.append(f"{each}: {answer.code}: {answer.message}")
            case _:
                why = answer.reason if isinstance(answer, Uncertain) else getattr(answer, "code", answer)
                untold.append(f"{each} could not be checked: {why}")
    return Readiness(
        checked=len(wanted), problems=tuple(problems), untold=tuple(untold), warnings=tuple(warnings), found=found
    )


async def _read(reads: Reads, wanted: Input, turns: asyncio.Semaphore) -> Resource | Result:
    async with turns:
        try:
            return await reads.input(wanted)
        except ReadError as exc:
            answer = exc.outcome
    if isinstance(answer, NotSent | Forbidden):
        raise StoppedError(f"the service cannot be asked: {answer.code}: {answer.message}; nothing was sent")
    return answer


def warnings_of(
    found: Mapping[Input, Resource], rows: Mapping[Input, int], *, now: datetime, through_at: datetime | None
) -> Iterator[str]:
    """Say which channels go before their rows are through, and which budgets are smaller than the rows that want them.

    `rows` counts the rows to do by input; `through_at` is when the forecast says that all are done, None without one.
    """
    for each, resource in found.items():
        kept_until, wanting = resource.kept_until, rows.get(each, 0)
        if wanting and kept_until is not None and kept_until < (through_at or now):
            yield (
                f"{each}: its retentionInDays end at {utc_words(kept_until)}, and the {counted(wanting, 'row')} "
                f"that want it are expected to be through by {utc_words(through_at or now)}"
            )
    yield from _too_few(found, rows)


def _too_few(found: Mapping[Input, Resource], rows: Mapping[Input, int]) -> Iterator[str]:
    """Compare each table's access budget with the rows of all channels behind which it stands.

    That each job takes one access of each table is an assumption; AWS does not say what a job takes.
    """
    left: dict[str, int] = {}
    wanting: Counter[str] = Counter()
    channels: dict[str, list[str]] = {}
    for each, resource in found.items():
        for table, remaining in resource.budgets.items() if rows.get(each) else ():
            left[table] = min(remaining, left.get(table, remaining))
            wanting[table] += rows[each]
            channels.setdefault(table, []).append(each.arn)
    for table, remaining in left.items():
        if wanting[table] > remaining:
            yield (
                f"access budget of {table}: {remaining:,} left, and {counted(wanting[table], 'row')} want its data, "
                f"by channel {', '.join(channels[table])}"
            )
