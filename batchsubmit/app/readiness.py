"""Whether what the jobs need is there: their trained models ACTIVE, their ML input channels readable.

It only reads. Trouble that another call could not mend either (no credentials) is raised, the rest is what is found.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt
from tenacity import wait_random_exponential as full_jitter

from batchsubmit.cleanrooms import Resource, ResourcesApi
from batchsubmit.config import RetrySettings
from batchsubmit.errors import StoppedError
from batchsubmit.jobs import Forbidden, NotSent, Outcome, Rejected, Throttled, Uncertain

MOST_CHECKED = 1_000
"""Models and channels that are read; a manifest with a channel a row has too many for a look before the run."""

_AT_ONCE = 8


@dataclass(frozen=True, slots=True, order=True)
class Need:
    """A trained model or channel that rows name; `version` only of a model."""

    kind: str
    membership: str
    arn: str
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What was found: `problems` would make jobs fail, `untold` could not be checked."""

    checked: int = 0
    problems: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()


class Readier:
    """Checks needs, some at a time."""

    def __init__(
        self, api: ResourcesApi, settings: RetrySettings, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._api = api
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._retrying = AsyncRetrying(
            retry=retry_if_result(lambda answer: isinstance(answer, Throttled | Uncertain | NotSent)),
            wait=full_jitter(multiplier=settings.base_seconds, max=settings.cap_seconds),
            stop=stop_after_attempt(settings.max_attempts),
            sleep=sleep,
            retry_error_callback=_last_answer,
        )

    async def check(self, needs: Iterable[Need]) -> Readiness:
        """Read each. Raises StoppedError where no call can succeed."""
        wanted = sorted(set(needs))[:MOST_CHECKED]
        answers = await asyncio.gather(*map(self._read, wanted))
        problems, untold = [], []
        for need, answer in zip(wanted, answers, strict=True):
            match answer:
                case Resource(status="ACTIVE"):
                    continue
                case Resource():
                    problems.append(f"{need.kind} {need.arn} is {answer.status}, not ACTIVE")
                case Rejected():
                    problems.append(f"{need.kind} {need.arn}: {answer.code}: {answer.message}")
                case _:
                    untold.append(f"{need.kind} {need.arn} could not be checked: {_why(answer)}")
        return Readiness(checked=len(wanted), problems=tuple(problems), untold=tuple(untold))

    async def _read(self, need: Need) -> Resource | Outcome:
        if need.kind == "channel":
            call = partial(self._api.channel, need.membership, need.arn)
        else:
            call = partial(self._api.model, need.membership, need.arn, need.version or None)
        async with self._turns:
            answer: Resource | Outcome = await self._retrying(call)
        if isinstance(answer, NotSent | Forbidden):
            raise StoppedError(f"the service cannot be asked: {answer.code}: {answer.message}; nothing was sent")
        return answer


def _why(answer: Outcome) -> str:
    return answer.reason if isinstance(answer, Uncertain) else str(getattr(answer, "code", answer))


def _last_answer(state: RetryCallState) -> object:
    return state.outcome.result() if state.outcome else None
