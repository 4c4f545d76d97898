"""Reads of the service that succeed or say why not: whole lists page by page, single jobs, trained models and channels.

What List and Get answer is untrusted input: throttled, empty in the middle, with a token that expires. Whoever needs
to know (`follow`, and the lookup of unknown jobs) gets a whole answer or a `ReadError`.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_result, stop_after_attempt
from tenacity import wait_random_exponential as full_jitter

from batchsubmit.advice import forbidden_words
from batchsubmit.cleanrooms.api import Input, JobDetails, JobPage, JobsApi, JobSummary, Resource
from batchsubmit.config import RetrySettings
from batchsubmit.core.jobs import Accepted, Denied, Forbidden, InvalidRequest, NotSent, Outcome, Throttled, Uncertain
from batchsubmit.pacing import RateGate, last_result

_Answer = TypeVar("_Answer")

_TRIES = 8
"""Reads cost nothing but time: tried more often than a Start, but not without end."""


_MOST_PAGES_IN_VAIN = 200
"""List may filter after it has cut pages, so that some are empty; one that goes on without end is broken."""


class ReadError(Exception):
    """The service did not tell, and trying on would not help. `outcome` is what it said instead."""

    def __init__(self, operation: str, outcome: Outcome) -> None:
        super().__init__(_words(operation, outcome))
        self.operation = operation
        self.outcome = outcome

    @property
    def is_forbidden(self) -> bool:
        """Whether the role may not make this call."""
        return isinstance(self.outcome, Denied | Forbidden)

    @property
    def is_not_found(self) -> bool:
        """Whether the service says that there is no such job."""
        return isinstance(self.outcome, InvalidRequest) and self.outcome.code == "ResourceNotFoundException"


def _words(operation: str, outcome: Outcome) -> str:
    match outcome:
        case Denied() | Forbidden():
            return forbidden_words(operation, outcome)
        case Uncertain():
            return f"{operation}: {outcome.reason}"
        case Accepted():
            return f"{operation}: {outcome.arn}"
    return f"{operation}: {outcome.code}: {outcome.message}"


class Reads:
    """Reads the service at a rate of its own, each read again where that may help."""

    def __init__(
        self, api: JobsApi, settings: RetrySettings, *, gate: RateGate, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._api = api
        self._gate = gate
        self._retrying = AsyncRetrying(
            retry=retry_if_result(lambda answer: isinstance(answer, Throttled | Uncertain | NotSent)),
            wait=full_jitter(multiplier=settings.base_seconds, max=settings.cap_seconds),
            stop=stop_after_attempt(_TRIES),
            sleep=sleep,
            retry_error_callback=last_result,
        )

    async def _read(
        self, operation: str, wanted: type[_Answer], call: Callable[[], Awaitable[_Answer | Outcome]]
    ) -> _Answer:
        """Make a call, again where that may help, until it brings what is wanted. Raises ReadError."""
        answer: _Answer | Outcome = await self._retrying(partial(self._paced, call))
        if isinstance(answer, wanted):
            return answer
        raise ReadError(operation, answer)  # type: ignore[arg-type] # (what is not wanted is an outcome)

    async def _paced(self, read: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Make one call at the rate of reads, which throttling of reads slows down; Start calls have their own."""
        await self._gate.admit()
        sent_at = self._gate.monotonic()
        answer = await read()
        self._gate.answered(answer, sent_at=sent_at)
        return answer

    async def jobs(self, membership: str, *, trained_model: str | None = None) -> list[JobSummary]:
        """Read all jobs of a membership, each once. Raises ReadError."""
        for _ in range(_TRIES):
            found = await self._all_pages(membership, trained_model)
            if found is not None:
                return list(found.values())
        raise _unlisted("its page tokens expire before they are used")

    async def _all_pages(self, membership: str, trained_model: str | None) -> dict[str, JobSummary] | None:
        """Read page after page; None where a token expired: what was read may have moved. Raises ReadError."""
        found: dict[str, JobSummary] = {}
        tokens: set[str] = set()
        token: str | None = None
        in_vain = 0
        while page := await self._page(membership, trained_model, token):
            known = len(found)
            found.update((job.arn, job) for job in page.jobs)
            token = page.next_token
            if token is None:
                return found
            in_vain = in_vain + 1 if len(found) == known else 0
            if self._gate.is_closed:
                raise _unlisted("the run is stopping")
            if token in tokens or in_vain == _MOST_PAGES_IN_VAIN:
                why = "it repeats a page's token" if token in tokens else f"{in_vain} pages in a row had no new job"
                raise _unlisted(f"it does not end: {why}")
            tokens.add(token)
        return None

    async def _page(self, membership: str, trained_model: str | None, token: str | None) -> JobPage | None:
        call = partial(self._api.list_page, membership, trained_model=trained_model, token=token)
        try:
            return await self._read("ListTrainedModelInferenceJobs", JobPage, call)
        except ReadError as exc:
            if token is not None and isinstance(exc.outcome, InvalidRequest):
                return None
            raise

    async def details(self, membership: str, arn: str) -> JobDetails:
        """Read all about one job. Raises ReadError."""
        return await self._read("GetTrainedModelInferenceJob", JobDetails, partial(self._api.get, membership, arn))

    async def find(self, membership: str, arn: str) -> JobDetails | None:
        """Read all about one job; None where the service has no such job. Raises ReadError."""
        try:
            return await self.details(membership, arn)
        except ReadError as exc:
            if exc.is_not_found:
                return None
            raise

    async def input(self, wanted: Input) -> Resource:
        """Read a trained model or a channel. Raises ReadError."""
        operation = "GetMLInputChannel" if wanted.kind == "channel" else "GetTrainedModel"
        return await self._read(operation, Resource, partial(self._api.input, wanted))


def _unlisted(reason: str) -> ReadError:
    return ReadError("ListTrainedModelInferenceJobs", Uncertain(reason))
