"""Whether what the jobs need is there: their trained models ACTIVE, their ML input channels readable for long enough.

It only reads. Trouble that another call could not change either (no credentials) is raised, the rest is what is found.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from batchsubmit.cleanrooms.api import CREATING_STATUSES, Input, Resource, ResourcesApi
from batchsubmit.cleanrooms.reads import ReadError, Resources
from batchsubmit.config import RetrySettings
from batchsubmit.core.jobs import Forbidden, NotSent, Outcome, Rejected, Uncertain
from batchsubmit.errors import StoppedError
from batchsubmit.text import counted

MOST_CHECKED = 1_000
"""Models and channels that are read; a manifest with a channel a row has too many for a look before the run."""

_AT_ONCE = 8


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


class InputCheck:
    """Checks inputs, some at a time."""

    def __init__(
        self, api: ResourcesApi, settings: RetrySettings, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._resources = Resources(api, settings, sleep=sleep)
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def check(self, inputs: Iterable[Input], *, waits: bool = False) -> Readiness:
        """Read each; `waits` where jobs wait for what is still being created.

        Raises StoppedError where no call can succeed.
        """
        wanted = sorted(set(inputs))[:MOST_CHECKED]
        answers = await asyncio.gather(*map(self._read, wanted))
        problems, untold, warnings, found = [], [], [], {}
        for each, answer in zip(wanted, answers, strict=True):
            match answer:
                case Resource():
                    found[each] = answer
                    if waits and answer.status in CREATING_STATUSES:
                        warnings.append(f"{each} is {answer.status}: its rows wait for it")
                    elif answer.status != "ACTIVE":
                        problems.append(f"{each} is {answer.status}, not ACTIVE")
                case Rejected():
                    problems.append(f"{each}: {answer.code}: {answer.message}")
                case _:
                    untold.append(f"{each} could not be checked: {_why(answer)}")
        return Readiness(
            checked=len(wanted),
            problems=tuple(problems),
            untold=tuple(untold),
            warnings=tuple(warnings),
            found=found,
        )

    async def _read(self, wanted: Input) -> Resource | Outcome:
        async with self._turns:
            try:
                return await self._resources.get(wanted)
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
    yield from _too_short(found, rows, through_at or now)
    yield from _too_few(found, rows)


def _too_short(found: Mapping[Input, Resource], rows: Mapping[Input, int], through_at: datetime) -> Iterator[str]:
    for each, resource in found.items():
        kept_until, wanting = resource.kept_until, rows.get(each, 0)
        if wanting and kept_until is not None and kept_until < through_at:
            yield (
                f"{each}: its retentionInDays end at {_utc(kept_until)}, and the {counted(wanting, 'row')} "
                f"that want it are expected to be through by {_utc(through_at)}"
            )


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _too_few(found: Mapping[Input, Resource], rows: Mapping[Input, int]) -> Iterator[str]:
    """Compare each table's access budget with the rows of all channels behind which it stands.

    That each job takes one access of each table is an assumption; AWS does not say what a job takes.
    """
    left: dict[str, int] = {}
    wanting: Counter[str] = Counter()
    channels: dict[str, list[str]] = {}
    for each, resource in found.items():
        for table, remaining in resource.budgets.items():
            if rows.get(each):
                left[table] = min(remaining, left.get(table, remaining))
                wanting[table] += rows[each]
                channels.setdefault(table, []).append(each.arn)
    for table, remaining in left.items():
        if wanting[table] > remaining:
            yield (
                f"access budget of {table}: {remaining:,} left, and {counted(wanting[table], 'row')} want its data, "
                f"by channel {', '.join(channels[table])}"
            )


def _why(answer: Outcome) -> str:
    return answer.reason if isinstance(answer, Uncertain) else str(getattr(answer, "code", answer))
