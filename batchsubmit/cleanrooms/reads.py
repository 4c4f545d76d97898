"""Reads of the service that succeed or say why not: whole lists page by page, single jobs, trained models and channels.

What List and Get answer is untrusted input: throttled, empty in the middle, with a token that expires. Whoever needs
to know (`follow`, and the lookup of unknown jobs) gets a whole answer or a `ReadError`.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from batchsubmit.advice import forbidden_words
from batchsubmit.cleanrooms.api import Input, JobDetails, JobPage, JobsApi, JobSummary, Resource
from batchsubmit.config import RetrySettings
from batchsubmit.core.jobs import Accepted, Denied, Forbidden, InvalidRequest, NotSent, Result, Throttled, Uncertain
from batchsubmit.pacing import RateGate, retrying

_Answer = TypeVar("_Answer")

_LIST = "ListTrainedModelInferenceJobs"
_TRIES = 8
"""Reads cost nothing but time: tried more often than a Start, but not without end."""

_MOST_PAGES_IN_VAIN = 200
"""List may filter after it has cut pages, so that some are empty; one that goes on without end is broken."""


class ReadError(Exception):
    """The service did not tell, and trying on would not help. `outcome` is what it said instead."""

    def __init__(self, operation: str, outcome: Result) -> None:
        match outcome:
            case Denied() | Forbidden():
                words = forbidden_words(operation, outcome)
            case Uncertain(reason=said) | Accepted(arn=said):
                words = f"{operation}: {said}"
            case _:
                words = f"{operation}: {outcome.code}: {outcome.message}"
        super().__init__(words)
        self.outcome = outcome

    @property
    def is_forbidden(self) -> bool:
        """Whether the role may not make this call."""
        return isinstance(self.outcome, Denied | Forbidden)

    @property
    def is_not_found(self) -> bool:
        """Whether the service says that there is no such job."""
        return isinstance(self.outcome, InvalidRequest) and self.outcome.code == "ResourceNotFoundException"


class Reads:
    """Reads the service at a rate of its own, each read again where that may help."""

    def __init__(
        self, api: JobsApi, settings: RetrySettings, *, gate: RateGate, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._api = api
        self._gate = gate
        self._retrying = retrying(
            settings, sleep, on=(Throttled, Uncertain, NotSent), is_last=lambda state: state.attempt_number >= _TRIES
        )

    async def _read(
        self, operation: str, wanted: type[_Answer], call: Callable[[], Awaitable[_Answer | Result]]
    ) -> _Answer:
        """Make a call, again where that may help, until it brings what is wanted. Raises ReadError."""
        answer: _Answer | Result = await self._retrying(partial(self._paced, call))
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
            found = await self._all_pages(partial(self._api.list_page, membership, trained_model=trained_model))
            if found is not None:
                return list(found.values())
        raise ReadError(_LIST, Uncertain("its page tokens expire before they are used"))

    async def _all_pages(self, list_page: Callable[..., Awaitable[JobPage | Result]]) -> dict[str, JobSummary] | None:
        """Read page after page; None where a token expired: what was read may have moved. Raises ReadError."""
        found: dict[str, JobSummary] = {}
        token: str | None = None
        in_vain = 0
        while in_vain < _MOST_PAGES_IN_VAIN:
            try:
                page = await self._read(_LIST, JobPage, partial(list_page, token=token))
            except ReadError as exc:
                if token is not None and isinstance(exc.outcome, InvalidRequest):
                    return None
                raise
            known = len(found)
            found.update((job.arn, job) for job in page.jobs)
            in_vain = in_vain + 1 if len(found) == known else 0
            token = page.next_token
            if token is None:
                return found
            if self._gate.is_closed:
                raise ReadError(_LIST, Uncertain("the run is stopping"))
        raise ReadError(_LIST, Uncertain(f"it does not end: {in_vain} pages in a row had no new job"))

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
